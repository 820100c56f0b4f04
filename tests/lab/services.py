"""What can be started in a host: sshd, HAProxy, app servers."""

import contextlib
import csv
import os
import re
import shutil
import signal
import socket
import sys
from pathlib import Path

from .support import wait_until

# The first of two lines counts.
_SSHD_CONFIG = """{settings}
Port {port}
AddressFamily any
HostKey /etc/ssh/ssh_host_ed25519_key
PidFile /run/sshd.pid
AuthorizedKeysFile {keys_file}
UsePAM no
PermitRootLogin prohibit-password
PasswordAuthentication no
KbdInteractiveAuthentication no
StrictModes {strict}
AllowTcpForwarding yes
MaxStartups 200
MaxSessions 200
UseDNS no
PrintMotd no
Subsystem sftp internal-sftp
SetEnv PATH={path}
LogLevel VERBOSE
"""

# Debian's haproxy.service, as far as `reload` goes: check first, then the signal.
_SYSTEMCTL = """#!/bin/sh
case "$*" in
"reload haproxy"|"reload haproxy.service")
    haproxy -c -q {files} && kill -USR2 "$(cat /run/haproxy.pid)" ;;
*)  echo "systemctl: the lab knows only: reload haproxy" >&2; exit 1 ;;
esac
"""


class Services:
    """The part of Host that starts services."""

    def start_sshd(self, authorized_keys=None, port=22, settings="", path=None, own_keys=False):
        """A real sshd with its own host key; returns its Process (log sshd.log) once it listens.

        The host gets the lab's key as /root/.ssh/id_ed25519, and lets in every user with `authorized_keys`
        (a text; default: the lab's key). `settings`: more lines for sshd_config; `path`: the sessions' PATH.
        `own_keys`: it goes by each user's own ~/.ssh/authorized_keys and its owner and mode, as on Debian.
        """
        ssh, key = self.path("/root/.ssh"), self.net.ssh_key
        for suffix in ("", ".pub"):
            shutil.copy(f"{key}{suffix}", ssh / f"id_ed25519{suffix}")
        (ssh / "id_ed25519").chmod(0o600)
        self.path("/etc/ssh/authorized_keys").write_text(authorized_keys or Path(f"{key}.pub").read_text())
        if not self.path("/etc/ssh/ssh_host_ed25519_key").exists():
            self.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", self.name,
                      "-f", "/etc/ssh/ssh_host_ed25519_key"])
        config = self.path("/etc/ssh/sshd_config")
        config.write_text(_SSHD_CONFIG.format(
            port=port, path=path or self.environment()["PATH"], settings=settings, strict="yes" if own_keys else "no",
            keys_file=".ssh/authorized_keys" if own_keys else "/etc/ssh/authorized_keys"))
        sshd = self.popen(["/usr/sbin/sshd", "-D", "-e", "-f", "/etc/ssh/sshd_config"], log="sshd.log")
        sshd.wait_line(r"Server listening on 0\.0\.0\.0")
        return sshd

    def stop_sshd(self):
        """sshd and all its sessions end at once; start_sshd() brings it back."""
        def running():
            return [pid for pid, argv in self.commands().items() if argv[0].startswith(("sshd", "/usr/sbin/sshd"))]
        for pid in running():
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        wait_until(lambda: not running(), 5, f"no sshd on {self.name}")

    def start_haproxy(self, *config_paths, master_socket="/run/haproxy/master.sock"):
        """A real HAProxy, master and worker, with the config that lies in the host (default:
        /etc/haproxy/haproxy.cfg), which may be of several files; returns a HAProxy.

        The config decides on the admin socket; show_stat() and command() want /run/haproxy/admin.sock.
        `systemctl reload haproxy` works in the host afterwards. `master_socket`: what `-S` takes, for that path.
        """
        files = [word for path in config_paths or ("/etc/haproxy/haproxy.cfg",) for word in ("-f", path)]
        self.script("systemctl", _SYSTEMCTL.format(files=" ".join(files)))
        process = self.popen(["haproxy", "-W", *files, "-p", "/run/haproxy.pid", "-S", master_socket], log="haproxy.log")
        haproxy = HAProxy(self, process)
        haproxy.wait_ready()
        return haproxy

    def start_app(self, port=80, name=None, delay=0.0, healthy=True, bind="::"):
        """A small HTTP/1.1 app server in a process of its own; returns its Process.

        GET / answers `name` (default: the host's), GET /healthz 200 or, with healthy=False, 503; all else
        404. It listens `delay` seconds after its start; without a delay, this waits until it does.
        """
        script = Path(__file__).with_name("app_server.py")
        app = self.popen([sys.executable, "-I", script, port, name or self.name, delay,
                          "healthy" if healthy else "sick", bind], log=f"app-{port}.log")
        if not delay:
            app.wait_line("^listening")
        return app


