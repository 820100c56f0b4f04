"""What goes wrong on a site while it scales up, row by row, and how long it takes until all is well again.

`make faults` runs every row on real parts and writes the table to docs/faults.md. A row holds the scale-up of app1
at one step, does the harm, lets go, and then waits until the site is whole: the new machine behind both HAProxies and
up, every node known to both masters, nobody with a lease. On the way traffic is watched, and at the end there is
exactly one machine more, nothing left running, and a line in a log that says what happened.
"""

import contextlib
import os
import re
import sys
import tempfile
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Callable

from fault_site import STEPS, FaultSite, Visitor, kill
from lab import wait_until
from screen import Screen

TARGET = Path(__file__).resolve().parents[1] / "docs/faults.md"
WHOLE_WITHIN = 100  # seconds: a lease, a back-off and a boot, on a slow machine
LEASE = 4


@dataclass
class Fault:
    """`harm(site)` does it and may return what undoes it, called after `lasts` seconds. `says`: what one of the logs
    has to say about it, at these steps or (empty) at all. `through`: the HAProxy hosts that have to answer all the
    time."""
    what: str
    steps: tuple
    harm: Callable
    says: str
    says_at: tuple = ()
    lasts: float = 1.0
    through: tuple = ("lb1", "lb2")
    limits: str = ":"
    clocked: bool = False


@dataclass
class Outcome:
    """What came of a row: seconds until the site was whole, requests lost by host, what the log said."""
    recovery: float
    failed: dict
    said: str
    wrong: list = field(default_factory=list)


def _lb1(site):
    return site.balancers[0]


def _app1(site):
    return site.apps[0]


def _sshd(*hosts):
    def harm(site):
        stopped = [site.net.hosts[name] for name in hosts]
        for host in stopped:
            host.stop_sshd()
        return lambda: [host.start_sshd() for host in stopped]
    return harm


def _ssh(site):
    for host in (_lb1(site), _app1(site)):
        kill(host, "ssh", "-o")


def _haproxy(site):
    kill(_lb1(site), "haproxy")
    site.haproxies["lb1"].process.wait()

    def start():
        site.haproxies["lb1"] = _lb1(site).start_haproxy()
    return start


def _cut(one, *others):
    def harm(site):
        host = site.net.hosts[_name(site, one)]
        host.cut(*(site.net.hosts[_name(site, other)] for other in others))
        return host.mend
    return harm


def _slow(name, milliseconds=200):
    def harm(site):
        host = site.net.hosts[_name(site, name)]
        host.slow(milliseconds)
        return lambda: host.slow(0)
    return harm


def _name(site, name):
    return site.ec2.launched[0] if name == "new" else name


def _disk_full(site):
    lb1 = _lb1(site)
    state = "/var/lib/autoscaler"
    lb1.run(["mount", "-t", "tmpfs", "-o", "size=4k", "none", state])
    lb1.run(["/bin/sh", "-c", f"cat /dev/zero >{state}/full"], check=False)
    kill(lb1, "autoscaler", "master")
    return lambda: lb1.run(["umount", state])


def _read_only(site):
    lb1 = _lb1(site)
    lb1.run(["mount", "-o", "remount,bind,ro", "/etc"])
    return lambda: lb1.run(["mount", "-o", "remount,bind,rw", "/etc"])


def _clock(seconds):
    def harm(site):
        site.ec2.clock_offset = seconds
    return harm


def _step_clock(*names, master_dies=False):
    """The system clock of these hosts goes an hour forward, then, by the undoing, to an hour behind."""
    def step(site, seconds):
        for name in names:
            site.net.hosts[name].path("/run/clock").write_text(f"{seconds:+}\n")
        if master_dies:
            kill(_lb1(site), "autoscaler", "master")

    def harm(site):
        step(site, 3600)
        return lambda: step(site, -3600)
    return harm


