"""status: why did it scale, why does it not, for people, scripts and Prometheus."""

import fcntl
import json
import os
import pty
import re
import signal
import struct
import subprocess
import termios

import pyte
import pytest
from cli import environment, refusal, run
from lab import missing, wait_until
from peers import SECRET, Master
from prometheus_client.parser import text_string_to_metric_families
from site_lab import Site

needs = pytest.mark.skipif(missing("sshd", "haproxy") is not None, reason=str(missing("sshd", "haproxy")))


class Watched:
    """A master, and `autoscaler status` of a machine that reaches it."""

    def __init__(self, cli, master):
        self.cli, self.master = cli, master
        cli.write(f"[master]\ntunnel_ports = {master.port}\n[cluster]\nsecret = {SECRET}\n")

    def text(self):
        """What a person sees, and a pipe."""
        return self.cli("status")

    def json(self):
        """The one master of --json."""
        [master] = json.loads(self.cli("status", "--json"))["masters"]
        return master

    def metrics(self):
        """{name: {labels without the master: value}}; a parser of Prometheus' own has read it."""
        found = {}
        for family in text_string_to_metric_families(self.cli("status", "--prometheus")):
            assert family.documentation and family.type in ("gauge", "counter"), family
            for sample in family.samples:
                labels = dict(sample.labels)
                assert labels.pop("master") == os.uname().nodename
                key = tuple(sorted(labels.items()))
                assert key not in found.setdefault(sample.name, {}), f"{sample} twice"
                found[sample.name][key] = sample.value
        return found

    def decisions(self):
        """Newest first: (node, request, times, outcome, text)."""
        return [tuple(each[key] for key in ("node", "request", "times", "outcome", "text"))
                for each in self.json()["decisions"]]


def test_the_master_of_the_ini_that_was_named_is_asked(cli, binary, tmp_path):
    """Two INIs on one host, with one secret: both masters have the host's name."""
    with Master(binary, tmp_path / "a") as a, Master(binary, tmp_path / "b") as b:
        for master, node in ((a, "of-a"), (b, "of-b")):
            peer = master.node(node)
            peer.send("LOAD 5")
            peer.expect_nothing()
        for own, node in ((a, "of-a"), (b, "of-b")):
            cli.write(f"[master]\nlisten = 127.0.0.1:{own.port}\ntunnel_ports = {a.port}\n"
                      f"[cluster]\nsecret = {SECRET}\n")
            [master] = json.loads(cli("status", "--json"))["masters"]
            assert [each["name"] for each in master["nodes"]] == [node]


@pytest.fixture
def start(cli, binary, tmp_path, request):
    """A function that starts a master with settings; the Watched."""
    def begin(**settings):
        master = Master(binary, tmp_path / "m", **{"lease": "30s", **settings})
        request.addfinalizer(lambda: master.__exit__(None, None, None))
        master.start()
        return Watched(cli, master)

    return begin


def test_one_look_while_nobody_scales(start):
    watched = start(max_hosts=3)
    assert "none reports; does autoscaler daemon run" in watched.text()
    for name, load in (("app1", 92), ("app2", 14)):
        watched.master.node(name).ask(f"LOAD {load}\nPING")
    text = watched.text()
    assert text.startswith(f"master {os.uname().nodename}  (")
    assert "2, of which 1 at or over the threshold of 50%" in text
    assert re.search(r"^    app1 +92% +\d s ago$", text, re.M) and re.search(r"^    app2 +14% +\d s ago$", text, re.M)
    assert "nobody has it" in text and "\n  cooldown    none\n" in text and "scale-up    would be granted" in text
    assert "\x1b" not in text and "█" not in text  # no terminal
    told = watched.json()
    assert [(node["name"], node["cpu_percent"]) for node in told["nodes"]] == [("app1", 92), ("app2", 14)]
    assert (told["lease"], told["cooldown"], told["decisions"]) == (None, None, [])
    assert told["may"][0] == {"request": "SCALE", "answer": "yes", "seconds_left": 0}


