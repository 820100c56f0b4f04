"""What goes wrong on a site, row by row, and how long it takes until all is well again.

`make faults` runs every row on real parts and writes the table to docs/faults.md. Rows at rest are the scenarios of
at_rest.py. Any other holds the scale-up of app1 at one step, does the harm, lets go, and then waits until the site is
whole: the new machine behind both HAProxies and up, every node known to both masters, nobody with a lease. On the way
traffic is watched, and at the end there is exactly one machine more, nothing left running, and a line in a log that
says what happened.
"""

import contextlib
import multiprocessing
import os
import re
import sys
import tempfile
import time
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Callable

import at_rest
from fault_site import STEPS, FaultSite, Visitor, kill, program
from lab import wait_until
from screen import Screen

TARGET = Path(__file__).resolve().parents[2] / "docs/faults.md"
WHOLE_WITHIN = 120  # seconds: what a daemon leaves behind waits for the next look, within a minute, and for a slow machine
LEASE, HEARTBEAT = 4, 5
AT_ONCE = 6  # rows mostly wait


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
    cooldown: str = "5m"  # short where app1 is DOWN amid it: as it comes back UP, a cooldown begins


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
            if program(argv).startswith("autoscaler"):
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
          r"app1: the lease ran out|i-\w+ is in HAProxy on lb1", ("granted", "launching", "booting", "waiting")),
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
          r"HAProxy host lb1: |the lease ran out|connection lost", ("never",), lasts=6.0, through=("lb2",), cooldown="20s"),
    Fault("cable cut: app server and new machine", ("waiting",), _cut("app1", "new"), "", lasts=6.0),
    Fault("cable cut: a HAProxy host and the new machine", ("entering",), _cut("lb1", "new"), "",
          lasts=6.0),
    Fault("cable cut: app server from everything, for longer than a lease", ("granted",), _cut("app1"),
          r"app1: the lease ran out", lasts=3.0 * LEASE, through=(), cooldown="20s"),
    Fault("cable cut: app server from everything, for longer than three heartbeats", ("booting", "entering"), _cut("app1"),
          r"master lb1: connection lost", lasts=4.0 * HEARTBEAT, through=()),
    Fault("slow link: EC2, 0.2 s each way", ("granted",), _slow("aws"), "", lasts=10.0),
    Fault("slow link: app server, 0.2 s each way", ("granted",), _slow("app1"), "", lasts=10.0, cooldown="20s"),
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


@dataclass
class Trouble:
    """A scenario of at_rest, and what one of the logs has to say about it."""
    what: str
    scenario: Callable
    says: str


TROUBLES = (
    Trouble("the app of one of two is dead, and the other is idle: it stays, and the sick one is terminated",
            at_rest.the_last_that_serves_stays, r"nobody else is UP"),
    Trouble("the termination of one that leaves is refused: it is protected",
            partial(at_rest.a_refused_termination_frees_the_lease, how="protected"), r"goes back into service"),
    Trouble("the termination of one that leaves is refused: the right to it is missing",
            partial(at_rest.a_refused_termination_frees_the_lease, how="right"), r"allow ec2:TerminateInstances"),
    Trouble("a typo in the template of every HAProxy host, under load: nothing is launched; then one is mended",
            partial(at_rest.nothing_is_launched_while_no_haproxy_could_take_it, why="template"), r"unknown keyword"),
    Trouble("no space for entries on every HAProxy host, under load: nothing is launched; then one has space again",
            partial(at_rest.nothing_is_launched_while_no_haproxy_could_take_it, why="disk"), r"No space left"),
    Trouble("EC2 gives a new machine the address of one that is gone and was entered",
            at_rest.a_machine_at_an_old_address_takes_the_entrys_place, r"10\.77\.0\.100"),
    Trouble("a HAProxy host is made anew, and one of four machines entered by hand",
            at_rest.a_haproxy_host_made_anew_gets_all_that_serve, r"is in HAProxy on lb1"),
)


def rows():
    """(fault, step) of every row amid a scale-up."""
    return [(fault, step) for fault in FAULTS for step in fault.steps]


def run_trouble(trouble, binary, scratch):
    """One row at rest, on a site of its own."""
    visitor = trouble.scenario(scratch, binary)
    said = _said(trouble.says, visitor.site)
    return Outcome(visitor.seconds, visitor.failed, said, [] if said else [f"no line in the logs matches {trouble.says}"])


