"""The rows of `make bench` about HAProxy: a change of membership, beside a reload and the bare commands."""

import contextlib
import multiprocessing
import os
import resource
import shutil
import signal
import socket
import subprocess
import threading
import time
from pathlib import Path

from bench_table import Figure, Group
from bench_tools import Daemon, run
from lab import free_ports, wait_until

# Answers every request with the address that it was sent to, so that the servers of a backend can be told apart.
APPS = """
defaults
    mode http
    timeout connect 10s
    timeout client 60s
    timeout server 60s
frontend apps
    bind 0.0.0.0:{port}
    http-request return status 200 content-type text/plain lf-string "%[dst]"
"""

# By a hash, so that there is a key whose requests go to the new server as soon as it is there.
FRONT = """global
    stats socket {directory}/admin.sock level admin
    nbthread 2
defaults
    mode http
    timeout connect 10s
    timeout client 60s
    timeout server 60s
frontend web
    bind 127.0.0.1:{port}
    default_backend servers
backend servers
    balance hdr(x-key)
    hash-type consistent
    $SERVERS
"""

INI = """[haproxy]
config = {directory}/installed.cfg
socket = {directory}/admin.sock
server_line = server $NAME $IP:$PORT {check}
reload_command = kill -USR2 $(cat {directory}/pid)
"""

NEW, NEW_IP = "z-new", "127.2.0.1"
CHECK = "check inter 10s rise 1 fastinter 2ms downinter 2ms"


class Front:
    """A HAProxy before `servers` app servers, which the apps' HAProxy on `apps` plays all of. Each has the words of
    `check` in its line: a reloaded HAProxy sends requests to servers that it has not checked, a running one does not."""

    def __init__(self, bench, name, servers, apps, check=""):
        self.binary, self.directory, self.apps = bench.binary, bench.scratch / name, apps
        self.port = free_ports(1)
        self.config, self.entry = self.directory / "installed.cfg", self.directory / f"hosts.d/{NEW}"
        self.entry.parent.mkdir(parents=True)
        (self.directory / "autoscaler.ini").write_text(INI.format(directory=self.directory, check=check))
        (self.directory / "haproxy.cfg").write_text(FRONT.format(directory=self.directory, port=self.port))
        for number in range(servers):
            (self.directory / f"hosts.d/app{number:05}").write_text(
                f"127.1.{number // 250}.{number % 250 + 1} {apps} -\n")
        self.config.write_text(self.rendered())

    def command(self, *words):
        return [self.binary, "-c", str(self.directory / "autoscaler.ini"), *words]

    def rendered(self):
        """What `generate` would install."""
        return subprocess.run(self.command("generate", "--stdout"), check=True, capture_output=True, text=True).stdout

    def start(self):
        """The running HAProxy, as a context."""
        argv = ["haproxy", "-W", "-f", str(self.config), "-p", str(self.directory / "pid")]
        return contextlib.closing(_HAProxy(argv, self.directory / "haproxy.log", self.port))

    def answered_by(self, key):
        """The address of the app server that answers a request with that key; `None` when none does."""
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", self.port), 5) as connection:
            connection.sendall(f"GET / HTTP/1.0\r\nX-Key: {key}\r\n\r\n".encode())
            answer = b""
            while data := connection.recv(4096):
                answer += data
            return answer.rpartition(b"\r\n\r\n")[2].decode()
        return None

    def wait_answer(self, key, new, timeout=20):
        """When the first request with that `key` was answered by the new server, or by another."""
        deadline = time.monotonic() + timeout
        while (self.answered_by(key) == NEW_IP) != new:
            if time.monotonic() > deadline:
                raise TimeoutError(f"{self.directory.name}: no answer from {'the new' if new else 'another'} server")
        return time.monotonic()

    def keys(self):
        """Keys whose requests go to the new server, one after the other."""
        return (key for key in range(1_000_000) if self.answered_by(key) == NEW_IP)

    def enter(self):
        self.entry.write_text(f"{NEW_IP} {self.apps} -\n")

    def generate(self):
        """Runs `generate -v`. Returns when it began, when it had installed the file, and its process."""
        began = time.monotonic()
        process = subprocess.Popen(self.command("-v", "generate"), stderr=subprocess.PIPE, text=True)
        for line in process.stderr:
            if "installed with" in line:
                return began, time.monotonic(), process
        raise RuntimeError(f"generate: exit {process.wait()}, and nothing was installed")

    def finish(self, process):
        """Waits for the end of generate(), which must be a good one, without a reload."""
        said = process.stderr.read()
        if process.wait() or "without a reload" not in said:
            raise RuntimeError(f"generate: exit {process.returncode}: {said}")

    def ask(self, commands):
        """Has socat send the commands to the socket; returns when it began."""
        began = time.monotonic()
        answer = subprocess.run(["socat", "-", f"UNIX-CONNECT:{self.directory}/admin.sock"], text=True, check=True,
                                input=f"{commands}\n", capture_output=True).stdout
        if answer.strip() not in ("", "New server registered.", "Server deleted."):
            raise RuntimeError(f"HAProxy: {answer}")
        return began

    @contextlib.contextmanager
    def reload(self, text):
        """Writes the file and has HAProxy reload; gives when it was told. At the end, the reload is wholly done:
        before that, the master loses the signal for another."""
        def done():
            return (self.directory / "haproxy.log").read_text().count("Former worker")
        before = done()
        self.config.write_text(text)
        began = time.monotonic()
        os.kill(int((self.directory / "pid").read_text().split()[0]), signal.SIGUSR2)
        yield began
        wait_until(lambda: done() > before, 20, "the reload is wholly done")


