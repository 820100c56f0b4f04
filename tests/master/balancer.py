"""A real HAProxy and a real master beside it, on this host's loopback, with apps and nodes that the test plays."""

import contextlib
import os
import shutil
import socket
import subprocess

import pytest
from cli import environment
from lab import wait_until
from peers import Master

needs_haproxy = pytest.mark.skipif(shutil.which("haproxy") is None and "HAPROXY" not in os.environ, reason="no haproxy")

TEMPLATE = """\
global
    stats socket {socket} mode 600 level admin
defaults
    mode http
    timeout connect 1s
    timeout queue 2s
    timeout client 20s
    timeout server 20s
frontend web
    bind unix@{directory}/web
    default_backend servers
backend servers
    $SERVERS
backend others
    $SERVERS
"""


class Balancer(contextlib.ExitStack):
    """A real HAProxy and a real master beside it, with an app for each of `instances`: a port that listens."""

    def __init__(self, binary, directory, instances, **settings):
        super().__init__()
        self.socket, self.listeners, self.haproxy = directory / "admin", {}, None
        self.master = Master(binary, directory / "m", haproxy={"socket": self.socket}, **{"lease": "30s", **settings})
        self.template = TEMPLATE.format(socket=self.socket, directory=directory)
        (self.master.dir / "haproxy.cfg").write_text(self.template)
        self.ports, self.installed = {}, directory / "haproxy.cfg"
        for instance in instances:
            self.listen(instance)
            self.enter(instance)
        self.start_haproxy()
        self.callback(self.stop_haproxy)
        self.enter_context(self.master)

    def listen(self, instance):
        """The app of `instance` takes connections."""
        listener = socket.create_server(("127.0.0.1", self.ports.get(instance, 0)))
        self.ports[instance], self.listeners[instance] = listener.getsockname()[1], listener
        self.callback(listener.close)

    def fall(self, instance):
        self.listeners.pop(instance).close()

    def enter(self, instance):
        (self.master.hosts / f"app-{instance}").write_text(f"127.0.0.1 {self.ports[instance]} {instance}\n")

    def start_haproxy(self):
        lines = [f"server app-{instance} 127.0.0.1:{port} check inter 50ms rise 1 fall 1 maxconn 4" for instance, port in self.ports.items()]
        self.installed.write_text(self.template.replace("$SERVERS", "\n    ".join(lines)))
        program = os.environ.get("HAPROXY", "haproxy")
        self.haproxy = subprocess.Popen([program, "-db", "-f", self.installed], env=environment(),
                                        stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        wait_until(self.answers, 10, "HAProxy's socket")

    def stop_haproxy(self):
        self.haproxy.kill()
        self.haproxy.wait()

    def answers(self):
        assert self.haproxy.poll() is None
        with contextlib.suppress(OSError):
            return "Version" in self.command("show info")

    def command(self, line):
        with socket.socket(socket.AF_UNIX) as connection:
            connection.connect(str(self.socket))
            connection.sendall(f"{line}\n".encode())
            return b"".join(iter(lambda: connection.recv(65536), b"")).decode()


def settle(peer, line):
    """What the answer to a request is; what is granted is given back."""
    told = peer.ask(line)
    while told.startswith(("SCALE ", "FINISH ")):
        told = peer.line()
    verb, word, *words = told.split()
    if verb == "GRANT":
        peer.send(f"FINISH {word} failed 0 not now: only asked")
        settled(peer)  # before anybody else asks
        return words[2]
    return word


def settled(peer):
    """All that was told to it until now has been heard."""
    peer.send("PING")
    peer.lines_until("PONG")
    return peer.told


def report(*loads):
    for peer, load in loads:
        peer.send(f"LOAD {load}")
        settled(peer)
