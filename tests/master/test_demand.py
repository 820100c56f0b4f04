"""The load beyond 100%: a real HAProxy, apps of a known capacity, and arrivals that do not wait for answers."""

import asyncio
import collections
import contextlib
import json
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest
from balancer import Balancer, needs_haproxy, settle
from lab import wait_until

WORK = 0.04  # seconds of the app's one processor that a request takes: 25 a second are all that it can do
WINDOW = 10.0


class App:
    """Takes `WORK` for each request, one at a time; `load()` is how busy that made it over the window, in percent."""

    def __init__(self, listener):
        app = self
        self.processor, self.busy = threading.Lock(), collections.deque()

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_GET(self):
                with app.processor:
                    begin = time.monotonic()
                    time.sleep(WORK)
                    app.busy.append((begin, time.monotonic()))
                self.send_response(200)
                self.send_header("Content-Length", "0")
                self.end_headers()

            def log_message(self, *_):
                pass

        self.server = ThreadingHTTPServer(("", 0), Handler, bind_and_activate=False)
        self.server.socket.close()
        self.server.socket, self.server.daemon_threads = listener, True
        self.server.handle_error = lambda *_: None
        threading.Thread(target=self.server.serve_forever, args=(0.02,), daemon=True).start()

    def load(self):
        now = time.monotonic()
        while self.busy and self.busy[0][1] < now - WINDOW:
            self.busy.popleft()
        return min(100, 100 * sum(end - max(begin, now - WINDOW) for begin, end in list(self.busy)) / WINDOW)


class Arrivals:
    """Requests at `rate` a second, whatever becomes of them."""

    def __init__(self, path):
        self.path, self.rate, self.over = path, 0, threading.Event()
        self.thread = threading.Thread(target=lambda: asyncio.run(self._come()), daemon=True)
        self.thread.start()

    async def _come(self):
        due, tasks = time.monotonic(), set()
        while not self.over.is_set():
            if not self.rate:
                due = time.monotonic() + 0.05
            elif due <= time.monotonic():
                task = asyncio.create_task(self._one())
                tasks.add(task)
                task.add_done_callback(tasks.discard)
                due += 1 / self.rate
                continue
            await asyncio.sleep(max(0.0, due - time.monotonic()))
        for task in tasks:
            task.cancel()

    async def _one(self):
        with contextlib.suppress(OSError, asyncio.TimeoutError):
            reader, writer = await asyncio.open_unix_connection(self.path)
            with contextlib.closing(writer):
                writer.write(b"GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
                await asyncio.wait_for(reader.read(), 5)

    def close(self):
        self.over.set()
        self.thread.join(10)


@pytest.mark.minutes
@needs_haproxy
def test_arrivals_say_how_many_machines_are_missing_beyond_100_percent(cli, binary, tmp_path):
    with Balancer(binary, tmp_path, ["i-1", "i-2"], threshold=50, max_hosts=30, cooldown="0") as site:
        apps = [App(site.listeners[instance]) for instance in ("i-1", "i-2")]
        arrivals = Arrivals(str(tmp_path / "web"))
        site.callback(arrivals.close)
        nodes = [site.master.node(f"web{n}/i-{n}") for n in (1, 2)]
        cli.write(f"[master]\nlisten = 127.0.0.1:{site.master.port}\n[cluster]\nsecret = {site.master.secret}\n")

        def beat(seconds, until=lambda: False):
            """Both nodes report once a second, and the master's picture after each."""
            end = time.monotonic() + seconds
            while time.monotonic() < end and not until():
                for node, app in zip(nodes, apps):
                    node.send(f"LOAD {app.load():.0f}", "PING")
                    node.lines_until("PONG")
                time.sleep(1)

        def need():
            [master] = json.loads(cli("status", "--json"))["masters"]
            return master["need"]

        arrivals.rate = 30  # of 50 that they can do
        beat(95)
        mean = sum(app.load() for app in apps) / 2
        assert 50 < mean < 75 and need()["estimate"] == "loads"
        # Now 90 come, for which 3.6 machines would be busy all the time, and twice as many are called for.
        arrivals.rate = 90
        beat(40, lambda: need()["estimate"] == "requests")
        beat(12)
        told = need()
        assert told["estimate"] == "requests" and " requests/s at " in told["text"], told
        missing = int(settle(nodes[0], "SCALE"))
        assert 4 <= missing <= 6, told  # the loads alone, which can't be over 100%, call for 3
        [line] = wait_until(lambda: [line for line in site.master.log.read_text().splitlines() if "may add" in line], 5, "a log line")
        assert f"may add {missing} machines" in line and "requests/s" in line, line
        arrivals.rate = 0
        wait_until(lambda: all(app.load() < 80 for app in apps), 20, "they are through")


@needs_haproxy
def test_without_its_socket_the_loads_alone_count(binary, tmp_path):
    with Balancer(binary, tmp_path, ["i-1", "i-2"], threshold=50, max_hosts=30) as site:
        site.stop_haproxy()
        nodes = [site.master.node(f"web{n}/i-{n}") for n in (1, 2)]
        for node in nodes:
            node.send("LOAD 100", "PING")
            node.lines_until("PONG")
        assert settle(nodes[0], "SCALE") == "3"