class HAProxy:
    """A running HAProxy; `process` is its Process, `reload_command` the shell line that reloads it inside."""

    reload_command = "kill -USR2 $(cat /run/haproxy.pid)"

    def __init__(self, host, process):
        self.host, self.process = host, process

    @property
    def pid(self):
        """The master's process id inside the host."""
        return int(self.host.path("/run/haproxy.pid").read_text().split()[0])

    @property
    def workers(self):
        """[(worker's pid inside the host, number of reloads it has lived through)], from the master itself."""
        text = self.command("show proc", "/run/haproxy/master.sock", timeout=1)
        return [(int(pid), int(reloads)) for pid, reloads in re.findall(r"^(\d+)\s+worker\s+(\d+)", text, re.M)]

    def wait_ready(self, timeout=10):
        """Waits until the master answers and has a worker."""
        def ready():
            if not self.process.alive:
                raise AssertionError(f"haproxy on {self.host.name} ended:\n{self.process.text()}")
            try:
                return self.workers
            except OSError:  # it listens a little before it answers
                return None
        wait_until(ready, timeout, lambda: f"haproxy is up; its log:\n{self.process.text()}", every=0.02)

    def reload(self, wait=True):
        """SIGUSR2 to the master; `wait` until a new worker serves (a bad config never gets there)."""
        before = {pid for pid, _ in self.workers}
        self.process.kill(signal.SIGUSR2)
        if wait:
            self.wait_reloaded(before)

    def wait_reloaded(self, before, timeout=10):
        """Waits until there is a worker that is not among the pids `before`."""
        def reloaded():
            try:
                return any(pid not in before for pid, _ in self.workers)
            except OSError:  # the master is between two lives
                return False
        wait_until(reloaded, timeout, lambda: f"haproxy reloaded; its log:\n{self.process.text()}", every=0.02)

    def command(self, text, path="/run/haproxy/admin.sock", timeout=10):
        """Sends one line to the admin socket; returns the whole answer."""
        with self.host.unix(path, timeout) as connection:
            connection.sendall(text.encode() + b"\n")
            connection.shutdown(socket.SHUT_WR)  # the master's socket would wait for more
            answer = b""
            while data := connection.recv(65536):
                answer += data
        return answer.decode()

    def show_stat(self):
        """`show stat` as a list of dicts, one per row, by column name (pxname, svname, status, scur, addr …)."""
        return list(csv.DictReader(self.command("show stat").removeprefix("# ").strip().splitlines()))

    def servers(self, backend="servers"):
        """{server name: status} of one backend."""
        return {row["svname"]: row["status"] for row in self.show_stat()
                if row["pxname"] == backend and row["svname"] not in ("BACKEND", "FRONTEND")}

    def wait_servers(self, count, backend="servers", timeout=10):
        """Waits until exactly `count` servers of the backend are UP; returns their names."""
        def up():
            names = [name for name, status in self.servers(backend).items() if status.startswith("UP")]
            return names if len(names) == count else None
        return wait_until(up, timeout, lambda: f"{count} servers are UP: {self.servers(backend)}")
