"""What `make bench` measures with: processes, a recording endpoint and a tap on the wire."""

import contextlib
import glob
import multiprocessing
import os
import re
import signal
import socket
import socketserver
import subprocess
import threading
import time
from dataclasses import dataclass
from pathlib import Path

# Processes


@dataclass
class Run:
    """One process from its start to its end, in seconds; `began` is on time.monotonic's clock."""
    began: float
    wall: float
    cpu: float
    status: int


def run(argv, env=None):
    """Runs `argv` to its end, its output thrown away."""
    began = time.monotonic()
    process = subprocess.Popen(argv, env=env, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL,
                               stderr=subprocess.DEVNULL)
    _, status, usage = os.wait4(process.pid, 0)
    wall = time.monotonic() - began
    process.returncode = os.waitstatus_to_exitcode(status)
    return Run(began, wall, usage.ru_utime + usage.ru_stime, process.returncode)


class Daemon:
    """A process that runs until the `with` block ends; its stderr is the file `log`."""

    def __init__(self, argv, log):
        self.log = Path(log)
        with open(log, "wb") as file:
            self.process = subprocess.Popen(argv, stdin=subprocess.DEVNULL, stdout=file, stderr=file)
        self.pid = self.process.pid

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.process.kill()
        self.process.wait()

    def wait_line(self, text, timeout=10):
        """Waits until the log has a line with `text`."""
        deadline = time.monotonic() + timeout
        while text not in self.log.read_text():
            if time.monotonic() > deadline or self.process.poll() is not None:
                raise RuntimeError(f"{self.process.args}: no line with {text!r}:\n{self.log.read_text()}")
            time.sleep(0.005)

    def cpu(self):
        """Processor time of all its threads so far, in seconds, as the scheduler counts it."""
        return sum(int(Path(path).read_text().split()[0])
                   for path in glob.glob(f"/proc/{self.pid}/task/*/schedstat")) / 1e9

    def wakeups(self):
        """How often its threads have gone to sleep of their own will."""
        return sum(int(re.search(r"^voluntary_ctxt_switches:\s*(\d+)", Path(path).read_text(), re.M)[1])
                   for path in glob.glob(f"/proc/{self.pid}/task/*/status"))

    def resident(self, what="VmRSS"):
        """Resident memory in bytes, or the part of it that proc(5) calls `what`."""
        status = Path(f"/proc/{self.pid}/status").read_text()
        return int(re.search(rf"^{what}:\s*(\d+)", status, re.M)[1]) * 1024


