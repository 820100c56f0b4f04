"""A site whose scale-up can be held at each of its steps, and looked at from outside."""

import contextlib
import os
import shutil
import signal
import threading
import time

from lab import wait_until
from lab.hosts import BIN
from peers import Peer
from site_lab import Site

# As runit keeps a service: started again a second after its end.
KEPT = 'while :; do autoscaler "$@"; sleep 1; done'
# In the place of the binary on a HAProxy host.
HELD = '#!/bin/sh\nif [ "$1" = add-host ]; then while [ -e /run/held ]; do sleep 0.05; done; fi\nexec autoscaler-real "$@"\n'
# In the place of the binary: it runs in an emulator of this same processor, whose system clock, and no other, is what
# the host's /run/clock says, such as +3600.
LIBFAKETIME = f"/usr/lib/{os.uname().machine}-linux-gnu/faketime/libfaketimeMT.so.1"
# The mark of a service that ignores SIGHUP already: to ignore it, a service starts itself anew, which no emulator outlives.
CLOCKED = """#!/bin/sh
trap '' HUP
export AUTOSCALER_SIGHUP=ignored LD_PRELOAD={library} FAKETIME_TIMESTAMP_FILE=/run/clock FAKETIME_NO_CACHE=1 FAKETIME_DONT_FAKE_MONOTONIC=1
exec autoscaler-emulator -U LD_PRELOAD {binary} "$@"
"""
STEPS = {
    "granted": "has the lease, has not launched",
    "launching": "RunInstances is carried out, its answer on its way",
    "booting": "the machine is pending",
    "waiting": "the machine runs and does not serve yet",
    "entering": "ssh to the HAProxy hosts, `add-host` begun",
}


