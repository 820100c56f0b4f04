"""Servers in and out of a real, running HAProxy: by commands where that is safe, else by a reload."""

import contextlib
import http.client
import os
import re
import signal
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from lab import Network, missing, wait_until

needs = missing("haproxy", "wrk")
pytestmark = pytest.mark.skipif(needs is not None, reason=str(needs))

INI = """\
[scaling]
drain_timeout = {drain_timeout}
[haproxy]
config = /etc/haproxy/haproxy.cfg
server_line = {server_line}
reload_command = {reload_command}
"""

TEMPLATE = """\
global
    stats socket /run/haproxy/admin.sock mode 660 level admin
    hard-stop-after 20s
    nbthread 2
defaults
    mode http
    retries 0
    timeout connect 2s
    timeout client 30s
    timeout server 30s
    default-server inter 100ms
# HAProxy lets it have the backend's name.
frontend servers
    bind :80
    default_backend servers
backend servers
    balance roundrobin
    option httpchk GET /healthz
    default-server rise 1 fall 1
    $SERVERS
"""


class App:
    """An app server in the test process, on one port of `host`: says its name; /held takes until `released`."""

    def __init__(self, host, port, healthy=True):
        self.name, self.port, self.healthy, self.served, self.held = f"app{port}", port, healthy, 0, 0
        self.released = threading.Event()
        app = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_GET(self):
                if self.path == "/healthz":
                    return self.answer(200 if app.healthy else 503)
                app.served += 1
                if self.path == "/held":
                    app.held += 1
                    app.released.wait(20)
                    app.held -= 1
                self.answer(200)

            do_OPTIONS = do_GET

            def answer(self, status):
                body = f"{app.name}\n".encode()
                self.send_response(status)
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *_):
                pass

        self._server = ThreadingHTTPServer(("", 0), Handler, bind_and_activate=False)
        self._server.socket.close()
        self._server.socket = host.listen(port, "127.0.0.1")
        self._server.server_name, self._server.server_port = "app", port
        self._server.daemon_threads = True
        self._server.handle_error = lambda *_: None  # a check that went away
        threading.Thread(target=self._server.serve_forever, args=(0.02,), daemon=True).start()

    def close(self):
        """From now on, connections are refused."""
        self._server.shutdown()
        self._server.server_close()


