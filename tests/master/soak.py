"""A thousand nodes on one master, two hundred of them by real ssh tunnels, all coming and going. Run by `make soak`.

Each node is a connection that speaks the protocol. Every GRANT is checked: no lease and no epoch comes twice, nobody
gets one while another holds it, every SCALE is answered, and every node hears of every change. At the end the master
has as much memory and as many files as at the beginning.
"""

import collections
import os
import random
import resource
import select
import sys
import tempfile
import time

from lab import Network, missing, wait_until
from peers import SECRET, Peer
from screen import Screen

NODES, TUNNELLED, LEASE = 1000, 200, 3.0
INI = ("[master]\nlease = 3s\n[scaling]\ncooldown = 0\nmax_hosts = 100000\nmin_hosts = 0\n[haproxy]\nssh_user = root\n"
       f"[cluster]\nsecret = {SECRET}\n")


class Failed(Exception):
    """Something was lost or came twice."""


class Node:
    """One connection at a time to the master."""

    def __init__(self, name, connect):
        self.name, self._connect = name, connect
        self.peer, self.asked, self.beat, self.heard, self.since = None, False, 0.0, 0, 0

    def join(self, soak):
        """Connects and greets; the lines of others that come in between count."""
        self.peer = Peer(self._connect())
        self.peer.greet(self.name)
        self.asked, self.heard, self.since = False, 0, soak.changes
        self.beat = time.monotonic() + random.random() * 5
        soak.nodes[self.peer.socket.fileno()] = self
        soak.epoll.register(self.peer.socket, select.EPOLLIN)

    def leave(self, soak):
        """Hangs up without a word."""
        soak.epoll.unregister(self.peer.socket)
        del soak.nodes[self.peer.socket.fileno()]
        self.peer.close()
        self.peer = None


class Soak:
    """The crowd and what it has seen."""

    def __init__(self, everyone):
        self.epoll, self.nodes, self.everyone = select.epoll(), {}, everyone
        self.counts, self.changes, self.leases, self.epoch = collections.Counter(), 0, set(), 0
        # Who holds the lease, its name, until when at the latest, and when to do something with it.
        self.holder, self.lease, self.until, self.act = None, None, 0.0, 0.0

    def read(self, wait):
        """Takes what has come."""
        for number, _ in self.epoll.poll(wait, 256):
            node = self.nodes.get(number)
            while node and node.peer:
                line = node.peer.line(10)
                if line is None:
                    raise Failed(f"{node.name}: the master hung up")
                self.take(node, line.split())
                if b"\n" not in node.peer._buffer:
                    break

    def take(self, node, words):
        """One line from the master."""
        verb, now = words[0], time.monotonic()
        self.counts[verb] += 1
        if verb in ("SCALE", "FINISH"):
            node.heard += 1
        elif verb == "WAIT":
            node.asked = False
        elif verb == "GRANT":
            lease, epoch = words[1], int(words[3])
            if node is self.holder and lease == self.lease:
                return  # its HOLD
            if not node.asked:
                raise Failed(f"{node.name}: a grant that nobody asked for")
            if lease in self.leases or epoch <= self.epoch:
                raise Failed(f"{node.name}: {lease} of epoch {epoch} was granted before")
            if self.holder and now < self.until:
                raise Failed(f"{node.name}: got {lease} while {self.holder.name} holds {self.lease}")
            node.asked = False
            self.leases.add(lease)
            self.epoch = epoch
            self.holder, self.lease, self.until, self.act = node, lease, now + LEASE - 0.5, now + random.random() * 0.4
        else:
            raise Failed(f"{node.name}: {' '.join(words)}")

    def finish(self, verdict):
        """The holder gives its lease back."""
        self.holder.peer.send(f"FINISH {self.lease} {verdict} 0")
        self.counts[verdict] += 1
        self.holder = None

    def step(self):
        """What the nodes do of their own will."""
        now = time.monotonic()
        for node in list(self.nodes.values()):
            if now >= node.beat:
                node.peer.send(f"LOAD {random.randrange(101)}")
                node.beat = now + 5
        if self.holder and now >= self.act:
            dice = random.random()
            if dice < 0.2:  # its tunnel breaks, and it comes back
                holder = self.holder
                holder.leave(self)
                holder.join(self)
                holder.peer.send(f"HOLD {self.lease}")
                self.counts["hold"] += 1
                self.until, self.act = now + LEASE - 0.5, now + 0.3
            elif dice < 0.22:  # it dies
                self.holder.leave(self)
                self.holder.join(self)
                self.holder, self.act = None, now + LEASE
                self.counts["died"] += 1
            else:
                self.finish("ok" if dice < 0.6 else "failed")
        for node in random.sample(list(self.nodes.values()), 3):
            if node is self.holder:
                continue
            if random.random() < 0.3 and not node.asked:
                node.leave(self)
                node.join(self)
                self.counts["rejoined"] += 1
            elif not node.asked:
                node.asked = True
                node.peer.send("SCALE")
                self.counts["asked"] += 1

    def settle(self):
        """Everybody is silent; then each has heard of each change since it came, and nothing is owed."""
        if self.holder:
            self.finish("failed")
        end = time.monotonic() + 2 * LEASE
        while time.monotonic() < end:
            self.read(0.1)
            if self.holder:
                self.finish("failed")
            for node in self.nodes.values():
                if time.monotonic() >= node.beat:
                    node.peer.send("LOAD 1")
                    node.beat = time.monotonic() + 5
        if any(node.asked for node in self.everyone):
            raise Failed("a SCALE was not answered")
        # One more change, of which everybody has to hear: a grant and its end.
        for node in self.everyone:
            node.heard = 0
        first = self.everyone[0]
        first.asked = True
        first.peer.send("SCALE")
        wait_until(lambda: self.read(0.05) or self.holder, 30, "the last grant")
        self.finish("ok")
        wait_until(lambda: self.read(0.05) or all(node.heard == 2 for node in self.everyone[1:]), 30,
                   lambda: f"all hear of it: {collections.Counter(node.heard for node in self.everyone)}")


