"""The site of `make demo`: a HAProxy host, an app server and EC2, set up with the commands that a user types."""

import contextlib
import os
import re
import time
from pathlib import Path

from lab import Ec2Endpoint, Network

THRESHOLD, WINDOW = 60, 3  # percent, seconds
BOOT, SERVES = 1.6, 0.8    # seconds until EC2 says `running`, and from then on until the machine serves
QUIET_WITHIN = 40          # seconds that a busy machine gets to become quiet
INI = "/etc/autoscaler/autoscaler.ini"
# What Debian's package leaves: a HAProxy that runs and serves nothing yet.
EMPTY_HAPROXY = "global\n    stats socket /run/haproxy/admin.sock mode 660 level admin\n"


class Failed(Exception):
    """The demo cannot go on; the text says why and what to do."""


def cpu_ticks():
    """(busy, all) ticks of this machine since its boot; idle and iowait are not busy."""
    with open("/proc/stat") as stat:
        ticks = [int(word) for word in stat.readline().split()[1:9]]
    return sum(ticks) - ticks[3] - ticks[4], sum(ticks)


def choose_threshold(screen):
    """(The threshold in percent, above what this machine does anyway; what it does anyway)."""
    for attempt in range(QUIET_WITHIN):
        before = cpu_ticks()
        screen.pause(1.0, "measuring this machine's CPU before the load")
        busy, total = (after - earlier for after, earlier in zip(cpu_ticks(), before))
        if total == 0:
            raise Failed("/proc/stat stands still on this machine, so no load can be seen in it.")
        percent = 100 * busy / total
        if percent < 90:
            break
        if attempt == 0:
            screen.line(f"This machine's CPU is at {percent:.0f}% without the demo: waiting for a quieter moment.")
    else:
        raise Failed("The CPU stays at 90% or more without the demo, which so can't show it rise.\n"
                     "Run it again when this machine has less to do.")
    if percent < THRESHOLD - 15:
        screen.line(f"This machine's CPU before the load: {percent:.0f}%.")
        return THRESHOLD, percent
    threshold = round((percent + 100) / 2)
    screen.line(f"This machine's CPU before the load: {percent:.0f}%, so the threshold is raised to {threshold}%.")
    return threshold, percent


def set_keys(ini, settings):
    """The text of an INI as `init` writes it, with {section: {key: value}} filled in as by hand."""
    for section, keys in settings.items():
        head, title, rest = ini.partition(f"[{section}]\n")
        for key, value in keys.items():
            line = f"{key} = {value}"
            rest, count = re.subn(rf"^#?{key} =.*$", lambda _, line=line: line, rest, count=1, flags=re.M)
            if not (title and count):
                raise Failed(f"The INI that `autoscaler init` makes has no key `{key}` in [{section}].")
        ini = head + title + rest
    return ini