def _no_processes(site):
    """No process of autoscaler on lb1 and app1 may start another, nor a thread."""
    root = Path("/sys/fs/cgroup")  # version 1 has a tree for each limit
    if (root / "pids").is_dir():
        root /= "pids"
    else:
        (root / "cgroup.subtree_control").write_text("+pids")
    group = root / f"autoscaler-faults-{os.getpid()}"
    group.mkdir(exist_ok=True)  # an earlier row may have ended amid it
    (group / "pids.max").write_text("max")

    def move(pid, where):
        with contextlib.suppress(ProcessLookupError):  # it has just ended
            (where / "cgroup.procs").write_text(str(pid))

    for host in (_lb1(site), _app1(site)):
        for pid, argv in host.commands().items():
            if argv[0].startswith("autoscaler"):
                move(pid, group)
    (group / "pids.max").write_text("0")

    def undo():
        for pid in (group / "cgroup.procs").read_text().split():
            move(pid, root)
        group.rmdir()
    return undo


def _no_stat(site):
    site.load["app1"].close()
    site.load["app1"].path.joinpath("stat").unlink()

    def back():
        site.watch(_app1(site), 90)
    return back


EVERY = tuple(STEPS)
FAULTS = (
    Fault("the daemon that scales is killed", EVERY, lambda site: kill(_app1(site), "autoscaler", "daemon"),
          r"app1: the lease ran out|app1: is back|app1: connection lost|app1: (gone|left)"),
    Fault("a master is killed", EVERY, lambda site: kill(_lb1(site), "autoscaler", "master"),
          r"master lb1: connection lost"),
    Fault("all ssh of a HAProxy host and of the daemon are killed", EVERY,
          _ssh,
          r"tunnel app1: down"),
    Fault("sshd of a HAProxy host is killed with its sessions", EVERY, _sshd("lb1"), r"HAProxy host lb1: ", ("entering",),
          lasts=3.0),
    Fault("sshd of the app server is killed with its sessions", EVERY, _sshd("app1"), r"tunnel app1: down"),
    Fault("a HAProxy is killed", EVERY, _haproxy, r"lb1: .*(HAProxy|admin\.sock|haproxy)", ("never",), lasts=2.0,
          through=("lb2",)),
    Fault("cable cut: app server and EC2", ("granted", "booting"), _cut("app1", "aws"), r"EC2|RunInstances|DescribeInst",
          ("never",), lasts=6.0),
    Fault("cable cut: app server and a HAProxy host", ("granted", "booting", "entering"), _cut("app1", "lb1"),
          r"HAProxy host lb1: |the lease ran out|connection lost", ("never",), lasts=6.0, through=("lb2",)),
    Fault("cable cut: app server and new machine", ("waiting",), _cut("app1", "new"), "", lasts=6.0),
    Fault("cable cut: a HAProxy host and the new machine", ("entering",), _cut("lb1", "new"), "",
          lasts=6.0),
    Fault("cable cut: app server from everything, for longer than a lease", ("booting", "entering"), _cut("app1"),
          r"app1: the lease ran out", lasts=3.0 * LEASE, through=()),
    Fault("slow link: EC2, 0.2 s each way", ("granted",), _slow("aws"), "", lasts=10.0),
    Fault("slow link: app server, 0.2 s each way", ("granted",), _slow("app1"), "", lasts=10.0),
    Fault("slow link: a HAProxy host, 50 ms each way", ("granted",), _slow("lb1", 50), "", lasts=10.0),
    Fault("a master is killed, and its disk is full when it comes back", ("booting",), _disk_full,
          r"/var/lib/autoscaler.*([Nn]o space)", lasts=5.0),
    Fault("/etc of a HAProxy host is read-only", ("entering",), _read_only, r"HAProxy host lb1: .*[Rr]ead-only",
          lasts=5.0),
    Fault("the clock is an hour fast, against EC2's", ("granted",), _clock(-3600.0), r"clock"),
    Fault("the clock is an hour slow, against EC2's", ("granted",), _clock(3600.0), r"clock"),
    Fault("the clock of the app server steps an hour forward, then two back", ("granted", "booting"), _step_clock("app1"),
          r"clock", clocked=True),
    Fault("the clock of a HAProxy host steps so, and its master is killed each time", ("booting",),
          _step_clock("lb1", master_dies=True), r"master lb1: connection lost", lasts=3.0, clocked=True),
    Fault("/proc/stat is gone", ("booting",), _no_stat, r"stat.*[Nn]o such file", lasts=2.0),
    Fault("no process of a master and of the daemon that scales may start another, or a thread", EVERY, _no_processes,
          r"Resource temporarily unavailable", ("granted",), lasts=5.0),
    Fault("64 MB of memory and 40 files, for masters and daemons", ("granted",), lambda site: None, "", limits="ulimit -v 65536 -n 40"),
)


