"""How the master answers many nodes, beside a bare line echo server. Rows of `make bench`."""

import contextlib
import hashlib
import hmac
import re
import resource
import select
import socket
import time
from pathlib import Path

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
        _, challenge = answer(connection, f"HELLO 1 {name} {NONCE}".encode())
        proof = hmac.new(secret, f"autoscaler 1 node {name} {NONCE} {challenge}".encode(), hashlib.sha256).hexdigest()
        if answer(connection, f"AUTH {proof}".encode())[0] != "WELCOME":
            raise RuntimeError("not welcome")
    return greet


def percentile(values, share):
    """The value that so much of `values` is at most."""
    return sorted(values)[min(len(values) - 1, int(len(values) * share))]


def ask(crowd, rounds):
    """SCALE -> GRANT and SCALE -> last node told, in seconds, of each round."""
    granted, told, beat = [], [], time.monotonic()
    for _ in range(rounds):
        if time.monotonic() > beat + 5:
            crowd.say(b"LOAD 50\n")
            beat = time.monotonic()
        began = time.monotonic()
        verb, lease, *_ = answer(crowd.first, b"SCALE")
        granted.append(time.monotonic() - began)
        if verb != "GRANT":
            raise RuntimeError(f"{verb} {lease}")
        crowd.hear(len(crowd.others))
        told.append(time.monotonic() - began)
        crowd.first.sendall(f"FINISH {lease} failed\n".encode())
        crowd.hear(len(crowd.others))
    return granted, told


def echo(crowd, rounds):
    """A line there and back, and a line on each connection until the last is back."""
    one, all_of_them = [], []
    for _ in range(rounds):
        began = time.monotonic()
        answer(crowd.first, b"SCALE")
        one.append(time.monotonic() - began)
        began = time.monotonic()
        crowd.say(b"SCALE app1\n")
        crowd.hear(len(crowd.others))
        all_of_them.append(time.monotonic() - began)
    return one, all_of_them