def size(pid):
    """(resident KiB, threads, open files) of a process."""
    with open(f"/proc/{pid}/status") as file:
        status = dict(line.split(":", 1) for line in file)
    return int(status["VmRSS"].split()[0]), int(status["Threads"]), len(os.listdir(f"/proc/{pid}/fd"))


def build(net, binary, screen):
    """The HAProxy host with its master, and who may connect how."""
    lb = net.host("lb1")
    apps = []
    for number in range(TUNNELLED):
        screen.waiting(f"app servers: {number + 1} of {TUNNELLED}")
        apps.append(net.host(f"app{number + 1}"))
        apps[-1].start_sshd()
    lb.start_sshd()
    lb.install(binary, "autoscaler")
    lb.path("/etc/autoscaler/hosts.d").mkdir(parents=True)
    ini = lb.path("/etc/autoscaler/autoscaler.ini")
    ini.write_text(INI)
    ini.chmod(0o600)
    for app in apps:
        lb.path(f"/etc/autoscaler/hosts.d/{app.name}").write_text(f"{app.address} 80 -\n")
    master = lb.popen(["autoscaler", "master"], log="master.log")
    master.wait_line("serving on")
    screen.waiting(f"{TUNNELLED} tunnels")
    wait_until(lambda: len({line.split()[2] for line in master.text().splitlines() if ": up, port" in line}) == TUNNELLED,
               300, lambda: f"the tunnels are up:\n{master.text()[-2000:]}", every=0.5)
    [pid] = [pid for pid, argv in lb.commands().items() if argv[0].endswith("autoscaler")]
    nodes = [Node(app.name, lambda app=app: app.connect(65432)) for app in apps]
    nodes += [Node(f"node{number}", lambda: lb.connect(65432)) for number in range(NODES - TUNNELLED)]
    return pid, nodes


def main(binary, minutes):
    """Runs it and prints one table."""
    needs = missing("sshd")
    if needs:
        sys.exit(f"soak: needs what is missing: {needs}")
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    screen, began, samples, failure = Screen(), time.monotonic(), [], None
    with tempfile.TemporaryDirectory(prefix="autoscaler-soak-") as scratch, Network(scratch) as net:
        pid, nodes = build(net, binary, screen)
        soak = Soak(nodes)
        for number, node in enumerate(nodes):
            node.join(soak)
            if number % 50 == 0:
                screen.waiting(f"nodes: {number + 1} of {NODES}")
                soak.read(0)
        began, ready = time.monotonic(), time.monotonic() - began
        end, next_sample = began + 60 * minutes, began
        try:
            while (now := time.monotonic()) < end:
                soak.read(0.02)
                soak.step()
                if now >= next_sample:
                    samples.append(size(pid))
                    next_sample = now + 60 * minutes / 60
                    screen.waiting(f"{(end - now) / 60:.1f} minutes to go, {len(soak.leases)} grants")
            soak.settle()
        except (Failed, OSError, AssertionError) as error:
            failure = f"{type(error).__name__}: {error}"
        samples.append(size(pid))
    early, late = samples[len(samples) // 4:len(samples) // 2], samples[-len(samples) // 4:]
    rows = [("minutes, after set-up", f"{(time.monotonic() - began) / 60:.1f}, {ready:.0f} s"),
            ("nodes, of which by ssh tunnels", f"{NODES}, {TUNNELLED}"),
            ("SCALE asked, granted", f"{soak.counts['asked']}, {len(soak.leases)}"),
            ("FINISH ok, failed", f"{soak.counts['ok']}, {soak.counts['failed']}"),
            ("came back and held, died", f"{soak.counts['hold']}, {soak.counts['died']}"),
            ("hung up and came again", soak.counts["rejoined"]),
            ("lines heard of others' changes", soak.counts["SCALE"] + soak.counts["FINISH"])]
    for place, name in enumerate(("resident KiB", "threads", "open files")):
        first, last = (max(sample[place] for sample in part) for part in (early, late))
        rows.append((f"master: {name}, second and last quarter", f"{first}, {last}"))
        if not failure and last > first * 1.05 + 16:
            failure = f"{name} grew from {first} to {last}"
    rows.append(("lost or repeated grants", failure or "none"))
    for name, value in rows:
        screen.line(f"{name:<48} {value}")
    return 1 if failure else 0


if __name__ == "__main__":
    if len(sys.argv) != 3:
        sys.exit("usage: soak.py BINARY MINUTES")
    sys.exit(main(sys.argv[1], float(sys.argv[2])))
