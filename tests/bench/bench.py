"""Speed and cost of BINARY, each beside something else that ran in the same minute. Run by `make bench`.

Prints one table and writes it to target/bench.md, as a picture to target/bench.svg. All of it on loopback and in a scratch directory.
"""

import contextlib
import os
import platform
import random
import shutil
import signal
import sys
import tempfile
import time
from importlib import util
from pathlib import Path
from urllib.request import urlopen

import bench_haproxy
import bench_site
from bench_chart import as_svg
from bench_master import many_nodes
from bench_table import HEAD, Figure, Group, as_markdown, as_text
from bench_tools import Daemon, Recorder, Tap, compile_with, count_calls, run
from lab import Ec2Endpoint, ProcStat, free_ports, wait_until
from screen import Screen

ROOT = Path(__file__).resolve().parents[2]
NODE_EXPORTER = ROOT / "target/debian/node-exporter/usr/bin/prometheus-node-exporter"
REST_PARTS, REST_SECONDS, STRACE_SECONDS = 4, 12, 20
EXPORTER = f"node_exporter, asked every {REST_SECONDS} s"
ACCESS, SECRET, REGION = "AKIDEXAMPLE", "wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY", "us-east-1"
LAUNCH = {"image-id": "ami-12345678", "count": "1", "instance-type": "t3.small", "subnet-id": "subnet-12345678"}
RUST = ["--edition", "2021", "-C", "opt-level=z", "-C", "lto", "-C", "strip=symbols", "-C", "panic=abort",
        "--target", "x86_64-unknown-linux-musl"]
C_LOOP = """
#include <fcntl.h>
#include <time.h>
#include <unistd.h>
int main(void) {
    static char text[65536];
    struct timespec second = {1, 0};
    for (;;) {
        int file = open("/proc/stat", O_RDONLY);
        while (read(file, text, sizeof text) > 0) {}
        close(file);
        nanosleep(&second, 0);
    }
}
"""