class FaultSite(Site):
    """Two HAProxy hosts and two app servers; everything ends with the `with` block. app1 scales, and as soon as it
    is held at a step, app2 wants to as well."""

    def __init__(self, scratch, binary, limits=":", clocked=False, cooldown="5m"):
        # One machine, however many the loads of two call for.
        settings = {"scaling": {"cooldown": cooldown, "max_step": "1"}, "machine": {"boot_timeout": "30s"}}
        super().__init__(scratch, binary, balancers=2, apps=2, settings=settings)
        self.limits, self.clocked, self._serves = limits, clocked, threading.Event()
        self._serves.set()
        self.callback(self._serves.set)

    def configure(self, host):
        super().configure(host)
        name = "autoscaler"
        if host in self.balancers:
            name = "autoscaler-real"
            host.install(self.binary, name)
            host.script("autoscaler", HELD)
        if self.clocked:
            host.install(self.binary, "autoscaler-native")
            host.install(shutil.which(f"qemu-{os.uname().machine}"), "autoscaler-emulator")
            host.script(name, CLOCKED.format(library=LIBFAKETIME, binary=f"{BIN}/autoscaler-native"))

    def start_master(self, lb):
        self.masters[lb.name] = lb.popen(["/bin/sh", "-c", f"{self.limits}; {KEPT}", "kept", "master"], log="master.log")
        self.masters[lb.name].wait_line("serving on")

    def start_daemon(self, host):
        self.daemons[host.name] = host.popen(["/bin/sh", "-c", f"{self.limits}; {KEPT}", "kept", "daemon"],
                                             log="daemon.log")
        self.daemons[host.name].wait_line("watching the CPU")

    def _boot(self, instance_id, address, params):
        host = self.net.host(instance_id, address)
        self._serves.wait()
        self.configure(host)
        self.watch(host)
        self.start_web(host)
        self.start_daemon(host)

    def aws(self):
        """The host of the EC2 endpoint."""
        return self.net.hosts["aws"]

    # The steps

    def hold(self, step):
        """app1's load rises, and its scale-up gets to that step, where it stays."""
        if step == "granted":
            self.ec2.fail_next("DescribeInstances", kind="hang")
        elif step == "launching":
            self.ec2.fail_next("RunInstances", kind="hang-after")
        elif step == "booting":
            self.ec2.boot_delay = 3600.0
        elif step == "waiting":
            self._serves.clear()
        elif step == "entering":
            for lb in self.balancers:
                lb.path("/run/held").touch()
        self.load["app1"].load = 90
        wait_until(lambda: self._is_held(step), 30, f"the scale-up is held: {STEPS[step]}")
        self.load["app2"].load = 90

    def _is_held(self, step):
        launched = len(self.ec2.calls("RunInstances"))
        if step == "granted":
            return self.ec2.calls("DescribeInstances")
        if step == "launching":
            return launched
        if step == "entering":
            return all(any("add-host" in argv for argv in lb.commands().values()) for lb in self.balancers)
        # Asked about after the launch, and its host is there.
        return (launched and self.ec2.requests[-1].action == "DescribeInstances"
                and self.ec2.launched[0] in self.net.hosts)

    def let_go(self):
        """The scale-up goes on from where it is held."""
        self.ec2.release()
        self.ec2.boot_delay = 0.0
        for instance in list(self.ec2.fleet.instances.values()):
            instance.running_at = min(instance.running_at, self.ec2.now())
        self._serves.set()
        for lb in self.balancers:
            lb.path("/run/held").unlink(missing_ok=True)

    def is_whole(self):
        """The site as it is meant to be: each machine in each HAProxy and up, all known to all masters, no lease."""
        names = {"app1", "app2", *self.ec2.running}
        with contextlib.suppress(OSError, AssertionError, ValueError, StopIteration):
            for lb in self.balancers:
                servers = self.haproxies[lb.name].servers()
                if set(servers) != names or not all(state == "UP" for state in servers.values()):
                    return False
                with Peer(lb.connect(65432, timeout=1)) as peer:
                    peer.greet("probe", self.secret)
                    status = peer.status()
                if status["LEASE"] or {node[0].partition("/")[0] for node in status["NODE"] if int(node[2]) <= 6} != names:
                    return False
            return len(names) > 2
        return False

    def left_over(self):
        """What runs on the hosts and should not, once the site is whole."""
        found = []
        for name, host in self.net.hosts.items():
            if host.off:
                continue
            argvs = [argv for argv in host.commands().values() if argv[0] != "/bin/sh"]
            found += [f"{name}: {' '.join(argv)}" for argv in argvs if "add-host" in argv]
            for what, limit in (("master", 1), ("daemon", 1)):
                running = [argv for argv in argvs if program(argv).startswith("autoscaler") and what in argv[1:]]
                found += [f"{name}: {len(running)} × {what}"] * (len(running) > limit)
            tunnels = [argv for argv in argvs if argv[0] == "ssh" and "-R" in argv]
            limit = len(self.ec2.running) + 2 if host in self.balancers else 0
            found += [f"{name}: {len(tunnels)} tunnels"] * (len(tunnels) > limit)
        return found


def program(argv):
    """The name of what was started so."""
    return os.path.basename(argv[0])


def kill(host, *words):
    """SIGKILL to what runs on the host with all of `words` among its arguments, its name first."""
    for pid, argv in host.commands().items():
        if program(argv).startswith(words[0]) and all(word in argv for word in words[1:]):
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)


class Visitor:
    """Asks each HAProxy of a site for a page, ten times a second, until the `with` block ends; counts in `answered`
    and `failed`, by HAProxy host. It has a stop-watch: from `harmed()`, else the beginning of the block, to `whole()`,
    else its end, are `seconds`."""

    def __init__(self, site):
        self.site, self._over = site, threading.Event()
        self.answered = {lb.name: 0 for lb in site.balancers}
        self.failed = dict(self.answered)
        self._threads = [threading.Thread(target=self._visit, args=(lb,)) for lb in site.balancers]
        self._harmed = self.seconds = None

    def __enter__(self):
        self.harmed()
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_):
        if self.seconds is None:
            self.whole()
        self._over.set()
        for thread in self._threads:
            thread.join()

    def harmed(self):
        """The stop-watch begins, anew."""
        self._harmed = time.monotonic()

    def whole(self):
        """The stop-watch ends."""
        self.seconds = time.monotonic() - self._harmed

    def _visit(self, lb):
        while not self._over.wait(0.1):
            answer = ""
            with contextlib.suppress(OSError):
                [answer] = self.site.get(lb)
            (self.answered if answer else self.failed)[lb.name] += 1