def test_why_did_it_scale_and_why_does_it_not(start):
    watched = start(cooldown="100s", max_hosts=3)
    master = watched.master
    a, b = master.node("app1"), master.node("app2")
    a.ask("LOAD 92\nPING")
    lease = a.ask("SCALE").split()[1]
    assert b.line() == "SCALE app1" and b.ask("SCALE").startswith("WAIT holder ")
    assert re.search(r"lease +app1 has it for \d s, to add a machine; \d+ s left", watched.text())
    assert "scale-up    no: holder, app1 has the lease" in watched.text()
    held = watched.json()["lease"]
    assert (held["node"], held["request"]) == ("app1", "SCALE") and 20 < held["seconds_left"] <= 30
    a.send(f"FINISH {lease} ok i-0abc is in \"HAProxy\"")
    assert b.line() == "FINISH app1"
    for _ in range(3):
        assert b.ask("SCALE").startswith("WAIT cooldown ")
    assert re.search(r"cooldown +1 min 40 s left|cooldown +\d+ s left", watched.text())
    assert "scale-up    no: cooldown, " in watched.text()
    first, *others = watched.decisions()
    assert first[:4] == ("app2", "SCALE", 3, "refused") and first[4].startswith("cooldown, ")
    assert others == [("app1", "SCALE", 1, "ok", 'i-0abc is in "HAProxy"'),
                      ("app2", "SCALE", 1, "refused", "holder, app1 has the lease")]
    assert watched.json()["decisions"][1]["cpu_percent"] == 92
    assert re.search(r'ago +app1 at 92%: scale-up done in \d s: i-0abc is in "HAProxy"\n', watched.text())
    assert "(3 times)" in watched.text()


def test_full_starting_and_failures_are_told(start):
    watched = start(cooldown="0s", max_hosts=1)
    master = watched.master
    (master.hosts / "app1").write_text("10.255.0.1 80 -\n")
    a = master.node("app1")
    wait_until(lambda: watched.json()["may"][0]["answer"] == "full", 10, "hosts.d has been looked at")
    assert "scale-up    no: full, 1 entries in hosts.d, max_hosts is 1" in watched.text()
    assert a.ask("SCALE").startswith("WAIT full ")
    (master.hosts / "app1").unlink()
    wait_until(lambda: watched.json()["may"][0]["answer"] == "yes", 10, "it is gone again")
    for text in ("EC2: no capacity", "EC2: no capacity", "not now: master lb2: cooldown, 9 s left"):
        a.send(f"FINISH {a.ask('SCALE').split()[1]} failed {text}")
        a.expect_nothing()
    assert [each[2:4] for each in watched.decisions()] == [(1, "returned"), (2, "failed"), (1, "refused")]
    assert "failed after 0 s: EC2: no capacity (2 times)" in watched.text()
    master.restart()
    assert re.search(r"scale-up    no: starting, \d+ s more", watched.text())


def test_decisions_outlive_the_master_and_are_bounded(start):
    watched = start(cooldown="0s")
    a = watched.master.node("app1")
    for number in range(15):
        a.ask(f"LOAD {number}\nPING")
        a.send(f"FINISH {a.ask('SCALE').split()[1]} ok number {number}")
        a.expect_nothing()
    before = watched.decisions()
    assert [each[4] for each in before] == [f"number {number}" for number in range(14, 4, -1)]
    held = a.ask("SCALE").split()[1]
    watched.master.restart()
    assert watched.decisions()[1:] == before[:9]
    # The holder comes back, and its end belongs to the same decision.
    a = watched.master.node("app1")
    assert a.ask(f"HOLD {held}").startswith("GRANT ")
    a.send(f"FINISH {held} ok after all")
    a.expect_nothing()
    assert watched.decisions()[0] == ("app1", "SCALE", 1, "ok", "after all")
    assert len((watched.master.dir / "state/master").read_text().splitlines()) < 20


def test_a_lease_that_runs_out_is_told(start):
    watched = start(lease="1s")
    peer = watched.master.node("app1")
    assert peer.ask("SCALE").startswith("GRANT ")
    peer.close()
    wait_until(lambda: watched.decisions()[0][3] == "expired", 10, "the lease runs out")
    assert "app1: scale-up no end of it after 1 s" in watched.text()


