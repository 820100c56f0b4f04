"""One host with a real HAProxy, the binary, and app servers in the test process."""

import contextlib
import http.client
import os
import re
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from lab import Network, wait_until

INI = """\
[scaling]
drain_timeout = {drain_timeout}
[haproxy]
config = /etc/haproxy/haproxy.cfg
server_line = {server_line}
reload_command = {reload_command}
{more}
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
    """One host with HAProxy and the binary, with an app and an entry for each of `ports`.

    `haproxy`: the path of another one than Debian's; `more`: lines for [haproxy]; `files`: more
    files of the host, by their paths.
    """

    def __init__(self, scratch, binary, ports=(8001, 8002), template=TEMPLATE, drain_timeout="10s",
                 server_line="server $NAME $IP:$PORT check", reload_command="systemctl reload haproxy", more="",
                 haproxy=os.environ.get("HAPROXY"), config_path="/etc/haproxy/haproxy.cfg", files=None):
        super().__init__()
        self.host = self.enter_context(Network(scratch)).host("lb1")
        self.host.install(binary, "autoscaler")
        if haproxy:  # another version than Debian's
            self.host.script("haproxy", f'#!/bin/sh\nexec {haproxy} "$@"\n')
        self.settings = {"drain_timeout": drain_timeout, "server_line": server_line, "reload_command": reload_command,
                         "more": more}
        self.configure()
        for path, text in (files or {}).items():
            self.host.path(path).write_text(text)
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
        self.haproxy = self.host.start_haproxy(config_path)
        if "stats socket /" in template and " check" in server_line:
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

    def request(self, path="/", port=80, **headers):
        """(status, body) of one request through HAProxy."""
        connection = http.client.HTTPConnection("lb1", timeout=20)
        connection.sock = self.host.connect(port, timeout=20)
        connection.request("GET", path, headers=headers)
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