class Balancer(contextlib.ExitStack):
    """One host with HAProxy and the binary, with an app and an entry for each of `ports`."""

    def __init__(self, scratch, binary, ports=(8001, 8002), template=TEMPLATE, drain_timeout="10s",
                 server_line="server $NAME $IP:$PORT check", reload_command="systemctl reload haproxy"):
        super().__init__()
        self.host = self.enter_context(Network(scratch)).host("lb1")
        self.host.install(binary, "autoscaler")
        if "HAPROXY" in os.environ:  # another version than Debian's
            self.host.script("haproxy", f'#!/bin/sh\nexec {os.environ["HAPROXY"]} "$@"\n')
        self.settings = {"drain_timeout": drain_timeout, "server_line": server_line, "reload_command": reload_command}
        self.configure()
        self.template(template)
        self.host.path("/etc/autoscaler/hosts.d").mkdir()
        self.apps = {}
        for port in ports:
            self.start_app(port)
            self.add(port, apply=False)
        # No HAProxy yet, so the first call must not want to reload one.
        self.configure(reload_command="true")
        self.run("generate")
        self.configure(**self.settings)
        self.haproxy = self.host.start_haproxy()
        if "stats socket" in template and " check" in server_line:
            self.haproxy.wait_servers(len(ports))
        self.worker = self.workers()

    def configure(self, **settings):
        self.host.path("/etc/autoscaler/autoscaler.ini").write_text(INI.format(**(self.settings | settings)))

    def template(self, text):
        self.host.path("/etc/autoscaler/haproxy.cfg").write_text(text)

    def start_app(self, port, healthy=True):
        app = self.apps[port] = App(self.host, port, healthy)
        self.callback(app.close)
        return app

    def run(self, *words, code=0):
        """`autoscaler -v …`; returns what it said. `code`: the exit status it has to have."""
        done = self.host.run(["autoscaler", "-v", *words], check=False)
        assert done.returncode == code, f"{words}: exit {done.returncode}\n{done.stderr}"
        return done.stderr

    def add(self, port, apply=True, code=0):
        return self.run("add-host", "127.0.0.1", str(port), "--name", f"app{port}", *["--apply"] * apply, code=code)

    def drop(self, port):
        """Takes an entry out and has HAProxy follow at once, with no drain before."""
        self.host.path(f"/etc/autoscaler/hosts.d/app{port}").unlink()
        return self.run("generate")

    def request(self, path="/"):
        """(status, body) of one request through HAProxy."""
        connection = http.client.HTTPConnection("lb1", timeout=20)
        connection.sock = self.host.connect(80, timeout=20)
        connection.request("GET", path)
        answer = connection.getresponse()
        body = answer.read().decode().strip()
        connection.close()
        return answer.status, body

    @contextlib.contextmanager
    def request_in_flight(self):
        """One request at each app, which ends well with release() and at the latest with the block."""
        with ThreadPoolExecutor(len(self.apps)) as pool:
            answers = [pool.submit(self.request, "/held") for _ in self.apps]
            try:
                wait_until(lambda: all(app.held for app in self.apps.values()), 5, "a request at each app")
                yield
            finally:
                self.release()
            assert {answer.result() for answer in answers} == {(200, app.name) for app in self.apps.values()}
            for app in self.apps.values():
                app.released.clear()

    def release(self):
        """Lets the requests in flight end."""
        for app in self.apps.values():
            app.released.set()

    def workers(self):
        for _ in range(100):
            with contextlib.suppress(OSError):  # the master is between two lives
                return sorted(pid for pid, _ in self.haproxy.workers)
            time.sleep(0.02)
        raise AssertionError("no answer from the master")

    def assert_no_reload(self):
        assert self.workers() == self.worker

    def in_file(self):
        text = self.host.path("/etc/haproxy/haproxy.cfg").read_text()
        return set(re.findall(r"^\s+server (\S+)", text, re.M))

    def in_hosts_d(self):
        return {path.name for path in self.host.path("/etc/autoscaler/hosts.d").iterdir()}

    def assert_same_everywhere(self):
        assert set(self.haproxy.servers()) == self.in_file() == self.in_hosts_d()
        assert not self.due().exists()

    def due(self):
        return self.host.path("/etc/autoscaler/.haproxy-due")


@pytest.fixture
def site(tmp_path, binary):
    with Balancer(tmp_path, binary) as site:
        yield site


# Without a reload

def test_a_new_server_gets_requests_only_after_its_check_passed(site):
    sick = site.start_app(8003, healthy=False)
    stop = threading.Event()

    def visit():
        statuses = set()
        while not stop.is_set():
            statuses.add(site.request()[0])
        return statuses

    with ThreadPoolExecutor(4) as pool:
        visitors = [pool.submit(visit) for _ in range(4)]
        said = site.add(8003)
        assert "HAProxy: added app8003, without a reload" in said
        site.add(8004)  # nobody listens there
        time.sleep(0.7)
        assert sick.served == 0
        sick.healthy = True
        wait_until(lambda: sick.served > 5, 5, "requests for the new server")
        stop.set()
        assert all(visitor.result() == {200} for visitor in visitors)
    assert site.haproxy.servers()["app8004"].startswith("DOWN")
    site.assert_no_reload()
    site.assert_same_everywhere()


def test_a_server_without_a_check_is_ready_at_once(tmp_path, binary):
    with Balancer(tmp_path, binary, server_line="server $NAME $IP:$PORT",
                  template=TEMPLATE.replace("option httpchk GET /healthz", "")
                  .replace("balance roundrobin", "balance source\n    hash-type consistent")) as site:
        site.start_app(8003)
        site.add(8003)
        assert site.haproxy.servers()["app8003"] == "no check"
        site.drop(8001), site.drop(8002)
        assert site.request() == (200, "app8003")
        site.assert_no_reload()


def test_a_removed_server_finishes_what_it_has(site):
    with site.request_in_flight():
        threading.Timer(0.7, site.release).start()
        said = site.drop(8002)
        assert not site.apps[8002].held
    assert "HAProxy: removed app8002, without a reload" in said
    site.assert_no_reload()
    site.assert_same_everywhere()