class Bench:
    """The scratch directory, and the parts of a site that the rows share."""

    def __init__(self, binary, scratch, screen):
        self.binary, self.scratch, self.screen = str(Path(binary).resolve()), Path(scratch), screen
        self.ports = free_ports(10)  # eight for tunnels, one for the master
        self.recorder = Recorder()

    def configure(self, name, **scaling):
        """A directory with an INI; returns the first words of a command that goes by it."""
        directory = self.scratch / name
        (directory / "hosts.d").mkdir(parents=True)
        options = " ".join(f"--{key} {value}" for key, value in LAUNCH.items())
        keys = "".join(f"{key} = {value}\n" for key, value in {"sample_interval": "1s", **scaling}.items())
        # A HAProxy host that takes every machine; what ssh takes is not measured here.
        ssh = directory / "ssh"
        ssh.write_text("#!/bin/sh\ncase $* in *list-hosts*) echo app1 10.255.0.1 80 - UP 900 ;; esac\n")
        ssh.chmod(0o700)
        ini = directory / "autoscaler.ini"
        ini.write_text(
            f"[aws]\naws_access_key = {ACCESS}\naws_secret_key = {SECRET}\naws_default_region = {REGION}\n"
            f"endpoint_url = {self.recorder.url}\nmetadata_url = {self.recorder.url}\n"
            f"[machine]\nscale_up_command = aws ec2 run-instances {options}\n[scaling]\n{keys}"
            f"[master]\nlisten = 127.0.0.1:{self.ports + 8}\ntunnel_ports = {self.ports}-{self.ports + 7}\n"
            f"state = {directory}/state\n[cluster]\nsecret = 0123456789abcdef\n"
            f"[haproxy]\nservers = 127.0.0.1\nssh_command = {ssh}\nconfig = {directory}/installed.cfg\n"
            "check_command = true\nreload_command = true\n")
        ini.chmod(0o600)
        (directory / "haproxy.cfg").write_text("backend servers\n    $SERVERS\n")
        return [self.binary, "-c", str(ini)]

    @contextlib.contextmanager
    def master(self, command):
        """`autoscaler master`, behind a Tap on the first tunnel port."""
        with Daemon([*command, "master"], self.scratch / "master.log") as master:
            master.wait_line("serving on")
            tap = Tap(self.ports, self.ports + 8)
            try:
                yield tap
            finally:
                tap.close()

    def rounds(self, count, what):
        """Counts, with a sign of life."""
        for number in range(count):
            self.screen.waiting(f"{what}: {number + 1} of {count}")
            yield number

    # The rows

    def scale_up(self, count=12):
        """One scale-up's own cost, from the decision to RunInstances on the wire."""
        command, recorder = self.configure("scale-up"), self.recorder
        environment = {"PATH": os.environ["PATH"], "HOME": str(self.scratch), "AWS_ACCESS_KEY_ID": ACCESS,
                       "AWS_SECRET_ACCESS_KEY": SECRET, "AWS_DEFAULT_REGION": REGION, "AWS_MAX_ATTEMPTS": "1",
                       "AWS_EC2_METADATA_DISABLED": "true", "AWS_ENDPOINT_URL": recorder.url}
        cli = shutil.which("aws", path=str(Path(sys.executable).parent)) or shutil.which("aws")
        curl = shutil.which("curl")
        data = "&".join(["Action=RunInstances", "Version=2016-11-15", "ImageId=ami-12345678", "MinCount=1",
                         "MaxCount=1", "InstanceType=t3.small", "SubnetId=subnet-12345678"])
        beside = {"aws ec2 run-instances": cli and [cli, "ec2", "run-instances", *(
            word for key, value in LAUNCH.items() for word in (f"--{key}", value))],
            "curl --aws-sigv4": curl and [curl, "-s", "--aws-sigv4", f"aws:amz:{REGION}:ec2", "--user",
                                          f"{ACCESS}:{SECRET}", "--data", data, recorder.url]}
        cpu, wire = ({name: [] for name in ("ours", *beside)} for _ in range(2))
        decision, grant = [], []
        with self.master(command) as tap:
            for _ in self.rounds(count + 1, "scale-up"):
                tap.seen.clear()
                recorder.forget()
                done = run([*command, "scale-up"])
                arrived = recorder.wait("RunInstances")
                cpu["ours"].append(done.cpu)
                wire["ours"].append(arrived - done.began)
                decision.append(arrived - tap.seen["SCALE"])
                grant.append(arrived - tap.seen["GRANT"])
                for name, argv in beside.items():
                    if argv:
                        done = run(argv, environment)
                        cpu[name].append(done.cpu)
                        wire[name].append(recorder.wait("RunInstances") - done.began)
        for values in (*cpu.values(), *wire.values(), decision, grant):
            del values[:1]  # the first round warms the caches

        def others(values, *targets):
            return [Figure(name, values[name], target) for name, target in zip(beside, targets)]

        yield Group("One scale-up: processor time of the whole command", "s",
                    Figure("autoscaler scale-up", cpu["ours"]), others(cpu, 1 / 100, 1))
        yield Group("One scale-up: from the decision (theirs: the start) to RunInstances on the wire", "s",
                    Figure("from SCALE", decision), others(wire, 1 / 100, 1))
        yield Group("The same, from the master's GRANT", "s", Figure("from GRANT", grant), others(wire, 1 / 100, 1))
        yield Group("The same, from the command's start", "s",
                    Figure("autoscaler scale-up", wire["ours"]), others(wire, None, None))

    def at_rest(self):
        """Daemons with nothing to do: one that finds a master, and one where nobody listens."""
        command, alone = (self.configure(name, threshold=100, window="1h") for name in ("rest", "alone"))
        ini = Path(alone[-1])
        ini.write_text(ini.read_text().replace(f"= {self.ports}-", f"= {self.ports + 1}-"))
        return command, alone

    def rest(self):
        """The daemon with nothing to do, a sample every second."""
        command, alone = self.at_rest()
        loop = compile_with("gcc", self.scratch / "loop.c", C_LOOP, "-O2", "-static")
        with contextlib.ExitStack() as stack:
            stack.enter_context(self.master(command))
            start = stack.enter_context
            contenders = {"daemon, with a master": start(Daemon([*command, "daemon"], self.scratch / "rest.log")),
                          "daemon, without one": start(Daemon([*alone, "daemon"], self.scratch / "alone.log"))}
            contenders["daemon, with a master"].wait_line("connected")
            if loop:
                contenders["C loop on /proc/stat"] = start(Daemon([loop], self.scratch / "loop.log"))
            if NODE_EXPORTER.exists():
                port = free_ports(1)
                contenders[EXPORTER] = start(Daemon([NODE_EXPORTER, f"--web.listen-address=127.0.0.1:{port}"],
                                                    self.scratch / "exporter.log"))
                contenders[EXPORTER].wait_line("Listening on")
            self.screen.pause(30, "daemon at rest: until it looks for new masters no more often than it ever does")
            cpu, wakeups, resident, private = ({name: [] for name in contenders} for _ in range(4))
            for part in range(REST_PARTS):
                before = {name: (each.cpu(), each.wakeups()) for name, each in contenders.items()}
                if EXPORTER in contenders:
                    urlopen(f"http://127.0.0.1:{port}/metrics").read()
                self.screen.pause(REST_SECONDS, f"daemon at rest: part {part + 1} of {REST_PARTS}")
                for name, each in contenders.items():
                    cpu[name].append((each.cpu() - before[name][0]) * 60 / REST_SECONDS)
                    wakeups[name].append((each.wakeups() - before[name][1]) * 60 / REST_SECONDS)
                    resident[name].append(each.resident())
                    private[name].append(each.resident("RssAnon"))
            self.screen.waiting("daemon at rest: system calls")
            contenders.pop(EXPORTER, None)  # nobody asks it meanwhile
            counts = count_calls(contenders.values(), STRACE_SECONDS, self.scratch)
        calls = {name: [count * 60 / STRACE_SECONDS] for name, count in zip(contenders, counts)}
        ours, beside = list(contenders)[:2], ("C loop on /proc/stat", EXPORTER)
        for title, unit, values, target, limit in (
                ("resident memory", "B", resident, None, 2.5e6),
                ("memory of its own, without the pages of the program's file", "B", private, None, None),
                ("processor time per minute", "s", cpu, 2, None),
                ("wake-ups per minute", "", wakeups, None, None),
                ("system calls per minute" + ("" if calls else ", which takes strace"), "", calls, None, None)):
            for name, when in zip(ours, ("", " with no master to be found")):
                yield Group(f"At rest{when}: {title}", unit, Figure(name, values.get(name, [])),
                            [Figure(other, values.get(other, []), target if other == beside[0] else None)
                             for other in beside], limit)

    def after_tls(self):
        """The daemon's memory once it has asked EC2 by TLS, which refused."""
        procfs, resident = self.scratch / "proc-tls", []
        command = self.configure("tls", window="1s", procfs=procfs)
        ini = Path(command[-1])
        with Ec2Endpoint(tls=True) as ec2:
            ini.write_text(ec2.ini() + "[machine]" + ini.read_text().partition("[machine]")[2])
            with self.master(command) as tap, ProcStat(procfs) as cpu:
                for number in self.rounds(4, "daemon after a TLS call"):
                    tap.seen.clear()
                    with Daemon([*command, "daemon"], self.scratch / "tls.log") as daemon:
                        daemon.wait_line("connected")
                        cpu.load = 100
                        wait_until(lambda: "FINISH" in tap.seen, 20, "EC2 has refused")
                        cpu.load = 0
                        resident.append(daemon.resident())
            if not ec2.calls("RunInstances"):
                raise RuntimeError("EC2 was not asked")
        yield Group("At rest after a TLS call: resident memory", "B", Figure("daemon", resident), limit=4e6)

    def reaction(self, count=8):
        """From the moment when /proc/stat shows load until RunInstances arrives."""
        took = []
        procfs = self.scratch / "proc"
        command = self.configure("reaction", window="1s", procfs=procfs)
        with self.master(command) as tap:
            for _ in self.rounds(count, "reaction"):
                tap.seen.clear()
                with ProcStat(procfs) as cpu, Daemon([*command, "daemon"], self.scratch / "reaction.log") as daemon:
                    daemon.wait_line("connected")
                    time.sleep(1.2 + random.random())  # anywhere between two samples
                    self.recorder.forget()
                    began = time.monotonic()
                    cpu.load = 100
                    cpu.step(50)  # as much as makes the very next sample a high one
                    took.append(self.recorder.wait("RunInstances") - began)
                    wait_until(lambda: "FINISH" in tap.seen, what="the daemon gave the lease back")
        yield Group("Load begins -> RunInstances arrives, interval and window 1 s", "s", Figure("daemon", took),
                    [Figure("the interval alone", [1.0])], 1.02)

    def files(self, count=10):
        """`generate` and `add-host`, among few hosts and many."""
        earlier = {}
        for hosts in (1, 100, 10_000):
            command = self.configure(f"hosts{hosts}")
            directory = self.scratch / f"hosts{hosts}"
            for number in range(hosts):
                (directory / f"hosts.d/app{number + 1}").write_text(f"10.1.{number // 250}.{number % 250 + 1} 80 -\n")
            many = hosts > 1000  # more than a command line holds
            title, cat = (("find hosts.d | xargs cat", "find hosts.d -type f -print0 | xargs -0 cat") if many
                          else ("cat hosts.d/*", "cat hosts.d/*"))
            walls = {"generate": [], "add-host": [], "cat": []}
            for _ in self.rounds(count + 1, f"generate and add-host, {hosts} hosts"):
                (directory / "installed.cfg").unlink(missing_ok=True)
                walls["generate"].append(self.succeed([*command, "generate"]).wall)
                walls["add-host"].append(self.succeed([*command, "add-host", "10.2.0.1", "80"]).wall)
                max((directory / "hosts.d").iterdir(), key=lambda path: int(path.name[3:])).unlink()
                walls["cat"].append(self.succeed(["/bin/sh", "-c", f"cd {directory} && {cat}"]).wall)
            for name in ("generate", "add-host"):
                others = [Figure(title, walls["cat"][1:], 2 if many else None)]
                if many:
                    others.append(Figure(f"{name}, 100 hosts", earlier[name], 100))
                yield Group(f"{name}, {hosts:,} host{'s' * (hosts > 1)}", "s", Figure(name, walls[name][1:]), others)
                earlier[name] = walls[name][1:]

    def succeed(self, argv):
        """Runs `argv`, which must not fail."""
        done = run(argv)
        if done.status:
            raise RuntimeError(f"{' '.join(argv)}: exit {done.status}")
        return done

    def membership(self):
        """A server more and a server less in a running HAProxy."""
        return bench_haproxy.membership(self)

    def tunnels(self):
        """Two HAProxy hosts and 200 app servers."""
        return bench_site.tunnels(self)

    def first_request(self):
        """A site that launches one machine after the other."""
        return bench_site.first_request(self)

    def start_up(self, count=40):
        """From the start of the program to its first useful line; its size."""
        hello = compile_with("rustc", self.scratch / "hello.rs", 'fn main() { println!("hello"); }', *RUST)
        ours, theirs = [], []
        for _ in self.rounds(count, "start-up"):
            ours.append(self.succeed([self.binary, "--version"]).wall)
            if hello:
                theirs.append(self.succeed([hello]).wall)
        yield Group("Start-up", "s", Figure("autoscaler --version", ours),
                    [Figure("hello-world, static Rust", theirs, 2)])
        others = [Figure("hello-world, static Rust", [os.path.getsize(hello)] if hello else [])]
        packages = [util.find_spec(name) for name in ("awscli", "botocore")]
        if all(packages):
            files = (path for package in packages for path in Path(package.origin).parent.rglob("*") if path.is_file())
            others.append(Figure("awscli, installed", [sum(path.stat().st_size for path in files)]))
        yield Group("Size on disk", "B", Figure("autoscaler", [os.path.getsize(self.binary)]), others, 2.5e6)