def test_metrics(start):
    watched = start(cooldown="100s")
    (watched.master.hosts / "app1").write_text("10.255.0.1 80 -\n")
    a, odd = watched.master.node("app1"), watched.master.node('o"\\dd')
    odd.ask("LOAD 7\nPING")
    a.ask("LOAD 25\nPING")
    lease = a.ask("SCALE").split()[1]
    metrics = watched.metrics()
    assert metrics["autoscaler_lease_held"] == {(): 1} and metrics["autoscaler_cooldown_seconds"] == {(): 0}
    a.send(f"FINISH {lease} ok")
    a.expect_nothing()
    assert a.ask("SCALE").startswith("WAIT cooldown ")
    wait_until(lambda: watched.metrics()["autoscaler_hosts"] == {(): 1}, 10, "hosts.d has been looked at")
    metrics = watched.metrics()
    assert metrics["autoscaler_node_cpu_ratio"] == {(("node", "app1"),): 0.25, (("node", 'o"\\dd'),): 0.07}
    assert metrics["autoscaler_lease_held"] == {(): 0} and 90 < metrics["autoscaler_cooldown_seconds"][()] <= 100
    assert metrics["autoscaler_epoch"] == {(): 1}
    decided = metrics["autoscaler_decisions_total"]
    assert decided[("outcome", "ok"), ("request", "SCALE")] == decided[("outcome", "refused"), ("request", "SCALE")] == 1
    assert metrics["autoscaler_scaling_allowed"][("request", "SCALE"),] == 0
    assert metrics["autoscaler_tunnel_up"] == {(("host", "app1"),): 0}
    assert metrics["autoscaler_haproxy_up"] == {(): 0}


@pytest.mark.parametrize("options", [["--json", "--watch"], ["--json", "--prometheus"], ["--watch", "--prometheus"]])
def test_one_form_at_a_time(cli, options):
    assert "exclude each other" in cli.refused(64, "status", *options)


@pytest.mark.parametrize("options", [[], ["--json"], ["--prometheus"], ["--watch"]], ids=str)
def test_no_master_is_an_error(cli, options):
    cli.write("[master]\ntunnel_ports = 9\n")
    assert cli.refused(69, "status", *options).startswith("127.0.0.1:9: no master answers here")


def test_a_master_that_knows_no_report(cli):
    """By hand, with STATUS alone as the protocol has it."""
    import socket
    import threading
    from peers import Peer
    with socket.create_server(("127.0.0.1", 0)) as server:
        cli.write(f"[master]\ntunnel_ports = {server.getsockname()[1]}\n")

        def serve():
            peer = Peer(server.accept()[0])
            assert peer.line().startswith("HELLO 1 ")
            assert peer.ask("WELCOME old") == "STATUS"
            peer.send("NODE app1 42 1", "LEASE app1 9", "COOLDOWN 5", "END")
            assert peer.line() == "REPORT"
            peer.send("ERROR unknown verb `REPORT`")
            peer.line()

        thread = threading.Thread(target=serve, daemon=True)
        thread.start()
        text = cli("status")
        thread.join(10)
    assert text.startswith("master old\n") and "app1 has it; 9 s left" in text and "5 s left" in text and "42%" in text


# --watch

class Terminal:
    """`status --watch` on a terminal of its own."""

    def __init__(self, cli, columns, rows, **env):
        self.screen = pyte.Screen(columns, rows)
        self._stream = pyte.ByteStream(self.screen)
        self._master, slave = pty.openpty()
        fcntl.ioctl(slave, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))
        self.before, self.raw = termios.tcgetattr(slave), b""

        def own():
            os.setsid()
            fcntl.ioctl(0, termios.TIOCSCTTY, 0)

        self.process = subprocess.Popen(cli.argv("status", "--watch"), stdin=slave, stdout=slave, stderr=slave,
                                        env=environment(TERM="xterm", **env), preexec_fn=own)
        os.close(slave)
        os.set_blocking(self._master, False)

    def read(self):
        try:
            while data := os.read(self._master, 65536):
                self.raw += data
                self._stream.feed(data)
        except (BlockingIOError, OSError):
            pass
        return "\n".join(self.screen.display)

    def interrupt(self):
        """Ctrl-C; the exit status."""
        os.write(self._master, b"\x03")
        return self.process.wait(10)

    def settings(self):
        return termios.tcgetattr(self._master)


