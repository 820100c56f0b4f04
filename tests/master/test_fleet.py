"""What a master makes of its HAProxy host: entries, servers of a real HAProxy, and an INI that changes."""

import contextlib
import re
import socket
import threading
import time

from balancer import Balancer, needs_haproxy, report, settle, settled
from lab import wait_until
from peers import SECRET, Master

@needs_haproxy
def test_a_machine_that_haproxy_has_down_counts_for_nothing(binary, tmp_path):
    with Balancer(binary, tmp_path, ["i-1", "i-2", "i-3"], cooldown="2s", scale_down_cooldown="0", threshold=50) as site:
        a, b, c = (site.master.node(f"web{n}/i-{n}") for n in (1, 2, 3))
        report((a, 100), (b, 60), (c, 60))
        assert settle(b, "SCALE") == "2"  # three at 73%
        site.fall("i-1")
        b.hear("FLEET 3 2", 3)
        # One is to look, and not the one who is DOWN.
        assert [("LOOK" in settled(peer)) for peer in (a, b, c)] in ([False, True, False], [False, False, True])
        assert settle(b, "SCALE") == "booting"  # two at 60% lack one, and the third may just be starting again
        report((b, 80), (c, 80))
        assert settle(b, "SCALE") == "1"
        settled(a)
        assert settle(a, "SCALE") == "failing" and settle(a, "SCALE 1") == "1"
        # Two are UP: one may leave. One is UP: it stays, whatever the others report.
        report((b, 0), (c, 0))
        site.command("disable server servers/app-i-3")
        c.hear("FLEET 3 1", 3)
        for line in ("RETIRE", "RETIRE force"):
            assert settle(b, line) == "few"
        # It comes back to serve: new windows, and the cooldown.
        site.command("enable server servers/app-i-3")
        c.hear("FLEET 3 2", 3)
        assert settle(b, "SCALE") == "cooldown"
        site.listen("i-1")
        c.hear("FLEET 3 3", 3)


@needs_haproxy
def test_an_entry_that_haproxy_does_not_have_yet_is_entered_and_does_not_serve(binary, tmp_path):
    with Balancer(binary, tmp_path, ["i-1"], cooldown="0", max_hosts=9) as site:
        a = site.master.node("web1/i-1")
        report((a, 100))
        assert "FLEET 1 1" in a.told
        a.send(f"FINISH {a.ask('SCALE').split()[1]} ok 1")
        assert settle(a, "SCALE") == "1"  # two are missing, one boots
        site.listen("i-2")
        site.enter("i-2")
        a.hear("FLEET 2 1", 3)
        assert settle(a, "SCALE") == "1"  # entered, and on its way until it serves
        site.stop_haproxy()
        site.start_haproxy()
        a.hear("FLEET 2 2", 5)


@needs_haproxy
def test_a_haproxy_that_falls_silent_takes_nothing_back_at_once(binary, tmp_path):
    with Balancer(binary, tmp_path, ["i-1", "i-2"]) as site:
        a = site.master.node("web1/i-1")
        site.fall("i-2")
        a.hear("FLEET 2 1", 3)
        site.stop_haproxy()
        begin = time.monotonic()
        a.send("LOAD 1")
        while "FLEET 2 2" not in a.told:  # nobody can say any more
            time.sleep(1)
            a.send("LOAD 1")
            a.expect_nothing()
            assert time.monotonic() - begin < 20
        assert time.monotonic() - begin > 8
        assert a.status()["COOLDOWN"] == []  # which is nobody's coming to serve


def test_a_haproxy_that_hangs_holds_nothing_up(binary, tmp_path):
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(tmp_path / "admin"))
        listener.listen(50)
        with Master(binary, tmp_path / "m", haproxy={"socket": tmp_path / "admin"}) as master:
            (master.dir / "haproxy.cfg").write_text("backend servers\n    $SERVERS\n")
            a = master.node("a")
            (master.hosts / "app1").write_text("127.0.0.1 80 -\n")
            a.hear("FLEET 1 1", 3)
            end = time.monotonic() + 3
            while time.monotonic() < end:
                assert a.ask("PING", timeout=0.5) == "PONG"
                time.sleep(0.05)