def rows():
    """(fault, step) of every row."""
    return [(fault, step) for fault in FAULTS for step in fault.steps]


def run_row(fault, step, binary, scratch):
    """One row on a site of its own."""
    with FaultSite(scratch, binary, fault.limits, fault.clocked) as site:
        site.start()
        site.hold(step)
        logs = {process: process.mark() for process in (*site.masters.values(), *site.daemons.values())}
        with Visitor(site) as visitor:
            began = time.monotonic()
            undo = fault.harm(site)
            site.let_go()
            if undo:
                time.sleep(fault.lasts)
                undo()
            wait_until(site.is_whole, WHOLE_WITHIN, lambda: f"the site is whole; {_state(site)}", every=0.1)
            recovery = time.monotonic() - began
        for load in site.load.values():
            load.load = 10
        said = _said(fault.says, logs)
        outcome = Outcome(recovery, visitor.failed, said)
        if fault.says and not said and (not fault.says_at or step in fault.says_at):
            outcome.wrong.append(f"no line in the logs matches {fault.says}")
        if len(site.ec2.running) != 1 or len(site.ec2.launched) != 1:
            outcome.wrong.append(f"launched {site.ec2.launched}, of which {site.ec2.running} run")
        outcome.wrong += [f"{visitor.failed[lb]} requests failed on {lb}" for lb in fault.through if visitor.failed[lb]]
        with contextlib.suppress(AssertionError):
            wait_until(lambda: not site.left_over(), 15)
        outcome.wrong += site.left_over()
        return outcome


def _said(pattern, logs):
    """The first line of the logs since their marks that matches; "" for none."""
    for process, mark in logs.items():
        for line in process.text(mark).splitlines():
            if pattern and re.search(pattern, line):
                return f"{process.name.split()[-1]}: {line.removeprefix('autoscaler: ')}"
    return ""


def _state(site):
    logs = [f"--- {process.name}\n{process.text()[-3000:]}" for process in (*site.masters.values(),
                                                                           *site.daemons.values())]
    servers = {lb.name: site.haproxies[lb.name].servers() for lb in site.balancers}
    return f"{servers}, launched {site.ec2.launched}, running {site.ec2.running}\n" + "\n".join(logs)


def main(binary, only=""):
    """Runs the rows whose text has `only` in it, prints each; writes the table if it ran all of them."""
    screen, lines, bad = Screen(), [], 0
    chosen = [row for row in rows() if only in f"{row[0].what}: {row[1]}"]
    for number, (fault, step) in enumerate(chosen, 1):
        screen.waiting(f"{number} of {len(chosen)}: {fault.what}: {step}")
        with tempfile.TemporaryDirectory(prefix="autoscaler-faults-") as scratch:
            try:
                outcome = run_row(fault, step, Path(binary).resolve(), Path(scratch))
            except (AssertionError, KeyError, OSError, RuntimeError) as error:
                outcome = Outcome(float("nan"), {}, "", [str(error)])
        lost = sum(outcome.failed.values())
        screen.line(f"{outcome.recovery:6.1f} s  {fault.what}: {step}" + f"  ({lost} requests lost)" * (lost > 0))
        for wrong in outcome.wrong:
            screen.line(f"          WRONG: {wrong}")
        bad += bool(outcome.wrong)
        lines.append(f"| {fault.what} | {STEPS[step]} | {outcome.recovery:.1f} s | {lost or 'none'} | "
                     f"{outcome.said.replace('|', chr(92) + '|') or '–'} |")
    if not only and not bad:
        TARGET.write_text(HEAD + "\n".join(lines) + "\n")
        screen.line(f"written to {TARGET.name}")
    return 1 if bad else 0


HEAD = f"""# Faults, and how long they last

Made by `make faults`, on real parts: two HAProxy hosts and two busy app servers, sshd, and an EC2 endpoint, each in
namespaces of its own. While app1 is in the middle of a scale-up, something breaks; processes are started again after
a second, as runit does, and cables are mended. The time is from the fault until the site is whole: one machine more,
behind both HAProxies and up, every node known to both masters, nobody with a lease (here {LEASE} s). In each row exactly
one machine was launched, and nothing was left running.

| what happens | when | whole after | requests lost | what the log says |
|---|---|--:|--:|---|
"""

if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
