"""The main job before your eyes: a busy app server gets a second one, which leaves when the load falls. Run
by `make demo`: BINARY.

All of it runs on this machine, in namespaces that end with this program: a HAProxy host, an app server
and an EC2 endpoint that "boots" machines. HAProxy, sshd, the CPU load and the HTTP requests are real.
"""

import contextlib
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from demo_site import DemoSite, Failed
from lab import missing
from screen import Screen

PATIENCE = 45  # seconds for one act
SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


def said(process, pattern, text):
    """A probe: once a line of the process's log matches, `text` with the groups of the match."""
    def probe():
        match = re.search(pattern, process.text(), re.M)
        return match and match.expand(text)
    return probe


class Demo(DemoSite):
    """The story that is told of the site: acts of a few steps each."""

    begin = 0.0  # of the act's load

    def show_answers(self):
        """Four requests, and who answered them."""
        self.screen.line()
        self.screen.line("Four requests, answered by:  " + " ".join(self.ask() for _ in range(4)))

    def act(self, title, steps):
        """Prints each of the `steps` (name, probe) at the moment when its probe returns a text.

        All the while one request after the other goes to the site."""
        self.screen.title(title)
        pending = dict(steps)
        while pending:
            self.ask()
            for name, probe in list(pending.items()):
                with contextlib.suppress(OSError):  # HAProxy's socket, in the middle of a reload
                    if text := probe():
                        name_shown = self.screen.paint("32", f"{name:<15}")
                        self.screen.line(f"{time.monotonic() - self.begin:5.1f} s  {name_shown} {text}")
                        del pending[name]
            if time.monotonic() > self.begin + PATIENCE:
                asked = [f"{call.action}: {call.verdict}" for call in self.ec2.requests]
                raise Failed(f"Within {PATIENCE} s there was no: {', '.join(pending)}.\nEC2 was asked for {asked}.")
            self.screen.pause(0.04, f"{time.monotonic() - self.begin:.1f} s, next: {next(iter(pending), '')}")

    def grow(self):
        """The first act: the load rises, and a machine comes."""
        def new():
            return next(iter(self.ec2.launched), "")

        def joined():
            daemon = self.daemons.get(new())
            return daemon and said(daemon, "master lb1: connected", "its own daemon has found lb1")()

        daemon, master = self.daemons["app1"], self.master
        self.begin = time.monotonic()
        self.load()
        self.act("Seconds since the load began", (
            ("load begins", lambda: f"{len(self.burners)} busy loops on app1"),
            ("over threshold", said(daemon, "scale-up: (CPU .*)", r"app1: \1")),
            ("lease", said(master, r"app1: may add a machine", "lb1 allows app1, and nobody else, to add a machine")),
            ("launch", lambda: new() and f"EC2 took the signed RunInstances: {new()}"),
            ("running", said(daemon, r"i-\S+ runs at (\S+)", r"EC2 has booted it, its address is \1")),
            ("healthy", said(daemon, r"is healthy at (\S+)", r"\1 takes connections")),
            ("in HAProxy", lambda: self.haproxy.servers().get(new(), "").startswith("UP")
             and "entered by ssh, and `show stat` says UP"),
            ("first answer", lambda: new() in self.answers and f"a request was answered by {new()}"),
            ("lease returned", said(master, "app1: launched a machine", "the cooldown begins")),
            ("joined", joined),
        ))

    def shrink(self):
        """The second act: the load falls, and the machine leaves."""
        [new] = self.ec2.launched
        daemon, master = self.daemons[new], self.master
        self.begin = time.monotonic()
        self.rest()
        self.act("Seconds since the load ended", (
            ("load ends", lambda: "no busy loops any more"),
            ("under threshold", said(daemon, "scale-down: (CPU .*)", rf"{new}: \1")),
            ("lease", said(master, f"{new}: may leave", f"lb1 allows {new} to leave")),
            ("drained", said(daemon, "is out of HAProxy on lb1", "lb1 let its requests end and took it out")),
            ("terminated", lambda: new not in self.ec2.running and "by its own signed TerminateInstances"),
            ("lease returned", said(master, f"{new}: left", "the cooldown begins")),
        ))

    def epilogue(self):
        """What is there at the end, and whether all of it is right."""
        failed = self.answers.count("-")
        self.screen.line(f"Of {len(self.answers)} requests in all, {failed} failed.")
        for command in ("autoscaler list-hosts", "autoscaler status"):
            self.screen.line()
            output = self.type(self.lb, command)
            self.screen.line("\n".join(f"         {line}" for line in output.splitlines()))
        # DryRunOperation is EC2's yes to a rehearsal: the machine asks whether it may go before it drains.
        refused = [f"{call.action}: {call.verdict}" for call in self.ec2.requests
                   if call.verdict not in ("ok", "DryRunOperation")]
        if refused or len(self.ec2.launched) != 1 or failed:
            raise Failed(f"Not all went well: {len(self.ec2.launched)} machines were launched, {failed} requests "
                         f"failed, EC2 refused {refused or 'nothing'}.")