# The INI

def test_a_changed_file_is_taken_between_leases_and_a_wrong_one_is_not(binary, tmp_path):
    with Master(binary, tmp_path / "m", lease="30s", threshold=50, cooldown="40s") as master:
        a = master.node("a")
        a.expect_nothing()
        assert a.told[:3] == ["SET threshold 50", "SET cooldown 40s", "SET"]
        text = master.ini.read_text()

        def change(old, new):
            nonlocal text
            assert old in text
            text = text.replace(old, new)
            a.told.clear()
            master.write(text)

        change("threshold = 50", "threshold = 60 %\nmin_hosts = 2\nwindow = 5s")
        a.hear("SET", 4)
        assert settle_told(a) == []
        late = master.node("late")
        late.expect_nothing()
        assert late.told[:5] == ["SET threshold 60%", "SET cooldown 40s", "SET min_hosts 2", "SET", "FLEET 0 0"]
        assert "threshold = 60 %" in master.log.read_text()
        assert settle(a, "SCALE") == "2"  # min_hosts
        # A wrong one is named, and the settings stay.
        change("threshold = 60 %", "threshold = 600")
        wait_until(lambda: re.search(r"autoscaler.ini:\d+: threshold: .*the settings stay as they were", master.log.read_text()),
                   5, "the log names it")
        a.expect_nothing()
        assert a.told == []
        # While somebody holds the lease, nothing changes.
        lease = a.ask("SCALE").split()[1]
        change("threshold = 600", "threshold = 70\nmax_step = 1")
        for _ in range(25):
            a.send("LOAD 1")
            a.expect_nothing()
            time.sleep(0.1)
        assert a.told == []
        a.send(f"FINISH {lease} failed 0 not now: that was all")
        a.hear("SET max_step 1", 3)
        wait_until(lambda: settle(a, "SCALE") == "1", 3, "max_step holds")
        # What waits for the next start is said.
        change("[master]", f"[master]\ntunnel_ports = 6000-6001")
        wait_until(lambda: "tunnel_ports waits for the next start" in master.log.read_text(), 5, "the log says so")
        assert master.log.read_text().count("autoscaler.ini has changed") == 3


def settle_told(peer):
    peer.expect_nothing()
    return [line for line in peer.told if not line.startswith("SET")]


def test_a_secret_is_replaced_by_way_of_two(binary, tmp_path):
    new = "n" * 32
    with Master(binary, tmp_path / "m") as master:
        stays = master.connect()
        stays.greet("a")

        def change(secret):
            master.write(re.sub("secret = .*", f"secret = {secret}", master.ini.read_text()))

        def is_in(secret):
            with contextlib.suppress(ValueError, AssertionError, ConnectionResetError):
                return bool(master.connect().greet("b", secret))

        change(f"{new} {SECRET}")
        wait_until(lambda: is_in(new), 5, "the new one is taken")
        assert is_in(SECRET)
        change(new)
        wait_until(lambda: not is_in(SECRET), 5, "the old one is not any more")
        assert is_in(new)
        stays.expect_nothing()
        assert SECRET not in master.log.read_text() and new not in master.log.read_text()


def test_two_hundred_nodes_hear_of_two_hundred_entries_in_time(binary, tmp_path):
    with Master(binary, tmp_path / "m", haproxy={"ssh_command": "/bin/true"}) as master:
        peers = [master.node(f"web{n}/i-{n}") for n in range(200)]
        for number in range(200):
            (master.hosts / f"app{number}").write_text(f"127.0.0.1 {8000 + number} i-{number}\n")
        told = threading.Event()

        def hear():
            for peer in peers:
                peer.hear("FLEET 200 200", 10)
            told.set()
        threading.Thread(target=hear, daemon=True).start()
        assert told.wait(12)