def run_row(fault, step, binary, scratch):
    """One row on a site of its own."""
    with FaultSite(scratch, binary, fault.limits, fault.clocked, fault.cooldown) as site:
        site.start()
        site.hold(step)
        marks = {process: process.mark() for process in _logged(site)}
        with Visitor(site) as visitor:
            undo = fault.harm(site)
            site.let_go()
            if undo:
                time.sleep(fault.lasts)
                undo()
            wait_until(site.is_whole, WHOLE_WITHIN, lambda: f"the site is whole; {_state(site)}", every=0.1)
        for load in site.load.values():
            load.load = 10
        said = _said(fault.says, site, marks)
        outcome = Outcome(visitor.seconds, visitor.failed, said)
        if fault.says and not said and (not fault.says_at or step in fault.says_at):
            outcome.wrong.append(f"no line in the logs matches {fault.says}")
        if len(site.ec2.running) != 1 or len(site.ec2.launched) != 1:
            outcome.wrong.append(f"launched {site.ec2.launched}, of which {site.ec2.running} run")
        outcome.wrong += [f"{visitor.failed[lb]} requests failed on {lb}" for lb in fault.through if visitor.failed[lb]]
        left = []

        def is_tidy():
            left[:] = site.left_over()
            return not left

        with contextlib.suppress(AssertionError):
            wait_until(is_tidy, 15)
        outcome.wrong += left  # as last seen: once tidy, a try again that comes later is none
        return outcome


def _logged(site):
    return (*site.masters.values(), *site.daemons.values())


def _said(pattern, site, marks=None):
    """The first line of the site's logs, since these marks, that matches; "" for none."""
    for process in _logged(site):
        for line in process.text((marks or {}).get(process, 0)).splitlines():
            if pattern and re.search(pattern, line):
                return f"{process.name.split()[-1]}: {line.removeprefix('autoscaler: ')}"
    return ""


def _state(site):
    logs = [f"--- {process.name}\n{process.text()[-3000:]}" for process in _logged(site)]
    servers = {lb.name: site.haproxies[lb.name].servers() for lb in site.balancers}
    return f"{servers}, launched {site.ec2.launched}, running {site.ec2.running}\n" + "\n".join(logs)


def _table():
    """(what happens, when, `run(binary, scratch)`) of every row. Those at rest take longest, and come first."""
    return ([(trouble.what, "at rest", partial(run_trouble, trouble)) for trouble in TROUBLES]
            + [(fault.what, step, partial(run_row, fault, step)) for fault, step in rows()])


def _outcome(number, binary):
    """Row and outcome of the table's row of that number, in a process of its own."""
    run = _table()[number][2]
    with tempfile.TemporaryDirectory(prefix="autoscaler-faults-") as scratch:
        try:
            return number, run(binary=Path(binary).resolve(), scratch=Path(scratch))
        except (AssertionError, KeyError, OSError, RuntimeError) as error:
            return number, Outcome(float("nan"), {}, "", [str(error)])


def _line(what, when, outcome):
    lost = sum(outcome.failed.values()) or "none"
    said = outcome.said.replace("|", "\\|") or "–"
    return f"| {what} | {STEPS.get(when, when)} | {outcome.recovery:.1f} s | {lost} | {said} |"


def main(binary, only=""):
    """Runs the rows whose text has `only` in it, prints each; writes the table if it ran all of them."""
    screen, lines, bad = Screen(), {}, 0
    table = _table()
    chosen = [number for number, (what, when, _) in enumerate(table) if only in f"{what}: {when}"]
    with multiprocessing.Pool(AT_ONCE, maxtasksperchild=1) as pool:
        pending = [pool.apply_async(_outcome, (number, binary)) for number in chosen]
        while pending:
            screen.waiting(f"{len(chosen) - len(pending)} of {len(chosen)} rows are through")
            pending[0].wait(0.1)
            for done in [each for each in pending if each.ready()]:
                pending.remove(done)
                number, outcome = done.get()
                what, when, _ = table[number]
                lost = sum(outcome.failed.values())
                screen.line(f"{outcome.recovery:6.1f} s  {what}: {when}" + f"  ({lost} requests lost)" * (lost > 0))
                for wrong in outcome.wrong:
                    screen.line(f"          WRONG: {wrong}")
                bad += bool(outcome.wrong)
                lines[number] = _line(what, when, outcome)
    if not only and not bad:
        TARGET.write_text(HEAD + "\n".join(line for _, line in sorted(lines.items())) + "\n")
        screen.line(f"written to {TARGET.name}")
    return 1 if bad else 0


HEAD = f"""# Faults, and how long they last

Made by `make faults`, on real parts: HAProxy hosts, app servers, sshd, and an EC2 endpoint, each in namespaces of its
own. Nothing that serves was terminated, and nothing was launched that no load called for.

In the rows at rest, something is amiss on a site that has no other trouble. The time is until all is well: the machine
is gone, or back in service, or everything that serves is entered. Where the trouble lasts until somebody mends it, the
time is from then on. Who is to put it right is told to look about once a minute.

In the others, two busy app servers stand behind two HAProxies, and something breaks while app1 is in the middle of a
scale-up; processes are started again after a second, as runit does, and cables are mended. The time is from the fault
until the site is whole: one machine more, behind both HAProxies and up, every node known to both masters, nobody with a
lease (here {LEASE} s). In each, exactly one machine was launched, and nothing was left running. What a dead daemon leaves
behind waits for the next look.

| what happens | when | whole after | requests lost | what the log says |
|---|---|--:|--:|---|
"""

if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