def test_a_server_that_takes_long_is_removed_by_the_next_call(site):
    with site.request_in_flight():
        assert "app8002: still has connections" in site.drop(8002)
        assert site.due().exists() and site.haproxy.servers()["app8002"] == "MAINT"
        assert {site.request() for _ in range(10)} == {(200, "app8001")}
    assert "HAProxy: removed app8002, without a reload" in site.run("generate")
    site.assert_no_reload()
    site.assert_same_everywhere()


def test_a_server_that_comes_back_before_it_is_gone_takes_part_again(site):
    with site.request_in_flight():
        site.drop(8002)
        assert "reloading: server `app8002` runs from an earlier change" in site.add(8002)
        wait_until(lambda: {site.request() for _ in range(5)} == {(200, "app8001"), (200, "app8002")}, 5)
    site.assert_same_everywhere()


def test_all_servers_are_replaced_and_somebody_always_answers(site):
    site.start_app(8003), site.start_app(8004)
    for port in (8001, 8002):
        site.host.path(f"/etc/autoscaler/hosts.d/app{port}").unlink()
    site.add(8003, apply=False), site.add(8004, apply=False)
    stop = threading.Event()
    with ThreadPoolExecutor(1) as pool:
        answers = pool.submit(lambda: [site.request()[0] for _ in iter(stop.is_set, True)])
        site.run("generate")
        stop.set()
        assert set(answers.result()) == {200}
    site.assert_no_reload()
    site.assert_same_everywhere()


def test_a_change_ends_at_the_file_though_somebody_else_reloads_amid_it(site):
    site.start_app(8003, healthy=False)
    site.add(8003, apply=False)
    for port in (8001, 8002):
        site.host.path(f"/etc/autoscaler/hosts.d/app{port}").unlink()
    with ThreadPoolExecutor(1) as pool:
        said = pool.submit(site.run, "generate")
        wait_until(lambda: "app8003" in site.haproxy.servers(), 5, "the new server, whose check is waited for")
        site.haproxy.reload()
        assert "HAProxy: reloaded" in said.result()
    assert site.workers() != site.worker
    site.assert_same_everywhere()


def test_a_hundred_additions_and_removals_under_load_lose_nothing(site):
    # Served by HAProxy itself, which keeps up with any load.
    apps = site.host.path("/etc/haproxy/apps.cfg")
    apps.write_text("defaults\n    mode http\n    timeout client 30s\nfrontend apps\n    bind 127.0.0.1:9001-9010\n"
                    "    http-request return status 200 string ok content-type text/plain\n")
    site.host.popen(["haproxy", "-f", "/etc/haproxy/apps.cfg"], log="apps.log")
    site.host.wait_port(9010)
    site.add(9001)
    site.drop(8001), site.drop(8002)
    wrk = site.host.popen(["wrk", "-t1", "-c16", "-d120s", "--latency", "http://127.0.0.1/"], log="wrk.log")
    time.sleep(0.3)
    for turn in range(50):  # two to four servers at any time
        site.add(9002 + turn % 9)
        if turn > 1:
            site.drop(9002 + (turn - 2) % 9)
        site.assert_no_reload()
    site.drop(9001), site.drop(9002 + 48 % 9)
    wrk.kill(signal.SIGINT)
    wrk.wait()
    report = wrk.text()
    assert "Socket errors" not in report and "Non-2xx" not in report, report
    assert int(re.search(r"(\d+) requests in", report)[1]) > 5000, report
    site.run("generate")
    site.assert_same_everywhere()
    site.assert_no_reload()


def test_the_membership_outlives_a_reload_and_a_restart(site):
    site.start_app(8003)
    site.add(8003)
    site.drop(8001)
    site.haproxy.reload()
    assert site.haproxy.wait_servers(2) == ["app8002", "app8003"]
    site.haproxy.process.stop()
    site.haproxy = site.host.start_haproxy()
    assert site.haproxy.wait_servers(2) == ["app8002", "app8003"]
    site.assert_same_everywhere()


def test_a_call_that_is_killed_is_made_up_for(site):
    site.start_app(8003)
    for turn in range(24):
        if turn % 2:
            site.host.path("/etc/autoscaler/hosts.d/app8003").unlink()
        else:
            site.add(8003, apply=False)
        call = site.host.popen(["autoscaler", "-v", "generate"], log="killed.log")
        time.sleep(0.004 * turn)
        call.kill()
        call.wait()
        site.run("generate")
        site.haproxy.wait_servers(2 if turn % 2 else 3)
        site.assert_same_everywhere()