def show_logs(scratch, screen):
    """The ends of the logs, for whoever has to find out why."""
    for log in sorted(scratch.glob("*/*.log")):
        if log.name in ("daemon.log", "master.log", "haproxy.log"):
            screen.title(f"{log.parent.name}: {log.name}")
            screen.line("\n".join(log.read_text(errors="replace").splitlines()[-15:]))


def keep_logs(scratch):
    """Removes all of the scratch directory but the logs, which move to its top."""
    for host in scratch.iterdir():
        for log in host.glob("*.log"):
            log.rename(scratch / f"{host.name}-{log.name}")
        shutil.rmtree(host) if host.is_dir() else host.unlink()


def stop(*_):
    """For signals: leave by the same door as Ctrl-C, and once only."""
    for number in SIGNALS:
        signal.signal(number, signal.SIG_IGN)
    raise KeyboardInterrupt


def hindrance(binary):
    """Why the demo cannot run here and what to do about it; None where it can."""
    why = missing("haproxy", "sshd", "ssh")
    if os.geteuid() != 0:
        return ("The demo makes network namespaces, which takes root. Run: sudo make demo\n"
                f"or, since all is built: sudo {sys.executable} {sys.argv[0]} {binary}")
    if why and why.startswith("no namespaces"):
        return f"The demo makes namespaces, which this machine refuses (a container has to be privileged):\n{why}"
    return why and f"The demo cannot run here: {why}"


def play(binary, scratch, screen):
    """Tells the whole story; returns the exit status."""
    try:
        with Demo(binary, scratch, screen) as demo:
            demo.build()
            demo.set_up()
            demo.show_answers()
            demo.grow()
            demo.show_answers()
            if demo.is_quiet:
                demo.shrink()
                demo.show_answers()
            else:
                screen.line("This machine has too much to do to show a falling load: no second act.")
            demo.epilogue()
            screen.waiting("taking everything down")
        return 0
    except KeyboardInterrupt:
        screen.line("\nStopped. Nothing is left running.")
        return 130
    except (Failed, AssertionError, OSError, RuntimeError, subprocess.TimeoutExpired) as error:
        show_logs(scratch, screen)
        screen.title("The demo failed")
        screen.line(f"{error}")
        return 1


def main(binary):
    """Runs the demo in a scratch directory of its own; returns the exit status."""
    if why := hindrance(binary):
        print(why, file=sys.stderr)
        return 1
    for number in SIGNALS:
        signal.signal(number, stop)
    screen, scratch, status = Screen(), Path(tempfile.mkdtemp(prefix="autoscaler-")), 1
    screen.line(screen.paint("1", "autoscaler: a busy app server gets a second one, for as long as it needs it"))
    screen.line("All of it on this machine, in namespaces: HAProxy, sshd, the load and the\n"
                "requests are real; EC2 is a local endpoint that checks every signature.\n")
    try:
        status = play(binary, scratch, screen)
    finally:
        if status == 1:
            keep_logs(scratch)
            screen.line(f"The logs are in {scratch}")
        else:
            shutil.rmtree(scratch)
    if status == 0:
        screen.title("It works. What to do next")
        screen.line("  README.md, \"On AWS, in ten steps\": the same with an account of your own\n"
                    "  make test: every test\n"
                    f"  {binary}\n    is the program: one file, to copy anywhere")
    return status


if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit("usage: demo.py BINARY")
    sys.exit(main(sys.argv[1]))