def count_calls(daemons, seconds, scratch):
    """The system calls of each of the `daemons` in that time, by strace; an empty list without it."""
    try:
        traces = [subprocess.Popen(["strace", "-c", "-f", "-p", str(each.pid), "-o", f"{scratch}/strace.{each.pid}"],
                                   stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
                  for each in daemons]
    except FileNotFoundError:
        return []
    time.sleep(seconds)
    counts = []
    for each, trace in zip(daemons, traces):
        trace.send_signal(signal.SIGINT)
        trace.wait()
        rows = Path(f"{scratch}/strace.{each.pid}").read_text().splitlines()
        counts.append(sum(int(row.split()[3]) for row in rows
                          if re.match(r"\s*[\d.]+\s+[\d.]+\s+\d+\s+\d+", row) and not row.endswith("total")))
    return counts


# The other ends

_ANSWERS = {
    "DescribeInstances": ("200 OK", '<DescribeInstancesResponse xmlns="http://ec2.amazonaws.com/doc/2016-11-15/">'
                                    "<requestId>r</requestId><reservationSet/></DescribeInstancesResponse>"),
    "RunInstances": ("400 Bad Request", "<Response><Errors><Error><Code>InstanceLimitExceeded</Code><Message>full"
                                        "</Message></Error></Errors><RequestID>r</RequestID></Response>"),
}


class Recorder:
    """An EC2 endpoint in a process of its own that notes when each request begins to arrive.

    It refuses every RunInstances with InstanceLimitExceeded, which ends a scale-up there."""

    def __init__(self):
        listener = socket.create_server(("127.0.0.1", 0), backlog=128)
        self.url = f"http://127.0.0.1:{listener.getsockname()[1]}"
        self._received, send = multiprocessing.Pipe(duplex=False)
        self._process = multiprocessing.get_context("fork").Process(target=_record, args=(listener, send), daemon=True)
        self._process.start()
        listener.close()

    def close(self):
        """Ends it."""
        self._process.kill()
        self._process.join()

    def forget(self):
        """Throws away what came so far."""
        while self._received.poll():
            self._received.recv()

    def wait(self, action, timeout=15):
        """When the next request for `action` began to arrive, on time.monotonic's clock."""
        deadline = time.monotonic() + timeout
        while self._received.poll(max(0, deadline - time.monotonic())):
            arrived, what = self._received.recv()
            if what == action:
                return arrived
        raise RuntimeError(f"no {action} arrived within {timeout} s")


def _record(listener, send):
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the parent's affair
    lock = threading.Lock()
    while True:
        connection, _ = listener.accept()
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        threading.Thread(target=_serve, args=(connection, send, lock), daemon=True).start()


def _serve(connection, send, lock):
    while data := connection.recv(65536):
        arrived = time.monotonic()
        while b"\r\n\r\n" not in data:
            data += connection.recv(65536)
        head, _, body = data.partition(b"\r\n\r\n")
        length = re.search(rb"(?i)^content-length:\s*(\d+)", head, re.M)
        if b"100-continue" in head.lower():
            connection.sendall(b"HTTP/1.1 100 Continue\r\n\r\n")
        while length and len(body) < int(length[1]):
            body += connection.recv(65536)
        action = re.search(rb"Action=(\w+)", head + body)
        if action:
            with lock:
                send.send((arrived, action[1].decode()))
            status, text = _ANSWERS[action[1].decode()]
        else:  # the metadata service, which has no notice
            status, text = ("200 OK", "token") if head.startswith(b"PUT") else ("404 Not Found", "")
        connection.sendall(f"HTTP/1.1 {status}\r\nX-Aws-Ec2-Metadata-Token-Ttl-Seconds: 21600\r\n"
                           f"Content-Type: text/xml\r\nContent-Length: {len(text)}\r\n\r\n"
                           f"{text}".encode())


class Tap:
    """Stands between node and master like a tunnel, and notes when each verb came by (in `seen`)."""

    def __init__(self, port, master):
        self.seen = {}
        tap = self

        class Handler(socketserver.BaseRequestHandler):
            def handle(self):
                with socket.create_connection(("127.0.0.1", master)) as other:
                    for each in (self.request, other):
                        each.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                    back = threading.Thread(target=tap.carry, args=(other, self.request), daemon=True)
                    back.start()
                    tap.carry(self.request, other)
                    back.join()

        self._server = socketserver.ThreadingTCPServer(("127.0.0.1", port), Handler)
        self._server.daemon_threads = True
        threading.Thread(target=self._server.serve_forever, daemon=True).start()

    def carry(self, source, target):
        """Copies one direction."""
        with contextlib.suppress(OSError):
            while data := source.recv(4096):
                now = time.monotonic()
                target.sendall(data)
                for line in data.decode(errors="replace").splitlines():
                    self.seen.setdefault(line.split(" ")[0], now)
            target.shutdown(socket.SHUT_WR)

    def close(self):
        """Stops listening."""
        self._server.shutdown()
        self._server.server_close()


def compile_with(compiler, source, text, *options):
    """Compiles `text`, written to `source`; the program beside it, or None where there is no such compiler."""
    Path(source).write_text(text)
    program = str(Path(source).with_suffix(""))
    with contextlib.suppress(FileNotFoundError):
        if subprocess.run([compiler, *options, "-o", program, str(source)], capture_output=True).returncode == 0:
            return program
    return None