# What it says of them

def test_the_state_of_each_over_all_sections(tmp_path, binary):
    second = "backend more\n    option httpchk GET /healthz\n    default-server rise 1 fall 1\n    $SERVERS\nbackend other\n"
    with Balancer(tmp_path, binary, ports=(8001, 8002, 8003, 8004, 8005), template=TEMPLATE + second) as site:
        def states():
            lines = site.host.run(["autoscaler", "list-hosts", "--state"]).stdout.splitlines()
            words = [line.split() for line in lines]
            assert [w[:4] for w in words] == [line.split() for line in
                                              site.host.run(["autoscaler", "list-hosts"]).stdout.splitlines()]
            assert all(int(w[5]) < 60 if w[4] != "-" else w[5] == "-" for w in words), lines
            return [w[4] for w in words]

        wait_until(lambda: states() == ["UP"] * 5, 5)
        site.apps[8002].healthy = False
        for command in ("set server servers/app8003 state drain", "set server more/app8004 state maint",
                        "disable health more/app8005", "set server more/app8005 health down"):
            site.haproxy.command(command)
        # DOWN in one of two only says nothing.
        wait_until(lambda: states() == ["UP", "DOWN", "DRAIN", "MAINT", "-"], 5, states)
        site.add(8006, apply=False)
        assert states()[-1] == "-"
        site.haproxy.process.stop()
        assert states() == ["-"] * 6


def test_the_state_of_a_server_without_a_check(tmp_path, binary):
    with Balancer(tmp_path, binary, server_line="server $NAME $IP:$PORT") as site:
        lines = site.host.run(["autoscaler", "list-hosts", "--state"]).stdout.splitlines()
        assert [line.split()[4] for line in lines] == ["UP", "UP"], lines


# With a reload

@pytest.mark.parametrize("change, reason", [
    (("balance roundrobin", "balance static-rr"), "more than the servers changed"),
    (("timeout client 30s", "timeout client 31s"), "more than the servers changed"),
    ({"server_line": "server $NAME $IP:$PORT check weight 7"}, "the line of server `app8001` changed"),
])
def test_what_is_no_change_of_servers_alone_reloads(site, change, reason):
    if isinstance(change, dict):
        site.configure(**change)
    else:
        site.template(TEMPLATE.replace(*change))
    site.start_app(8003)
    assert f"HAProxy: reloading: {reason}" in site.add(8003)
    site.haproxy.wait_servers(3)
    assert site.workers() != site.worker
    site.assert_same_everywhere()


@pytest.mark.parametrize("settings, reason", [
    ({"template": TEMPLATE.replace("balance roundrobin", "balance static-rr")},
     "`balance static-rr` takes no servers at run time"),
    ({"template": TEMPLATE.replace("balance roundrobin", "cookie SRV insert"),
      "server_line": "server $NAME $IP:$PORT check cookie $NAME"}, "`cookie`"),
    ({"template": TEMPLATE.replace("level admin", "level operator")}, "Permission denied"),
])
def test_what_a_running_haproxy_cannot_take_reloads(tmp_path, binary, settings, reason):
    with Balancer(tmp_path, binary, **settings) as site:
        site.start_app(8003)
        said = site.add(8003)
        assert re.search(f"HAProxy: reloading: .*{re.escape(reason)}", said), said
        site.haproxy.wait_servers(3)
        site.assert_same_everywhere()


def test_without_a_socket_it_reloads_as_before(tmp_path, binary):
    no_socket = re.sub(".*stats socket.*\n", "", TEMPLATE)
    with Balancer(tmp_path, binary, template=no_socket) as site:
        site.start_app(8003)
        assert "reloading: /run/haproxy/admin.sock: No such file" in site.add(8003)
        site.haproxy.wait_reloaded(site.worker)
        site.drop(8001), site.drop(8002)
        wait_until(lambda: site.request() == (200, "app8003"), 5)
        assert not site.due().exists()