class _HAProxy:
    def __init__(self, argv, log, port):
        self._daemon = Daemon(argv, log)

        def listens():
            with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), 1):
                return True
        wait_until(listens, 20, f"{argv}: listens: {Path(log).read_text()}")

    def close(self):
        self._daemon.process.terminate()  # the master ends its workers
        self._daemon.process.wait()


def membership(bench, rounds=10):
    """From the order to the first request that the new server answers, and what it costs those who have work."""
    if not all(map(shutil.which, ("haproxy", "socat"))):
        yield Group("A change of membership, which takes haproxy and socat", "s", Figure("generate", []))
        return
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    apps = free_ports(1)
    config = bench.scratch / "apps.cfg"
    config.write_text(APPS.format(port=apps))
    with contextlib.closing(_HAProxy(["haproxy", "-W", "-f", str(config)], bench.scratch / "apps.log", apps)):
        for servers in (10, 100, 1000):
            ours, theirs = (Front(bench, f"{name}{servers}", servers, apps) for name in ("ours", "theirs"))
            with ours.start(), theirs.start():
                yield from _changes(bench, servers, ours, theirs, rounds)
        ours, theirs = (Front(bench, f"{name}-checked", 10, apps, CHECK) for name in ("ours", "theirs"))
        with ours.start(), theirs.start():
            yield from _under_load(bench, ours, theirs)
    resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


def _changes(bench, servers, ours, theirs, rounds):
    changed, whole, reloads, bare, checks, cats = [], [], [], [], [], []
    without = theirs.rendered()
    theirs.enter()
    both = theirs.rendered()
    dynamic, filed = _keys(ours, theirs, without, both)
    for _ in bench.rounds(rounds + 1, f"a change among {servers} servers"):
        ours.enter()
        _, installed, process = ours.generate()
        changed.append(ours.wait_answer(dynamic, True) - installed)
        ours.finish(process)
        ours.entry.unlink()
        began, _, process = ours.generate()
        ours.finish(process)
        whole.append(time.monotonic() - began)
        ours.wait_answer(dynamic, False)

        server = f"servers/{NEW}"
        # With the number that `generate` gives it, by which the hash places it.
        began = theirs.ask(f"add server {server} {NEW_IP}:{theirs.apps} id {servers + 1}; set server {server} state ready")
        bare.append(theirs.wait_answer(dynamic, True) - began)
        theirs.ask(f"set server {server} state maint; del server {server}")
        with theirs.reload(both) as began:
            reloads.append(theirs.wait_answer(filed, True) - began)
        with theirs.reload(without):
            theirs.wait_answer(filed, False)
        checks.append(run(["haproxy", "-c", "-q", "-f", str(theirs.config)]).wall)
        cats.append(run(["/bin/sh", "-c", f"cat {theirs.entry.parent}/*"]).wall)
    for values in (changed, whole, reloads, bare, checks, cats):
        del values[:1]  # the first round warms the caches
    yield Group(f"{servers:,} servers and one more: from the installed file to its first answer", "s",
                Figure("generate", changed), [Figure("reload", reloads, 1 / 20), Figure("bare commands by socat", bare)])
    yield Group(f"{servers:,} servers and one less: the whole command", "s", Figure("generate", whole),
                [Figure("haproxy -c", checks), Figure("haproxy -c and 10 ms", [each + 0.01 for each in checks], 1),
                 Figure("haproxy -c, and cat hosts.d/*", [sum(both) for both in zip(checks, cats)])])