def test_watch_draws_bars_and_a_history_and_ends_cleanly(start):
    watched = start()
    node = watched.master.node("app1")
    node.ask("LOAD 50\nPING")
    terminal = Terminal(watched.cli, 80, 24)
    wait_until(lambda: "app1   50%  ██████████░░░░░░░░░░  " in terminal.read(), 10, "the first look")
    node.ask("LOAD 100\nPING")
    wait_until(lambda: re.search("app1  100%  █{20}  ▅+█", terminal.read()), 10, "the next one, with its history")
    assert terminal.read().startswith("master ")
    # In the place of the last one.
    assert terminal.read().count("app1") == 1
    assert b"\x1b[31m" in terminal.raw  # over the threshold
    assert terminal.interrupt() == -signal.SIGINT
    terminal.read()
    assert terminal.settings() == terminal.before
    hidden, alternate = b"\x1b[?25l", b"\x1b[?1049h"
    assert hidden not in terminal.raw and alternate not in terminal.raw
    assert terminal.screen.cursor.y > 0 and not terminal.screen.cursor.hidden


def test_watch_on_a_small_terminal_without_colours(start):
    watched = start()
    for number in range(30):
        watched.master.node(f"application-server-{number:02}").ask("LOAD 99\nPING")
    terminal = Terminal(watched.cli, 30, 10, NO_COLOR="1", LANG="C")
    wait_until(lambda: "more" in terminal.read(), 10, "it says that there is more")
    lines = terminal.read().splitlines()
    assert lines[0].startswith("master ") and terminal.screen.cursor.y == 9
    assert re.search(rb"\x1b\[\d+m", terminal.raw) is None
    assert sum("99%" in line for line in lines) >= 5
    assert terminal.interrupt() == -signal.SIGINT


def test_watch_without_a_terminal_prints_again_and_again(start):
    watched = start()
    watched.master.node("app1").ask("LOAD 50\nPING")
    with subprocess.Popen(watched.cli.argv("status", "--watch"), env=environment(), stdout=subprocess.PIPE,
                          text=True) as process:
        looks = 0
        for line in process.stdout:
            assert "\x1b" not in line
            looks += line.startswith("master ")
            if looks == 3:
                break
        process.stdout.close()  # its reader goes away
        assert process.wait(10) == 0


# On a whole site

@needs
def test_tunnels_and_membership_of_a_site(tmp_path, binary):
    with Site(tmp_path, binary, balancers=2, apps=2) as site:
        site.start()
        (lb1, lb2), (app1, app2) = site.balancers, site.apps

        def told(name):
            masters = json.loads(app1.run(["autoscaler", "status", "--json"]).stdout)["masters"]
            [master] = [each for each in masters if each["name"] == name]
            return master

        def servers(name):
            return {each["name"]: each["state"] for each in told(name)["servers"]}

        for name in ("lb1", "lb2"):
            wait_until(lambda name=name: {each["state"] for each in told(name)["tunnels"]} == {"up"}, 20, "tunnels are up")
            wait_until(lambda name=name: servers(name) == {"app1": "UP", "app2": "UP"}, 20, "both serve")
            assert told(name)["haproxy"]["state"] == "up"
        # An entry that HAProxy has not been told of, and one that it still has.
        lb1.run(["autoscaler", "add-host", "10.77.0.250", "80", "--name", "new"])
        lb1.path("/etc/autoscaler/hosts.d/app2").rename(lb1.path("/etc/autoscaler/moved"))
        wait_until(lambda: servers("lb1") == {"app1": "UP", "app2": "extra", "new": "missing"}, 20, "the difference")
        assert servers("lb2") == {"app1": "UP", "app2": "UP"}
        text = app1.run(["autoscaler", "status"]).stdout
        assert re.search("new +10.77.0.250:80 +missing; run: autoscaler generate", text), text
        # The last error of a tunnel.
        lb1.run(["autoscaler", "add-host", "10.77.0.251", "80", "--name", "gone"])
        wait_until(lambda: [each for each in told("lb1")["tunnels"] if each["name"] == "gone" and each["state"] == "down"
                            and each["error"].startswith("ssh: ")], 30, "its tunnel can't come up")
        site.haproxies["lb2"].process.kill()
        wait_until(lambda: told("lb2")["haproxy"]["state"] == "down", 10, "HAProxy is gone")
        assert told("lb2")["haproxy"]["error"]
        metrics = app1.run(["autoscaler", "status", "--prometheus"]).stdout
        assert 'autoscaler_haproxy_up{master="lb2"} 0\n' in metrics
        assert 'autoscaler_haproxy_server_missing{master="lb1",server="new"} 1\n' in metrics
        assert list(text_string_to_metric_families(metrics))