def test_a_reload_that_fails_silently_is_noticed(tmp_path, binary):
    with Balancer(tmp_path, binary, reload_command="true") as site:
        site.template(TEMPLATE.replace("client 30s", "client 31s"))
        said = site.add(8003, code=69)
        assert "not reloaded 5 s after `true`: the old process goes on as before" in said
        assert site.due().exists()
        site.configure(reload_command="systemctl reload haproxy")
        assert "HAProxy: reloading: one is due from before" in site.run("generate")
        assert set(site.haproxy.servers()) == {"app8001", "app8002", "app8003"}
        site.assert_same_everywhere()


def test_a_reload_that_got_lost_is_asked_for_again(tmp_path, binary):
    lossy = "test -e /run/lost && exec systemctl reload haproxy; : >/run/lost"
    with Balancer(tmp_path, binary, reload_command=lossy) as site:
        site.template(TEMPLATE.replace("client 30s", "client 31s"))
        assert "HAProxy: reloaded" in site.run("generate")
        assert site.host.path("/run/lost").exists() and not site.due().exists()
        site.assert_same_everywhere()


# remove-host

def test_remove_host_waits_for_requests_in_flight(site):
    with site.request_in_flight():
        removal = site.host.popen(["autoscaler", "-v", "remove-host", "127.0.0.1:8002", "--apply"])
        wait_until(lambda: site.haproxy.servers()["app8002"] == "DRAIN", 5)
        # Others are not kept from their work, nor does theirs end the drain.
        site.add(8004)
        assert removal.alive and site.haproxy.servers()["app8002"] == "DRAIN"
        assert {site.request() for _ in range(10)} == {(200, "app8001")}
    assert removal.wait() == 0
    site.assert_no_reload()
    site.assert_same_everywhere()
    assert site.in_file() == {"app8001", "app8004"}
    site.run("remove-host", "127.0.0.1:8002", code=64)


def test_a_drain_shows_how_far_it_is_to_a_terminal_alone(site):
    with site.request_in_flight():
        shown = site.host.popen(["script", "-qefc", "autoscaler remove-host app8002", "/dev/null"], log="terminal.log")
        wait_until(lambda: "app8002: draining, sessions left: 1, seconds left: 9" in shown.text(), 5)
    assert shown.wait() == 0
    site.start_app(8003)
    site.add(8003)
    assert site.host.run(["autoscaler", "remove-host", "app8001", "--apply"]).stderr == ""


def test_a_drain_waits_until_another_server_is_up(site):
    site.start_app(8003, healthy=False)
    site.add(8003)
    site.host.run(["autoscaler", "remove-host", "app8002", "--apply"])
    with ThreadPoolExecutor(1) as pool:
        stop = threading.Event()
        answers = pool.submit(lambda: [site.request()[0] for _ in iter(stop.is_set, True)])
        removal = site.host.popen(["autoscaler", "remove-host", "app8001", "--apply"])
        time.sleep(0.3)
        assert removal.alive
        site.apps[8003].healthy = True
        assert removal.wait() == 0
        stop.set()
        assert set(answers.result()) == {200}
    assert site.haproxy.servers() == {"app8003": "UP"}


def test_drain_timeout_ends_the_wait(site):
    site.configure(drain_timeout="500ms")
    with site.request_in_flight():
        said = site.run("remove-host", "app8002")
        assert "app8002: drain_timeout has passed, sessions left: 1; removed all the same" in said
        assert site.in_hosts_d() == {"app8001"}
        # It comes back before HAProxy was told: the drain ends.
        site.add(8002)
        assert {site.request() for _ in range(4)} == {(200, "app8001"), (200, "app8002")}
    site.assert_no_reload()
    site.assert_same_everywhere()


def test_a_server_that_is_down_is_removed_at_once(site):
    site.apps[8002].healthy = False
    wait_until(lambda: site.haproxy.servers()["app8002"].startswith("DOWN"), 5)
    said = site.host.run(["autoscaler", "remove-host", "app8002", "--apply"]).stderr
    assert said == "autoscaler: app8002: removed without draining: HAProxy has it DOWN\n"
    site.assert_same_everywhere()


def test_the_only_entry_stays_where_haproxy_would_follow(site):
    site.host.run(["autoscaler", "remove-host", "app8002", "--apply"])
    said = site.run("remove-host", "app8001", "--apply", code=75)
    assert "app8001: is the only entry" in said
    assert site.haproxy.servers() == {"app8001": "UP"}
    assert "removed without draining" in site.run("remove-host", "app8001")
    assert site.in_hosts_d() == set() and site.haproxy.servers() == {"app8001": "UP"}