def main(binary):
    """Measures everything, prints the table row by row and writes it."""
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.default_int_handler)  # whatever the caller did with them
    screen, groups = Screen(), []
    about = (f"{platform.system()} {platform.release()}, {os.cpu_count()} CPUs, load {os.getloadavg()[0]:.1f} at the "
             f"start, {time.strftime('%Y-%m-%d')}.\nRatio: autoscaler's median to the median of its row.")
    screen.line(about)
    low, mid, high = HEAD
    screen.line(f"\n  {'':<31}{low:>8}{mid:>7}{high:>7} {'':<6}{'ratio':>7}  target")
    scratch = tempfile.mkdtemp(prefix="autoscaler-bench-")
    bench = Bench(binary, scratch, screen)
    try:
        parts = (bench.scale_up, bench.rest, bench.after_tls, bench.reaction, bench.files, bench.start_up,
                 bench.membership, lambda: many_nodes(bench), bench.tunnels,
                 bench.first_request)
        for part in parts:
            try:
                for group in part():
                    groups.append(group)
                    screen.line(as_text(group))
            except (OSError, RuntimeError, AssertionError) as error:
                screen.line(f"{getattr(part, '__name__', part)}: could not be measured: {error}")
    except KeyboardInterrupt:
        screen.line("\nStopped.")
        return 130
    finally:
        bench.recorder.close()
        shutil.rmtree(scratch)
    target = ROOT / "target/bench.md"
    target.write_text(as_markdown(groups, about))
    target.with_suffix(".svg").write_text(as_svg(groups, about))
    screen.line(f"\nwritten to {target.relative_to(ROOT)} and bench.svg")
    return 0


if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit("usage: bench.py BINARY")
    sys.exit(main(sys.argv[1]))
