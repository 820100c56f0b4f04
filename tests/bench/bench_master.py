"""How the master answers many nodes, beside a bare line echo server. Rows of `make bench`."""

import contextlib
import hashlib
import hmac
import math
import os
import resource
import select
import socket
import time

from bench_table import Figure, Group
from bench_tools import Daemon, compile_with

ECHO = """
use std::io::{BufRead, BufReader, Write};
use std::net::TcpListener;
fn main() {
    let listener = TcpListener::bind(("127.0.0.1", std::env::args().nth(1).unwrap().parse().unwrap())).unwrap();
    eprintln!("serving on");
    for stream in listener.incoming() {
        let mut stream = stream.unwrap();
        stream.set_nodelay(true).unwrap();
        std::thread::spawn(move || {
            let mut lines = BufReader::new(stream.try_clone().unwrap());
            let mut line = String::new();
            while lines.read_line(&mut line).unwrap_or(0) > 0 && stream.write_all(line.as_bytes()).is_ok() {
                line.clear();
            }
        });
    }
}
"""
NONCE = "0" * 32


class Crowd:
    """So many connections to one port, each with its buffer."""

    def __init__(self, port, count, greet):
        self.epoll, self.sockets = select.epoll(), {}
        for number in range(count):
            each = socket.create_connection(("127.0.0.1", port), 10)
            each.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            greet(each, f"app{number}")
            self.sockets[each.fileno()] = each
            self.epoll.register(each, select.EPOLLIN)
        self.first, *self.others = self.sockets.values()

    def close(self):
        """Hangs up all of them."""
        self.epoll.close()
        for each in self.sockets.values():
            each.close()

    def say(self, data):
        """Sends `data` on all but the first."""
        for each in self.others:
            each.sendall(data)

    def hear(self, count, timeout=30):
        """Waits until so many lines have come, from whomever."""
        deadline = time.monotonic() + timeout
        while count > 0:
            ready = self.epoll.poll(timeout, 1024)
            if not ready or time.monotonic() > deadline:
                raise RuntimeError(f"{count} lines did not come within {timeout} s")
            for number, _ in ready:
                data = self.sockets[number].recv(4096)
                if not data:
                    raise RuntimeError("hung up")
                count -= data.count(b"\n")


def answer(connection, line):
    """Sends a line and waits for the answer."""
    connection.sendall(line + b"\n")
    data = b""
    while not data.endswith(b"\n"):
        more = connection.recv(4096)
        if not more:
            raise RuntimeError(f"hung up after {line!r} {data!r}")
        data += more
    return data.decode().split()


def greeting(secret):
    """What makes a node welcome."""
    def greet(connection, name):
        _, challenge = answer(connection, f"HELLO 2 {name} {NONCE}".encode())
        proof = hmac.new(secret, f"autoscaler 2 node {name} {NONCE} {challenge}".encode(), hashlib.sha256).hexdigest()
        if answer(connection, f"AUTH {proof}".encode())[0] != "WELCOME":
            raise RuntimeError("not welcome")
    return greet


def percentile(values, share):
    """The value that so much of `values` is at most."""
    return sorted(values)[math.ceil(len(values) * share) - 1]


def out_of_the_blue():
    """Waits until processors sleep, as they do where a node asks once an hour; returns when that is over. Without it, the
    echo server would be asked while they are still awake, and the master, which has waited for the disk, would not."""
    time.sleep(0.01)
    return time.monotonic()


def ask(crowd, rounds):
    """SCALE -> GRANT and SCALE -> last node told, in seconds, of each round."""
    granted, told, beat = [], [], time.monotonic()
    for _ in range(rounds):
        if time.monotonic() > beat + 5:
            crowd.say(b"LOAD 50\n")
            beat = time.monotonic()
        began = out_of_the_blue()
        verb, lease, *_ = answer(crowd.first, b"SCALE")
        granted.append(time.monotonic() - began)
        if verb != "GRANT":
            raise RuntimeError(f"{verb} {lease}")
        crowd.hear(len(crowd.others))
        told.append(time.monotonic() - began)
        crowd.first.sendall(f"FINISH {lease} failed 0\n".encode())
        crowd.hear(len(crowd.others))
    return granted, told


def echo(crowd, rounds):
    """A line there and back, and a line on each connection until the last is back."""
    one, all_of_them = [], []
    for _ in range(rounds):
        began = out_of_the_blue()
        answer(crowd.first, b"SCALE")
        one.append(time.monotonic() - began)
        began = out_of_the_blue()
        crowd.say(b"SCALE app1\n")
        crowd.hear(len(crowd.others))
        all_of_them.append(time.monotonic() - began)
    return one, all_of_them


def many_nodes(bench, counts=(10, 100, 1000, 5000), runs=3):
    """Memory per node, SCALE -> GRANT and SCALE -> last node told, among few nodes and many."""
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    program = compile_with("rustc", bench.scratch / "echo.rs", ECHO, "--edition", "2021", "-O", "--target",
                           "x86_64-unknown-linux-musl")
    master, port = [*bench.configure("many"), "master"], bench.ports + 8
    contenders = {"master": (master, port, greeting(b"0123456789abcdef"), ask),
                  "line echo server, Rust": program and ([program, str(port + 1)], port + 1, hello, echo)}
    for count in counts:
        figures = {name: {what: [] for what in ("memory", "one 50", "one 99", "all 50", "all 99")} for name in contenders}
        for _ in bench.rounds(runs, f"master with {count} nodes"):
            for name, parts in contenders.items():
                if parts:
                    _measure(bench, count, parts, figures[name])
        ours, theirs = figures.values()
        other = list(contenders)[1]
        nodes = f"{count:,} nodes"
        yield Group(f"Master with {nodes}: memory per node", "B", Figure("master", ours["memory"]),
                    [Figure(other, theirs["memory"])], 24e3 if count >= 100 else None)
        for what, title, beside in (("one", "SCALE -> GRANT", "a line there and back"),
                                    ("all", "SCALE -> last node told", "a line there and back on each")):
            for share in (50, 99):
                yield Group(f"{title}, {nodes}, percentile {share}", "s", Figure("master", ours[f"{what} {share}"]),
                            [Figure(f"echo: {beside}", theirs[f"{what} {share}"], 2)])


def hello(connection, name):
    """What makes sure that the echo server has a thread for the connection."""
    answer(connection, name.encode())


@contextlib.contextmanager
def on_processor(number):
    """Runs, and starts, what is in the `with` block on one of the processors there are."""
    there = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {sorted(there)[number]})
    try:
        yield
    finally:
        os.sched_setaffinity(0, there)


def _measure(bench, count, parts, figures):
    argv, port, greet, ask_all = parts
    # Apart, as a node and its master are: else chance, and not the program, tells how long a wake-up takes.
    with on_processor(-1):
        server = Daemon(argv, bench.scratch / "many.log")
    with on_processor(0), server:
        server.wait_line("serving on")
        before = server.resident()
        with contextlib.closing(Crowd(port, count, greet)) as crowd:
            figures["memory"].append((server.resident() - before) / count)
            one, every = ask_all(crowd, 1 + (100 if count <= 1000 else 20))
    del one[:1], every[:1]  # the first round warms the caches
    for what, values in (("one", one), ("all", every)):
        for share in (50, 99):
            figures[f"{what} {share}"].append(percentile(values, share / 100))
    (bench.scratch / "many/state/master").unlink(missing_ok=True)