def test_the_last_one_of_two_that_leave_at_once_stays(site):
    with site.request_in_flight():
        first, second = [site.host.popen(["autoscaler", "remove-host", name, "--apply"], log=f"{name}.log")
                         for name in ("app8001", "app8002")]
        wait_until(lambda: "DRAIN" in site.haproxy.servers().values(), 5)
    assert sorted([first.wait(20), second.wait(20)]) == [0, 75]
    site.assert_same_everywhere()
    assert list(site.haproxy.servers().values()) == ["UP"]


def sick(site, port, section="servers"):
    """The app of `port` answers its checks no more, and HAProxy has noticed."""
    site.apps[port].healthy = False
    wait_until(lambda: site.haproxy.servers(section)[f"app{port}"].startswith("DOWN"), 5)


def test_the_last_one_that_is_up_stays_whoever_else_is_entered(site):
    sick(site, 8001)
    assert "app8002: nobody else is UP in `servers`" in site.run("remove-host", "app8002", "--apply", code=75)
    assert site.haproxy.servers()["app8002"] == "UP" and site.in_hosts_d() == {"app8001", "app8002"}
    # Not without --apply either: the next generate would take it out.
    site.run("remove-host", "app8002", code=75)
    assert site.in_hosts_d() == {"app8001", "app8002"} and not list(site.host.path("/etc/autoscaler").glob(".drain-*"))
    site.run("remove-host", "app8001", "--apply")
    assert site.haproxy.servers() == {"app8002": "UP"}


@pytest.mark.parametrize("aside", ["drain", "maint", "backup"])
def test_who_is_set_aside_or_a_backup_is_nobody(tmp_path, binary, aside):
    with Balancer(tmp_path, binary, ports=(8001,)) as site:
        site.start_app(8002)
        site.host.path("/etc/autoscaler/hosts.d/app8002").write_text(
            f"server app8002 127.0.0.1:8002 check{' backup' * (aside == 'backup')}\n")
        site.run("generate")
        site.haproxy.wait_servers(2)
        if aside != "backup":
            site.haproxy.command(f"set server servers/app8002 state {aside}")
        assert "nobody else is UP" in site.run("remove-host", "app8001", "--apply", code=75)
        assert site.haproxy.servers()["app8001"] == "UP"


TWO = TEMPLATE + """\
backend more
    option httpchk GET /healthz
    default-server rise 1 fall 1
    $SERVERS
"""


def test_somebody_stays_in_each_managed_section(tmp_path, binary):
    with Balancer(tmp_path, binary, template=TWO) as site:
        site.haproxy.wait_servers(2, "more")
        site.haproxy.command("set server more/app8001 state maint")
        assert "nobody else is UP in `more`" in site.run("remove-host", "app8002", "--apply", code=75)
        assert site.haproxy.servers("servers")["app8002"] == site.haproxy.servers("more")["app8002"] == "UP"


def test_a_drain_ends_when_the_last_of_the_others_goes_down(tmp_path, binary):
    with Balancer(tmp_path, binary, template=TWO) as site, site.request_in_flight():
        site.haproxy.wait_servers(2, "more")
        removal = site.host.popen(["autoscaler", "-v", "remove-host", "app8002", "--apply"])
        wait_until(lambda: site.haproxy.servers()["app8002"] == site.haproxy.servers("more")["app8002"] == "DRAIN", 5)
        sick(site, 8001, "more")
        assert removal.wait() == 75
        assert "put back into service" in removal.text()
        assert site.haproxy.servers()["app8002"] == site.haproxy.servers("more")["app8002"] == "UP"
        assert "app8002" in site.in_hosts_d() and not list(site.host.path("/etc/autoscaler").glob(".drain-*"))


def test_force_takes_out_even_the_last(site):
    sick(site, 8001)
    began = time.monotonic()
    site.run("remove-host", "app8002", "--apply", "--force")
    assert time.monotonic() - began < 5
    site.assert_same_everywhere()
    assert site.in_file() == {"app8001"}
    # The only entry: HAProxy keeps its file, for one without servers is never installed.
    site.apps[8001].healthy = True
    site.haproxy.wait_servers(1)
    site.run("remove-host", "app8001", "--apply", "--force")
    assert site.in_hosts_d() == set() and site.in_file() == {"app8001"}
    assert site.haproxy.servers() == {"app8001": "DRAIN"}
    # Its replacement takes its place.
    site.add(8002)
    assert set(site.haproxy.servers()) == site.in_file() == {"app8002"}


