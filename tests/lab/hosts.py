"""Hosts as Linux namespaces, joined by a bridge in a namespace of its own.

The wire is a process in its own network namespace with a bridge; a host is a network, mount, UTS and PID
namespace of its own with a cable to it. Nothing has a name in this machine's own namespaces, so nothing
can be left there: bridge, cables and mounts go with their namespaces, and those with the test process.
"""

import contextlib
import os
import shutil
import signal
import socket
import subprocess
import sys
import threading
from pathlib import Path

from . import process, services, slow
from .namespaces import SBIN, batch, reap, start_init
from .support import in_netns, wait_until

# What a host has for itself, as plain files under Host.dir.
PRIVATE = ("/etc", "/root", "/run", "/tmp", "/var/lib")

# First on PATH in every host, for its users too: the way to `dir` is closed to them.
BIN = "/etc/lab/bin"

# Copied from this machine into a host's /etc: who is who, and what the C library and OpenSSL look up.
_ETC = ("passwd", "group", "shadow", "gshadow", "nsswitch.conf", "services", "protocols", "os-release", "localtime",
        "ld.so.cache", "ld.so.conf", "ld.so.conf.d", "host.conf", "gai.conf", "profile", "shells", "login.defs",
        "ssl/openssl.cnf", "alternatives", "security", "pam.d", "environment", "debian_version")


class Network:
    """The wire. `scratch`: a directory for the hosts' files, such as pytest's `tmp_path`.

    `keep`: further directories that must be seen inside the hosts although they lie under a private one
    (this Python, this repository and `scratch` always are); all but `scratch` are read-only there. Use as a context manager, or call close().
    """

    PREFIX, PREFIX6 = "10.77.0.", "fd77::"

    def __init__(self, scratch, keep=()):
        self.scratch = Path(scratch).resolve()
        self.scratch.mkdir(parents=True, exist_ok=True)
        repository = Path(__file__).resolve().parents[2]
        keep = {Path(path).resolve() for path in (sys.prefix, sys.base_prefix, repository, self.scratch, *keep)}
        # A directory within another that is kept anyway would only be mounted twice.
        self.keep = sorted(path for path in keep if not any(path != other and path.is_relative_to(other)
                                                            for other in keep))
        self.hosts = {}
        self._lock = threading.Lock()
        self._key = None
        self._wire, self.wire_pid = start_init(["--net", "--uts"], ["--", "wire"])
        self.ip("link add br0 type bridge stp_state 0 forward_delay 0", "link set br0 up")

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()

    def close(self):
        """Powers off all hosts and takes the wire away. May be called twice."""
        with contextlib.ExitStack() as stack:  # whatever fails, the rest is taken down as well
            stack.callback(reap, self._wire)
            stack.callback(self._wire.kill)
            for host in list(self.hosts.values()):
                stack.callback(host.kill)

    def host(self, name, address=None):
        """Makes and boots a host; `address` is 10.77.0.N (default: the first free one from 10.77.0.10).

        An address is free again once its host is powered off.
        """
        with self._lock:  # call-backs of the endpoint make hosts side by side
            if name in self.hosts:
                raise ValueError(f"there is a host {name} already")
            taken = {host.number for host in self.hosts.values() if not host.off}
            if address is None:
                number = next(number for number in range(10, 255) if number not in taken)
            else:
                number = int(str(address).removeprefix(self.PREFIX))
            if number in taken or not 1 < number < 255:
                raise ValueError(f"no host can have the address {self.PREFIX}{number}")
            host = self.hosts[name] = Host(self, name, number)
            for each in self.hosts.values():
                each.write_names()
        host.boot()
        return host

    @property
    def ssh_key(self):
        """Outside path of the private key that every host has as /root/.ssh/id_ed25519 (and .pub beside it)."""
        if self._key is None:
            self._key = self.scratch / "id_ed25519"
            subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", "lab", "-f", str(self._key)],
                           check=True, stdin=subprocess.DEVNULL, capture_output=True)
        return self._key

    def ip(self, *commands, check=True):
        """Runs `ip` commands (without the word ip) on the wire."""
        batch(self.wire_pid, "ip", commands, check)

    def bridge(self, *commands):
        """Runs `bridge` commands on the wire."""
        batch(self.wire_pid, "bridge", commands)


