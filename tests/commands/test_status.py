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
from cli import environment, run
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
                assert sample.name == "autoscaler_masters" or labels.pop("master") == os.uname().nodename
                key = tuple(sorted(labels.items()))
                assert key not in found.setdefault(sample.name, {}), f"{sample} twice"
                found[sample.name][key] = sample.value
        return found

    def decisions(self):
        """Newest first: (node, request, times, outcome, text)."""
        return [tuple(each[key] for key in ("node", "request", "times", "outcome", "text"))
                for each in self.json()["decisions"]]


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
    assert re.search("app1 at 92%: scale-up granted, and under way: ", watched.text())
    a.send(f"FINISH {lease} ok 1 i-0abc is in \"HAProxy\"")
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
    a.ask("LOAD 99\nPING")
    wait_until(lambda: watched.json()["may"][0]["answer"] == "full", 10, "hosts.d has been looked at")
    assert "scale-up    no: full, 1 entries in hosts.d, max_hosts is 1" in watched.text()
    assert a.ask("SCALE").startswith("WAIT full ")
    (master.hosts / "app1").unlink()
    wait_until(lambda: watched.json()["may"][0]["answer"] == "yes", 10, "it is gone again")
    for text in ("EC2: no capacity", "EC2: no capacity", "not now: master lb2: cooldown, 9 s left"):
        a.send(f"FINISH {a.ask('SCALE').split()[1]} failed 0 {text}")
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
        a.send(f"FINISH {a.ask('SCALE').split()[1]} ok 0 number {number}")
        a.expect_nothing()
    before = watched.decisions()
    assert [each[4] for each in before] == [f"number {number}" for number in range(14, 4, -1)]
    held = a.ask("SCALE").split()[1]
    watched.master.restart()
    assert watched.decisions()[1:] == before[:9]
    # The holder comes back, and its end belongs to the same decision.
    a = watched.master.node("app1")
    assert a.ask(f"HOLD {held}").startswith("GRANT ")
    a.send(f"FINISH {held} ok 1 after all")
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


def test_what_is_missing_and_what_is_in_the_way(start):
    watched = start(cooldown="0s", max_hosts=3, threshold="60%")
    master = watched.master
    for number in (1, 2):
        (master.hosts / f"app{number}").write_text(f"10.255.0.{number} 80 i-{number}\n")
    a, b = master.node("web/i-1"), master.node("web/i-2")
    a.hear("FLEET 2 2")
    for peer in (a, b):
        peer.send("LOAD 100", "PING")
        peer.lines_until("PONG")
    told = watched.json()
    assert told["need"] == {"missing": 2, "estimate": "loads", "text": "2 serve at 100%, threshold 60%: the loads call for 4"}
    assert {each["name"]: (each["instance"], each["node"]) for each in told["entries"]} == {
        "app1": ("i-1", "web/i-1"), "app2": ("i-2", "web/i-2")}
    assert [each["node"] for each in told["doubles"]] == ["web/i-1", "web/i-2"]
    assert "web/i-1: double: web/i-2 has the same host name" in master.log.read_text() or \
        "web/i-2: double: web/i-1 has the same host name" in master.log.read_text()
    ini = master.ini.with_name("check.ini")
    ini.write_text(master.ini.read_text().replace("[haproxy]\n", f"[haproxy]\nconfig = {master.dir}/haproxy.cfg\n"))
    ini.chmod(0o600)
    checked = run([str(master.binary), "-c", str(ini), "check"]).stdout
    assert re.search(r"warn .*: web/i-1: web/i-2 has the same host name; they count as two; give each", checked), checked
    a.send(f"FINISH {a.ask('SCALE').split()[1]} ok 1")
    assert b.lines_until("FINISH web/i-1") == ["SCALE web/i-1"]
    assert a.ask("SCALE").startswith("WAIT full ")
    a.send("FAILED 1 it never answered", "FAILED 1 nor did this")
    a.expect_nothing()
    text = watched.text()
    for words in ("  entries     2, of which 2 serve\n", "  need        2 missing by loads: ", "  blocked     for ",
                  "  back-off    scale-up: 2 failures in a row, ", "  double      web/i-1: ", "  settings    threshold = 60%, ",
                  "app1  10.255.0.1  down for "):
        assert words in text, (words, text)
    assert re.search(r"app1  10\.255\.0\.1  \w+ for \d+ s, node web/i-1", text), text
    metrics = watched.metrics()
    for name, value in (("serving", 2), ("down", 0), ("booting", 0), ("missing", 2)):
        assert metrics[f"autoscaler_hosts_{name}"] == {(): value}
    assert metrics["autoscaler_setting"][("key", "threshold"),] == 60
    assert metrics["autoscaler_setting"][("key", "scale_down_window"),] == 180
    assert metrics["autoscaler_machines_launched_total"] == {(): 1}
    assert metrics["autoscaler_machines_failed_total"] == {(): 2}
    assert metrics["autoscaler_refusals_total"][("reason", "full"), ("request", "SCALE")] == 1
    assert metrics["autoscaler_failures_in_a_row"] == {(("request", "SCALE"),): 2}
    assert metrics["autoscaler_last_scale_up_seconds"] == {(("step", "launch"),): 0}
    # It has left: out of hosts.d, and its connection closed.
    (master.hosts / "app2").unlink()
    a.hear("FLEET 1 1")
    assert [each["name"] for each in watched.json()["nodes"]] == ["web/i-1", "web/i-2"]
    b.close()
    wait_until(lambda: [each["name"] for each in watched.json()["nodes"]] == ["web/i-1"], 2, "it vanishes at once")