def test_through_the_gate_a_machine_forces_out_itself_alone(site):
    sick(site, 8001)

    def gate(caller):
        return site.host.run(["autoscaler", "ssh-gate"], check=False, env={
            "SSH_ORIGINAL_COMMAND": "autoscaler remove-host app8002 --apply --force", "SSH_CONNECTION": f"{caller} 50000 10.0.0.1 22"})

    assert gate("10.0.0.9").returncode == 75 and "app8002" in site.in_hosts_d()
    assert gate("::ffff:127.0.0.1").returncode == 0 and "app8002" not in site.in_hosts_d()


def test_a_drain_of_ours_is_undone_by_add_host_and_one_of_somebody_else_is_kept(site):
    with site.request_in_flight():
        removal = site.host.popen(["autoscaler", "-v", "remove-host", "app8002", "--apply"])
        wait_until(lambda: site.haproxy.servers()["app8002"] == "DRAIN", 5)
        assert "app8002: takes requests again" in site.add(8002)
        assert site.haproxy.servers()["app8002"] == "UP"
        assert removal.wait() == 75 and "put back into service meanwhile" in removal.text()
        killed = site.host.popen(["autoscaler", "-v", "remove-host", "app8002", "--apply"], log="killed.log")
        wait_until(lambda: site.haproxy.servers()["app8002"] == "DRAIN", 5)
        killed.kill()
        killed.wait()
        assert "app8002: its drain was broken off" in site.run("generate")
        assert site.haproxy.servers()["app8002"] == "UP"
    for state in ("drain", "maint"):
        site.haproxy.command(f"set server servers/app8002 state {state}")
        site.add(8002), site.run("generate")
        assert site.haproxy.servers()["app8002"] == state.upper()
    # Nor does one that we set elsewhere end it.
    site.start_app(8003)
    site.add(8003)
    site.haproxy.wait_servers(2)
    site.run("remove-host", "app8003", "--apply")
    assert site.haproxy.servers() == {"app8001": "UP", "app8002": "MAINT"}


def test_by_hand_the_tag_is_named_that_keeps_a_machine_away(site):
    site.start_app(8003)
    site.run("add-host", "127.0.0.1", "8003", "--id", "i-0a", "--apply")
    site.haproxy.wait_servers(3)
    said = site.host.run(["autoscaler", "remove-host", "i-0a", "--apply"]).stderr
    assert said == ("autoscaler: i-0a: removed; while i-0a serves, the daemons enter it again unless it is tagged "
                    "autoscaler:keep\n")
    site.run("add-host", "127.0.0.1", "8003", "--id", "i-0a", "--apply")
    site.haproxy.wait_servers(3)
    gate = {"SSH_ORIGINAL_COMMAND": "autoscaler remove-host i-0a --apply"}
    assert site.host.run(["autoscaler", "ssh-gate"], env=gate).stderr == ""


def test_a_haproxy_that_does_not_answer_keeps_nobody(site):
    site.haproxy.process.stop()
    said = site.run("remove-host", "app8002")
    assert "app8002: removed without draining: /run/haproxy/admin.sock: Connection refused" in said
    assert site.in_hosts_d() == {"app8001"}


def test_a_drain_that_is_killed_or_reloaded_away_is_done_again(site):
    def drain():
        removal = site.host.popen(["autoscaler", "-v", "remove-host", "app8002", "--apply"])
        removal.wait_line("app8002: draining")
        wait_until(lambda: site.haproxy.servers()["app8002"] == "DRAIN", 5)
        return removal

    with site.request_in_flight():
        killed = drain()
        killed.kill()
        killed.wait()
        assert site.in_hosts_d() == {"app8001", "app8002"}
        removal = drain()
        before = {pid for pid, _ in site.haproxy.workers}
        site.haproxy.process.kill(signal.SIGUSR2)
        assert removal.wait() == 0
        site.haproxy.wait_reloaded(before)
    site.assert_same_everywhere()
    assert site.in_file() == {"app8001"}