def _keys(ours, theirs, without, both):
    """A key of the new server when it came by commands, and one when it came with the file: the hash differs."""
    ours.enter()
    ours.finish(ours.generate()[2])
    dynamic = next(ours.keys())
    ours.entry.unlink()
    ours.finish(ours.generate()[2])
    with theirs.reload(both):
        filed = next(theirs.keys())
    with theirs.reload(without):
        pass
    return dynamic, filed


def _under_load(bench, ours, theirs, changes=100, reloads=10):
    def generate():
        ours.finish(ours.generate()[2])

    def changed():
        for number in range(changes):
            bench.screen.waiting(f"changes under load: {number + 1} of {changes}")
            if number % 2:
                ours.entry.unlink()
            else:
                ours.enter()
            generate()

    def reloaded():
        text = theirs.config.read_text()
        for number in range(reloads):
            bench.screen.waiting(f"reloads under load: {number + 1} of {reloads}")
            with theirs.reload(text):
                pass

    with _Load(ours.port) as load:
        changed()
    with _Load(theirs.port) as beside:
        reloaded()
    for what, mine, other in (("failed", load.failed, beside.failed), ("kept-alive connections closed", load.closed,
                                                                       beside.closed)):
        yield Group(f"{changes} changes among {load.answered:,} requests: {what}", "",
                    Figure(f"generate, {changes} changes", [mine]), [Figure(f"{reloads} reloads", [other])], 1)


class _Load:
    """Eight clients in a process of their own, each with one kept-alive connection, until the `with` block ends."""

    def __init__(self, port):
        context = multiprocessing.get_context("fork")
        self._stop, self._counts = context.Event(), context.Array("q", 3)
        self._process = context.Process(target=self._run, args=(port,), daemon=True)

    def __enter__(self):
        self._process.start()
        wait_until(lambda: self._counts[0] > 100, 10, "the load has begun")
        return self

    def __exit__(self, *_):
        self._stop.set()
        self._process.join()
        self.answered, self.failed, self.closed = self._counts

    def _run(self, port):
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        clients = [threading.Thread(target=self._client, args=(port, number)) for number in range(8)]
        for each in clients:
            each.start()
        for each in clients:
            each.join()

    def _client(self, port, number):
        connection, key = None, 0
        while not self._stop.is_set():
            key += 1
            try:
                if connection is None:
                    connection = socket.create_connection(("127.0.0.1", port), 5)
                connection.sendall(f"GET / HTTP/1.1\r\nHost: x\r\nX-Key: {number}-{key}\r\n\r\n".encode())
                answer = b""
                while b"\r\n\r\n127." not in answer:
                    data = connection.recv(4096)
                    if not data:
                        raise ConnectionError("no answer")
                    answer += data
                kind = 0
            except OSError:
                kind, answer = 1, b"connection: close"
            with self._counts.get_lock():
                self._counts[kind] += 1
                if b"connection: close" in answer:
                    self._counts[2] += 1
            if b"connection: close" in answer and connection is not None:
                connection.close()
                connection = None
