"""The service files of packaging/, set up on a lab host under the real supervisor that each is for."""

import os
import re
import secrets
import shutil
import signal

from conftest import ROOT
from lab import missing, process, wait_until
from lab.support import children_of

PACKAGING = ROOT / "packaging"
# Unpacked by tests/setup, as it would take over this machine's boot.
OPENRC = ROOT / "target/debian/openrc"

# systemd as PID 1 of a namespace within the host: with a console and control groups of its own.
SYSTEMD = """set -e
mount -t tmpfs tmpfs /var/tmp
touch /run/console
mount --bind /run/console /dev/console
mount -t sysfs sysfs /sys
mount -t cgroup2 cgroup2 /sys/fs/cgroup || {
    mount -t tmpfs tmpfs /sys/fs/cgroup
    mkdir /sys/fs/cgroup/systemd
    mount -t cgroup -o none,name=systemd cgroup /sys/fs/cgroup/systemd
}
rm -rf /etc/systemd/system/*.wants
exec env -i container=lab PATH="$PATH" /lib/systemd/systemd --system --unit=lab.target
"""


class Log:
    """What a service has written, by the outside path of its log."""

    def __init__(self, path):
        self.path = path

    def text(self):
        return self.path.read_text() if self.path.exists() else ""

    def wait_line(self, regex, timeout=30, count=1):
        """Waits until `count` lines match."""
        wait_until(lambda: len(re.findall(regex, self.text(), re.M)) >= count, timeout,
                   lambda: f"{count} × {regex!r} in {self.path}:\n{self.text()}")


class Supervisor:
    """One service, "master" or "daemon", on one host. `stays_down`: what it says of a permanent error."""

    programs = ()

    def __init__(self, host, service):
        self.host, self.service, self.name = host, service, f"autoscaler-{service}"
        # Where the service files expect things: the binary, and a /var/log that is the host's own.
        for source, target in (("/etc/lab/bin", "/usr/local/bin"), ("/var/lib/log", "/var/log")):
            host.path(source).mkdir(exist_ok=True)
            host.run(["mount", "--bind", source, target])
        self.log = Log(host.path("/var/lib/log") / self.log_file)
        self.start()

    @property
    def log_file(self):
        return f"{self.name}/current"

    @property
    def pid(self):
        """The program's process id, as seen outside; None while it does not run."""
        return next((pid for pid, argv in self.host.commands().items()
                     if argv[0].endswith("autoscaler") and argv[-1] == self.service), None)

    def kill(self):
        os.kill(self.pid, signal.SIGKILL)

    def copy(self, target):
        shutil.copytree(PACKAGING / self.kind / self.service, self.host.path(target))


class Runit(Supervisor):
    kind, programs, stays_down = "runit", ("runsvdir", "svlogd"), "exit code 78, stays down"

    def start(self):
        self.copy(f"/etc/sv/{self.name}")
        self.host.path("/etc/service").mkdir()
        self.host.path(f"/etc/service/{self.name}").symlink_to(f"/etc/sv/{self.name}")
        self.host.popen(["runsvdir", "-P", "/etc/service"])

    def down(self):
        self.host.run(["sv", "down", f"/etc/service/{self.name}"])

    def up(self):
        self.host.run(["sv", "up", f"/etc/service/{self.name}"])

    def is_down(self):
        status = self.host.run(["sv", "status", f"/etc/service/{self.name}"]).stdout
        return status.startswith("down: ") and "want up" not in status


class S6(Supervisor):
    kind, programs, stays_down = "s6", ("s6-svscan", "s6-log"), "exit code 78, stays down"

    def start(self):
        self.host.path("/run/service").mkdir()
        self.copy(f"/run/service/{self.name}")
        self.host.popen(["s6-svscan", "/run/service"])

    def down(self):
        self.host.run(["s6-svc", "-wd", "-d", f"/run/service/{self.name}"])

    def up(self):
        self.host.run(["s6-svc", "-u", f"/run/service/{self.name}"])

    def is_down(self):
        return "down (" in self.host.run(["s6-svstat", f"/run/service/{self.name}"]).stdout


