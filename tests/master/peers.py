"""The text protocol spoken by raw sockets, and a master to speak it to. Nothing here is the program's own."""

import hashlib
import hmac
import re
import secrets
import signal
import socket
import subprocess
import time

from cli import environment
from lab import free_ports, wait_until

SECRET = "0123456789abcdef0123456789abcdef"


def proof(secret, role, name, node_nonce, master_nonce):
    """What `role` proves itself with, as the contract has it."""
    text = f"autoscaler 2 {role} {name} {node_nonce} {master_nonce}"
    return hmac.new(secret.encode(), text.encode(), hashlib.sha256).hexdigest()


class Peer:
    """A connection to a master. `ask` sends a line and returns the next one that comes."""

    def __init__(self, connection):
        self.socket = connection
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._buffer = b""
        self.told = []  # what a master says unasked: SET, FLEET and LOOK

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()

    def close(self):
        self.socket.close()

    def send(self, *lines):
        """Sends lines in one packet; bytes go as they are."""
        self.socket.sendall(b"".join(line if isinstance(line, bytes) else f"{line}\n".encode() for line in lines))

    def line(self, timeout=5.0):
        """The next line without its end, past those that go to `told`; None where the master has hung up.
        AssertionError when none comes."""
        deadline = time.monotonic() + timeout
        while (line := self._next(timeout, deadline)) is not None and re.match(r"(SET|FLEET|LOOK)\b", line):
            self.told.append(line)
        return line

    def hear(self, line, timeout=5.0):
        """Waits until this is said unasked, whatever else is."""
        deadline = time.monotonic() + timeout
        while line not in self.told:
            said = self._next(timeout, deadline)
            assert said is not None, f"hung up after {self.told}"
            if re.match(r"(SET|FLEET|LOOK)\b", said):
                self.told.append(said)
        self.told = self.told[self.told.index(line) + 1:]

    def _next(self, timeout, deadline):
        while b"\n" not in self._buffer:
            self.socket.settimeout(max(0.001, deadline - time.monotonic()))
            try:
                data = self.socket.recv(4096)
            except TimeoutError:
                raise AssertionError(f"no line within {timeout} s; so far {self._buffer!r}") from None
            except ConnectionResetError:
                data = b""
            if not data:
                assert self._buffer == b"", f"half a line: {self._buffer!r}"
                return None
            self._buffer += data
        line, _, self._buffer = self._buffer.partition(b"\n")
        return line.decode("ascii")

    def ask(self, line, timeout=5.0):
        self.send(line)
        return self.line(timeout)

    def lines_until(self, last, timeout=5.0):
        """The lines up to `last`, without it."""
        lines = []
        while (line := self.line(timeout)) != last:
            assert line is not None, f"hung up after {lines}"
            lines.append(line)
        return lines

    def expect_nothing(self):
        """What was sent is worked through, and nothing came but the answer to this PING."""
        assert self.ask("PING") == "PONG"

    def hung_up(self, timeout=5.0):
        """Whether the master ends the connection; what it says before that is returned."""
        lines = []
        while (line := self.line(timeout)) is not None:
            lines.append(line)
        return lines

    def status(self):
        """STATUS as (NODE lines, LEASE, COOLDOWN), each split into its words."""
        self.send("STATUS")
        words = [line.split() for line in self.lines_until("END")]
        by_verb = {verb: [each[1:] for each in words if each[0] == verb] for verb in ("NODE", "LEASE", "COOLDOWN")}
        assert sum(map(len, by_verb.values())) == len(words), words
        return by_verb

    def greet(self, node, secret=SECRET):
        """The handshake to its end; returns the master's name."""
        def answer_to(line):
            answer = self.ask(line)
            if answer is None:
                raise ConnectionResetError("closed in the middle of the greeting")
            return answer.split()

        nonce = secrets.token_hex(16)
        verb, *rest = answer_to(f"HELLO 2 {node} {nonce}")
        if not secret:
            assert verb == "WELCOME" and len(rest) == 1
            return rest[0]
        assert verb == "CHALLENGE"
        [challenge] = rest
        verb, master, answer = answer_to(f"AUTH {proof(secret, 'node', node, nonce, challenge)}")
        assert verb == "WELCOME" and answer == proof(secret, "master", master, nonce, challenge)
        return master


class Master:
    """A real `autoscaler master` on a loopback port of its own; no host in hosts.d is ever called."""

    def __init__(self, binary, directory, secret=SECRET, haproxy=None, **settings):
        self.binary, self.dir, self.secret = binary, directory, secret
        self.log, self.hosts = directory / "log", directory / "hosts.d"
        self.hosts.mkdir(parents=True)
        self.port = free_ports()
        lines = {"master": {"listen": f"127.0.0.1:{self.port}", "state": directory / "state", "lease": "1s"},
                 "scaling": {"cooldown": "1m"}, "cluster": {"secret": secret},
                 "haproxy": {"ssh_command": "/bin/false", **(haproxy or {})}}
        for key, value in settings.items():
            lines["master" if key == "lease" else "scaling"][key] = value
        self.ini = directory / "autoscaler.ini"
        self.write("".join(f"[{section}]\n" + "".join(f"{key} = {value}\n" for key, value in keys.items())
                           for section, keys in lines.items()))
        self.process, self.peers = None, []

    def write(self, text):
        """Puts another INI in the place of this one, as editors and configuration management do."""
        new = self.ini.with_suffix(".new")
        new.write_text(text)
        new.chmod(0o600)
        new.rename(self.ini)

    def __enter__(self):
        self.start()
        return self

    def __exit__(self, *_):
        for peer in self.peers:
            peer.close()
        self.kill()

    def start(self):
        with open(self.log, "ab") as log:
            self.process = subprocess.Popen([self.binary, "-c", self.ini, "master"], env=environment(),
                                            stdin=subprocess.DEVNULL, stdout=log, stderr=log)
        wait_until(self.serves, 10, lambda: f"the master serves: {self.log.read_text()}")

    def serves(self):
        assert self.process.poll() is None, self.log.read_text()
        try:
            self.connect().close()
            return True
        except ConnectionRefusedError:
            return False

    def kill(self, sig=signal.SIGKILL):
        self.process.send_signal(sig)
        self.process.wait(10)

    def restart(self):
        self.kill()
        self.start()

    def memory(self):
        """Its resident memory in KiB."""
        with open(f"/proc/{self.process.pid}/status") as status:
            return next(int(line.split()[1]) for line in status if line.startswith("VmRSS:"))

    def connect(self):
        """A fresh connection, not greeted."""
        peer = Peer(socket.create_connection(("127.0.0.1", self.port), 5))
        self.peers.append(peer)
        return peer

    def node(self, name):
        """A welcome node."""
        peer = self.connect()
        peer.greet(name, self.secret)
        return peer