class Host(services.Services):
    """A machine. Made by Network.host.

    `name`; `address` and `address6`; `dir`: its files, outside. Inside, /etc, /root, /run, /tmp and /var/lib
    are its own, PATH begins with /etc/lab/bin, and there is no route out of the lab, no DNS, and names of all
    hosts in /etc/hosts. Everything else is this machine's.
    """

    def __init__(self, net, name, number):
        self.net, self.name, self.number = net, name, number
        self.address, self.address6 = f"{net.PREFIX}{number}", f"{net.PREFIX6}{number}"
        self.dir = net.scratch / name
        self.off = False  # powered off on purpose: neither running nor about to be
        self._power = threading.RLock()
        self._unshare = None
        self._closers, self._processes = [], []
        self._cut_from = []
        self._relay = None
        self._make_disk()

    # Files

    def path(self, inside):
        """The outside path of `inside`, which must be under one of the private directories."""
        if not any(Path(inside).is_relative_to(private) for private in PRIVATE):
            raise ValueError(f"{inside} is not the host's own: only {', '.join(PRIVATE)} are")
        return self.dir / str(inside).lstrip("/")

    def install(self, program, name=None):
        """Puts a copy of the outside file `program` on the host's PATH as `name`."""
        target = self.path(BIN) / (name or Path(program).name)
        target.unlink(missing_ok=True)
        shutil.copy(program, target)
        target.chmod(0o755)

    def script(self, name, text):
        """Puts a script on the host's PATH."""
        target = self.path(BIN) / name
        target.write_text(text)
        target.chmod(0o755)

    def add_user(self, name, uid=60100):
        """Makes a user of the host, home /var/lib/`name`; sshd lets it in by the same keys as root."""
        for file, line in (("passwd", f"{name}:x:{uid}:{uid}::/var/lib/{name}:/bin/sh"), ("group", f"{name}:x:{uid}:"),
                           ("shadow", f"{name}:*:19000::::::")):
            with self.path(f"/etc/{file}").open("a") as out:
                out.write(f"{line}\n")
        home = self.path(f"/var/lib/{name}")
        home.mkdir()
        os.chown(home, uid, uid)

    def _make_disk(self):
        for directory in (*PRIVATE, BIN, "/root/.ssh", "/etc/ssl", "/etc/autoscaler", "/etc/haproxy", "/etc/ssh",
                          "/var/lib/haproxy"):
            (self.dir / directory.lstrip("/")).mkdir(parents=True, exist_ok=True)
        self.path("/root").chmod(0o700)
        self.path("/root/.ssh").chmod(0o700)
        present = [name for name in _ETC if os.path.lexists(f"/etc/{name}")]
        subprocess.run(["cp", "-a", "--parents", *present, str(self.dir / "etc")], cwd="/etc", check=True)
        # "!" would lock root out of a sshd without PAM.
        shadow = self.path("/etc/shadow")
        shadow.write_text("".join("root:*:19000::::::\n" if line.startswith("root:") else line
                                  for line in shadow.read_text().splitlines(keepends=True)))
        self.path("/etc/hostname").write_text(f"{self.name}\n")
        self.path("/etc/resolv.conf").write_text("options attempts:1 timeout:1\n")

    def write_names(self):
        """Writes /etc/hosts with every host of the lab."""
        lines = ["127.0.0.1 localhost", "::1 localhost ip6-localhost"]
        lines += [f"{host.address} {host.name}" for host in self.net.hosts.values()]
        self.path("/etc/hosts").write_text("\n".join(lines) + "\n")

    # Power

    @property
    def alive(self):
        """Whether the host is on."""
        return self._unshare is not None and self._unshare.poll() is None

    def boot(self):
        """Powers the host on (after kill(); Network.host does it the first time). /run and /tmp are empty then."""
        with self._power:
            if not self.alive:
                self._boot()

    def _boot(self):
        self.off = False
        for directory in ("/run", "/tmp"):
            shutil.rmtree(self.path(directory))
            self.path(directory).mkdir()
        self.path("/tmp").chmod(0o1777)
        (self.path("/run") / "sshd").mkdir(mode=0o755)
        (self.path("/run") / "haproxy").mkdir()
        binds = []
        for kept in self.net.keep:
            if any(kept.is_relative_to(private) for private in PRIVATE):
                place = self.path(kept)
                place.mkdir(parents=True, exist_ok=True)
                # Read-only, for these are this machine's own: nothing that a test deletes in a host may reach them.
                binds += [str(kept), str(place), "rw" if kept == self.net.scratch else "ro"]
        for private in PRIVATE:
            binds += [str(self.path(private)), private, "rw"]
        self._unshare, self._init = start_init(
            ["--net", "--mount", "--uts", "--pid", "--fork", "--mount-proc", "--kill-child"], [*binds, "--", self.name])
        # The cable's end at the bridge, and what is plugged in there: slow() puts a relay between.
        port = self._port = self._plug = f"p{self.number}"
        self.net.ip(f"link add name {port} type veth peer name eth0 netns {self._init}",
                    f"link set {port} master br0 up")
        # The same hardware address at every boot: neighbours remember it.
        batch(self._init, "ip", ["link set lo up", f"link set eth0 address 02:00:0a:4d:00:{self.number:02x}",
                                 f"addr add {self.address}/24 dev eth0",
                                 f"addr add {self.address6}/64 dev eth0 nodad", "link set eth0 up"])

    def kill(self):
        """Power off: everything in the host dies at once, and no packet says so. boot() brings it back."""
        with self._power:
            for closer in self._closers:
                closer()
            self._closers.clear()
            if self.alive:
                self._kill()
            self.off = True

    def _kill(self):
        self.slow(0)
        self.cut()  # first, for the kernel would close the connections of the dying politely
        os.kill(self._init, signal.SIGKILL)
        reap(self._unshare)
        for each in self._processes:
            each.reap()
        self._processes.clear()
        self.net.ip(f"link del {self._port}", check=False)

    def on_kill(self, closer):
        """Has `closer()` called once when the host is powered off: for what the test process runs for it."""
        self._closers.append(closer)

    # Cable

    def cut(self, *peers):
        """Cuts the cable, or only the way between this host and `peers`: packets vanish, nobody is told."""
        if not peers:
            self.net.bridge(f"link set dev {self._plug} state 0")
        for peer in peers:
            for here, there in ((self, peer), (peer, self)):
                here._neighbour("replace", there, "lladdr 02:00:00:00:de:ad nud permanent")
            self._cut_from.append(peer)

    def mend(self):
        """Undoes every cut() of this host."""
        self.net.bridge(f"link set dev {self._plug} state 3")
        for peer in self._cut_from:
            for here, there in ((self, peer), (peer, self)):
                here._neighbour("del", there, "")
        self._cut_from.clear()

    def _neighbour(self, verb, peer, rest):
        if self.alive:
            # A host that was booted anew has forgotten, so that there may be nothing to delete.
            batch(self._init, "ip", [f"neigh {verb} {address} dev eth0 {rest}"
                                     for address in (peer.address, peer.address6)], check=verb != "del")

    def slow(self, milliseconds):
        """Delays every packet to and from this host by `milliseconds` (0: no more)."""
        if self._relay is not None:
            self._relay.close()
            self._relay, self._plug = None, self._port
            self.net.ip(f"link set {self._port} master br0", f"link del {self._port}a", check=False)
        if milliseconds:
            # The port leaves the bridge, and the relay joins it to a second port that takes its place.
            self.net.ip(f"link add name {self._port}a type veth peer name {self._port}b",
                        f"link set {self._port} nomaster", f"link set {self._port}b master br0 up",
                        f"link set {self._port}a up")
            self._plug = f"{self._port}b"
            self._relay = in_netns(self.net.wire_pid,
                                   lambda: slow.Relay(self._port, f"{self._port}a", milliseconds / 1000))

    # Commands and connections

    def commands(self):
        """{pid, as seen outside: argv} of all that runs in the host, whoever started it."""
        inside, found = os.readlink(f"/proc/{self._init}/ns/pid"), {}
        for pid in filter(str.isdigit, os.listdir("/proc")):
            try:
                if os.readlink(f"/proc/{pid}/ns/pid") == inside:
                    found[int(pid)] = Path(f"/proc/{pid}/cmdline").read_bytes().decode(errors="replace").split("\0")[:-1]
            except OSError:  # it has just ended
                pass
        return {pid: argv for pid, argv in found.items() if argv}  # without zombies

    def environment(self, extra=None):
        """The environment of a command in the host: PATH, HOME, LANG, and `extra`; nothing of the test's own."""
        return {"PATH": f"{BIN}:{SBIN}", "HOME": "/root", "USER": "root", "LANG": "C.UTF-8", **(extra or {})}

    def run(self, argv, *, env=None, timeout=60, check=True, input=None, cwd=None):
        """Runs `argv` in the host to its end; returns CompletedProcess (text). See process.run."""
        return process.run(process.nsenter(self._init, argv, cwd), env=self.environment(env), timeout=timeout,
                           check=check, input=input)

    def popen(self, argv, log=None, env=None, cwd=None):
        """Starts `argv` in the host; returns a Process. `log`: file name in `dir`, default by the command's name."""
        log = self.dir / (log or f"{Path(argv[0]).name}.log")
        started = process.Process(process.nsenter(self._init, argv, cwd), log, self.environment(env),
                                  f"{log.stem} on {self.name}")
        self._processes.append(started)
        return started

    def connect(self, port, address="127.0.0.1", timeout=10):
        """A TCP connection made from inside the host; returns the socket."""
        return in_netns(self._init, lambda: socket.create_connection((address, port), timeout))

    def listen(self, port, address=None):
        """A TCP socket that listens inside the host (on its address), for a server in the test process."""
        return in_netns(self._init, lambda: socket.create_server((address or self.address, port), backlog=128))

    def unix(self, path, timeout=10):
        """A connection to the unix socket `path` (as it is inside) of the host; returns the socket."""
        connection = socket.socket(socket.AF_UNIX)
        connection.settimeout(timeout)
        try:
            # Not by its outside path: the name of a unix socket has room for 107 bytes only.
            connection.connect(f"/proc/{self._init}/root{path}")
        except OSError:
            connection.close()
            raise
        return connection

    def wait_port(self, port, address="127.0.0.1", timeout=10):
        """Waits until something in the host takes connections on `port`."""
        def takes():
            try:
                self.connect(port, address, 1).close()
                return True
            except OSError:
                return False
        wait_until(takes, timeout, f"{self.name} takes connections on {address}:{port}")