class OpenRc(Supervisor):
    kind, stays_down = "openrc", "autoscaler.ini:1: "

    @property
    def log_file(self):
        return f"autoscaler/{self.service}.log"

    def start(self):
        host = self.host
        host.run(["umount", "/usr/local/bin"])
        host.run(["mount", "-t", "overlay", "-o", f"lowerdir={OPENRC}/usr:/usr", "overlay", "/usr"])
        host.run(["mount", "--bind", "/etc/lab/bin", "/usr/local/bin"])
        for directory in ("init.d", "conf.d", "runlevels"):
            host.path(f"/etc/{directory}").mkdir(exist_ok=True)
        shutil.copy(OPENRC / "etc/rc.conf", host.path("/etc/rc.conf"))
        shutil.copy(PACKAGING / "openrc" / self.name, host.path("/etc/init.d"))
        # It gives up after three tries here, and not after ten.
        host.path(f"/etc/conf.d/{self.name}").write_text("respawn_delay=1\nrespawn_max=3\n")
        # As after a boot by OpenRC.
        for state in ("starting", "started", "stopping", "inactive", "wasinactive", "failed", "hotplugged", "daemons",
                      "options", "exclusive", "scheduled", "tmp"):
            host.path(f"/run/openrc/{state}").mkdir(parents=True)
        host.path("/run/openrc/softlevel").touch()
        self.up()

    def service_command(self, *words, check=True):
        return self.host.run([f"/etc/init.d/{self.name}", *words], check=check)

    def down(self):
        self.service_command("stop")

    def up(self):
        self.service_command("zap")
        self.service_command("start")

    def is_down(self):
        return self.service_command("status", check=False).returncode != 0


class Systemd(Supervisor):
    kind, programs, stays_down = "systemd", ("systemd-analyze",), "autoscaler.ini:1: "

    @property
    def log_file(self):
        return f"{self.name}.log"

    def start(self):
        units = self.host.path("/etc/systemd/system")
        (units / f"{self.name}.service.d").mkdir(parents=True)
        shutil.copy(PACKAGING / "systemd" / f"{self.name}.service", units)
        # Without it this would count as the first boot, which enables services.
        self.host.path("/etc/machine-id").write_text(f"{secrets.token_hex(16)}\n")
        # There is no journald, and nothing of what else belongs to a boot.
        (units / f"{self.name}.service.d/lab.conf").write_text(
            f"[Unit]\nDefaultDependencies=no\n[Service]\nStandardOutput=append:/var/log/{self.log_file}\n")
        for target in ("lab", "network-online"):
            (units / f"{target}.target").write_text("[Unit]\nDescription=The lab\nDefaultDependencies=no\n")
        unshare = self.host.popen(["unshare", "--pid", "--mount", "--cgroup", "--fork", "--kill-child", "--mount-proc",
                                   "/bin/sh", "-c", SYSTEMD], log="systemd.log")
        [self.init] = wait_until(lambda: children_of(unshare.pid), 10, "unshare forked")
        wait_until(lambda: self.systemctl("is-system-running", check=False).stdout == "running\n", 30,
                   lambda: f"systemd runs; it said:\n{(self.host.dir / 'systemd.log').read_text()}", every=0.1)
        self.up()

    def systemctl(self, *words, check=True):
        # From within its namespace: it answers only whom it can see.
        return process.run(process.nsenter(self.init, ["/usr/bin/systemctl", *words]), env=self.host.environment(),
                           timeout=60, check=check, input=None)

    @property
    def pid(self):
        """As seen by systemd."""
        return int(self.systemctl("show", "--property=MainPID", "--value", self.name).stdout) or None

    def kill(self):
        self.systemctl("kill", "--signal=KILL", self.name)

    def down(self):
        self.systemctl("stop", self.name)

    def up(self):
        self.systemctl("start", self.name)

    def is_down(self):
        return self.systemctl("is-active", self.name, check=False).stdout in ("failed\n", "inactive\n")


SUPERVISORS = (Runit, S6, OpenRc, Systemd)


def unavailable(supervisor):
    """What keeps `supervisor` from being tried here; None if nothing."""
    if supervisor is OpenRc and not (OPENRC / ".unpacked").exists():
        return "openrc is not unpacked: run tests/setup"
    return missing("sshd", "haproxy", *supervisor.programs)