class DemoSite(contextlib.ExitStack):
    """The site; everything ends with the `with` block."""

    def __init__(self, binary, scratch, screen):
        super().__init__()
        self.binary, self.scratch, self.screen = binary, scratch, screen
        self.answers, self.burners, self.daemons = [], [], {}
        self.ini = ""
        self.is_quiet = False  # enough to show a falling load

    def build(self):
        """Hosts, EC2, HAProxy and a web site: what is there before autoscaler comes."""
        self.screen.waiting("making hosts and an EC2 endpoint")
        net = self.net = self.enter_context(Network(self.scratch))
        self.aws, self.lb, self.app, self.client = (net.host(name) for name in ("aws", "lb1", "app1", "client"))
        self.ec2 = self.enter_context(Ec2Endpoint(host=self.aws, on_launch=self.boot, boot_delay=BOOT,
                                                    on_terminate=lambda instance: net.hosts[instance].kill()))
        self.lb.install(self.binary, "autoscaler")
        self.lb.start_sshd()
        self.lb.path("/etc/haproxy/haproxy.cfg").write_text(EMPTY_HAPROXY)
        self.haproxy = self.lb.start_haproxy()
        self.serve(self.app)

    def serve(self, host):
        """What every app server has: the program, sshd and a web site."""
        host.install(self.binary, "autoscaler")
        host.start_sshd()
        host.start_app(80)

    def boot(self, instance, address, _params):
        """EC2 boots the image: what app1 has, its INI too, and the daemon starts by itself."""
        serves = time.monotonic() + BOOT + SERVES
        host = self.net.host(instance, address)
        time.sleep(max(0.0, serves - time.monotonic()))
        host.path(INI).write_text(self.ini)
        host.path(INI).chmod(0o600)
        self.serve(host)
        self.daemons[instance] = host.popen(["autoscaler", "daemon"], log="daemon.log")

    def settings(self):
        """The keys that the demo sets; all others keep their defaults."""
        subnet = next(iter(self.ec2.subnets.values()))
        threshold, anyway = choose_threshold(self.screen)
        # A machine leaves only if the others can take its load, with room to spare; and here all
        # of them see the load of this one machine.
        self.is_quiet = anyway < 0.3 * threshold
        return {
            "aws": {"aws_access_key": self.ec2.access_key, "aws_secret_key": self.ec2.secret_key,
                    "aws_default_region": self.ec2.region, "endpoint_url": self.ec2.url,
                    "metadata_url": self.ec2.metadata_url},
            "machine": {"scale_up_command": f"aws ec2 run-instances --image-id {self.ec2.image}"
                                            f" --instance-type t3.small --subnet-id {subnet}",
                        "boot_timeout": "30s"},
            "scaling": {"threshold": threshold, "sample_interval": "500ms", "window": f"{WINDOW}s",
                        "cooldown": "5s", "max_hosts": 2, "scale_down_threshold": threshold // 2,
                        "scale_down_window": "5s", "scale_down_cooldown": "5s"},
            "cluster": {"name": "demo"},
            "haproxy": {"servers": self.lb.name, "ssh_user": "root"},
        }

    def set_up(self):
        """autoscaler on both hosts, as its user sets it up and starts it."""
        settings = self.settings()
        self.screen.title("Set-up, as you would do it")
        self.type(self.lb, "autoscaler init")
        self.screen.line(f"  lb1#   vi {INI}")
        for section, keys in settings.items():
            for key, value in keys.items():
                value = "(of the local EC2)" if key.endswith(("access_key", "secret_key")) else value
                text = f"           [{section}] {key} = {value}"
                self.screen.line(self.screen.paint("2", text if len(text) <= 80 else text[:77] + "..."))
        self.ini = set_keys(self.lb.path(INI).read_text(), settings)
        self.lb.path(INI).write_text(self.ini)
        self.type(self.lb, "autoscaler add-host app1 80")
        self.type(self.lb, "autoscaler generate")
        self.haproxy.wait_servers(1)
        self.master = self.start(self.lb, "autoscaler master")
        self.type(self.lb, f"scp -pqo StrictHostKeyChecking=accept-new {INI} app1:{Path(INI).parent}")
        self.master.wait_line("tunnel app1: up")
        self.daemons["app1"] = self.start(self.app, "autoscaler daemon")
        self.daemons["app1"].wait_line("master lb1: connected")

    def type(self, host, command):
        """Shows and runs a command as a user would; returns what it printed."""
        self.screen.line(f"  {host.name + '#':<6} {command.replace('-pqo StrictHostKeyChecking=accept-new', '-p')}")
        return host.run(command.split()).stdout

    def start(self, host, command):
        """Shows and starts a daemon as a user would; returns its Process."""
        self.screen.line(f"  {host.name + '#':<6} {command} &")
        return host.popen(command.split(), log=f"{command.split()[-1]}.log")

    # Load and requests

    def load(self):
        """Keeps every CPU busy, at the lowest priority, so that real work goes first."""
        for _ in range(os.cpu_count()):
            self.burners.append(self.app.popen(["nice", "-n", "19", "sh", "-c", "while :; do :; done"], log="load.log"))

    def rest(self):
        """Ends the load."""
        for burner in self.burners:
            burner.kill()

    def ask(self):
        """One request to the site; returns who answered it, `-` where there was no good answer."""
        try:
            with self.client.connect(80, self.lb.address, timeout=5) as connection:
                connection.sendall(b"GET / HTTP/1.0\r\nHost: site\r\n\r\n")
                answer = b"".join(iter(lambda: connection.recv(4096), b"")).decode()
        except OSError:
            answer = ""
        head, _, body = answer.partition("\r\n\r\n")
        self.answers.append(body.strip() if " 200 " in head.split("\r\n")[0] else "-")
        return self.answers[-1]