def test_nodes_that_are_refused_are_counted(start):
    watched = start()
    for secret in ("wrong", "wrong", "other"):
        with pytest.raises(ValueError):  # no proof but an ERROR
            watched.master.connect().greet("app9", secret)
    [refused] = watched.json()["refused"]
    assert (refused["node"], refused["times"]) == ("app9", 3) and "secret" in refused["text"]
    assert "  refused     1 node is not let in\n    app9  3 times, " in watched.text()
    watched.master.node("app9")
    assert watched.json()["refused"] == []


def test_a_master_of_this_host_is_the_one_that_the_ini_names(cli, binary, tmp_path):
    with Master(binary, tmp_path / "a") as a, Master(binary, tmp_path / "b") as b:
        for master, other in ((a, b), (b, a)):
            master.node(f"app-{master.port}").ask("LOAD 5\nPING")
            # The range has both, as two INIs on one host may have it.
            ports = "-".join(str(each.port) for each in sorted((a, b), key=lambda m: m.port))
            if abs(a.port - b.port) > 60:
                ports = other.port
            cli.write(f"[master]\nlisten = 127.0.0.1:{master.port}\ntunnel_ports = {ports}\n[cluster]\nsecret = {SECRET}\n")
            [told] = json.loads(cli("status", "--json"))["masters"]
            assert [node["name"] for node in told["nodes"]] == [f"app-{master.port}"]


def test_haproxy_hosts_that_do_not_answer_are_named(start, tmp_path):
    watched = start()
    ssh = tmp_path / "ssh"
    ssh.write_text("#!/bin/sh\ncase \"$*\" in *bad*) echo no route to host >&2; exit 255;; esac\n")
    ssh.chmod(0o755)
    ini = watched.cli.ini.read_text()

    def status(servers, *options):
        watched.cli.write(ini + f"[haproxy]\nservers = {servers}\nssh_command = {ssh}\n")
        return watched.cli.call("status", *options)
    done = status("good, bad")
    assert done.returncode == 0 and done.stdout.endswith("HAProxy host bad does not answer: ssh: no route to host\n")
    assert json.loads(status("good, bad", "--json").stdout)["haproxy_hosts"] == [
        {"name": "good", "error": None}, {"name": "bad", "error": "ssh: no route to host"}]
    metrics = status("good, bad", "--prometheus").stdout
    assert 'autoscaler_haproxy_host_up{host="bad"} 0\n' in metrics and 'autoscaler_haproxy_host_up{host="good"} 1\n' in metrics
    done = status("bad")
    assert done.returncode == 69 and "none of them answers" in done.stderr and done.stdout.startswith("master ")


def test_metrics_without_a_master_say_so(cli):
    cli.write("[master]\ntunnel_ports = 9\n")
    done = cli.call("status", "--prometheus")
    assert done.returncode == 69 and "no master answers here" in done.stderr
    assert "autoscaler_masters 0\n" in done.stdout and list(text_string_to_metric_families(done.stdout))


def test_metrics(start):
    watched = start(cooldown="100s")
    (watched.master.hosts / "app1").write_text("10.255.0.1 80 -\n")
    a, odd = watched.master.node("app1"), watched.master.node('o"\\dd')
    odd.ask("LOAD 7\nPING")
    a.ask("LOAD 25\nPING")
    lease = a.ask("SCALE").split()[1]
    metrics = watched.metrics()
    assert metrics["autoscaler_lease_held"] == {(): 1} and metrics["autoscaler_cooldown_seconds"] == {(): 0}
    a.send(f"FINISH {lease} ok 1")
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


@pytest.mark.parametrize("options", [[], ["--json"], ["--watch"]], ids=str)
def test_no_master_is_an_error(cli, options):
    cli.write("[master]\ntunnel_ports = 9\n")
    done = cli.call("status", *options)
    assert (done.returncode, done.stderr) == (69, "autoscaler: 127.0.0.1:9: no master answers here\n")
    # For an alert.
    assert re.findall("^[^#].*$", done.stdout, re.M) == (
        ['autoscaler_master_up{master=""} 0'] if options == ["--prometheus"] else [])


def test_a_master_that_knows_no_report(cli):
    """By hand, with STATUS alone as the protocol has it."""
    import socket
    import threading
    from peers import Peer
    with socket.create_server(("127.0.0.1", 0)) as server:
        cli.write(f"[master]\ntunnel_ports = {server.getsockname()[1]}\n")

        def serve():
            peer = Peer(server.accept()[0])
            assert peer.line().startswith("HELLO 2 ")
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
        site.start(daemons=False)  # which would put right what is amiss here
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
