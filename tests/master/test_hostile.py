"""The master and the daemon among peers that mean harm: what those can take is bounded, and honest nodes go on."""

import contextlib
import os
import resource
import secrets
import socket
import subprocess
import threading
import time

import pytest
from cli import environment
from lab import Network, ProcStat, free_ports, missing, wait_until
from peers import SECRET, Master, Peer

CROWD = 10_000
STRANGERS = 512  # as the manual page has it
CLOSING = 512    # those that were cut off and whose threads have yet to end, on a busy machine


@contextlib.contextmanager
def open_files(most):
    """This process and those it starts may have so many files open."""
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, before)


def size(pid):
    """(threads, open files, resident KiB) of a process."""
    with open(f"/proc/{pid}/status") as file:
        status = dict(line.split(":", 1) for line in file)
    return int(status["Threads"]), len(os.listdir(f"/proc/{pid}/fd")), int(status.get("VmRSS", "0").split()[0])


class Holder(threading.Thread):
    """An honest node that holds the lease, beats and is answered, until the block ends."""

    def __init__(self, master):
        super().__init__(daemon=True)
        self.peer, self.over, self.beats, self.error = master.node("honest"), threading.Event(), 0, None
        verb, self.lease, *_ = self.peer.ask("SCALE").split()
        assert verb == "GRANT"

    def run(self):
        try:
            while not self.over.wait(0.2):
                self.peer.send("LOAD 50")
                assert self.peer.ask("PING", timeout=10) == "PONG"
                self.beats += 1
        except BaseException as error:  # handed to the test
            self.error = error

    def __enter__(self):
        self.start()
        return self

    def __exit__(self, kind, *_):
        self.over.set()
        self.join()
        if kind is None:
            assert self.error is None and self.beats > 0, self.error
            self.peer.send(f"FINISH {self.lease} ok 1")
            self.peer.expect_nothing()  # no ERROR: it held the lease all the time


def harm(peer, number):
    """What one of the crowd does."""
    name = f"x{number}"
    with contextlib.suppress(OSError):
        peer.setblocking(False)
        peer.send((b"", b"HELLO 2 " + name.encode(), b"\x16\x03\x01\x02\n", b"x" * 2000, b"PING\n" * 40,
                   f"HELLO 2 {name} 00\nAUTH {'00' * 32}\n".encode(), b"SCALE\nSTATUS\nHOLD 1-a\n")[number % 7])


def surround(master, count, check=lambda: None):
    """That many connections that do harm, all kept open."""
    crowd = []
    for number in range(count):
        crowd.append(socket.create_connection(("127.0.0.1", master.port), 30))
        harm(crowd[-1], number)
        if number % 250 == 0:
            check()
    check()
    return crowd


@pytest.mark.native
def test_ten_thousand_connections_harm_no_honest_node(binary, tmp_path):
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    if hard != resource.RLIM_INFINITY and hard < CROWD + 200:
        pytest.skip(f"takes {CROWD} open files, {hard} is the limit")
    with open_files(CROWD + 200), Master(binary, tmp_path / "m", lease="15s") as master:
        with Holder(master):
            before = size(master.process.pid)

            def bounded():
                threads, files, memory = size(master.process.pid)
                assert threads <= before[0] + STRANGERS + CLOSING, threads
                assert files <= before[1] + STRANGERS + CLOSING, files
                assert memory <= 24 * 1024, memory

            crowd = surround(master, CROWD, bounded)
            # One more honest node gets in, although they all are still there.
            late = master.node("late")
            late.send("LOAD 7")
            assert {node[0] for node in late.status()["NODE"]} == {"honest", "late"}
            bounded()
        assert len(master.log.read_text().splitlines()) < 50
        for each in crowd:
            each.close()
        wait_until(lambda: size(master.process.pid)[1] <= before[1] + 4, 30, "the crowd's files are closed")
        wait_until(lambda: size(master.process.pid)[0] <= before[0] + 4, 30, "the crowd's threads have ended")


@pytest.mark.native
def test_a_master_with_few_files_is_not_stopped_by_a_crowd(binary, tmp_path):
    with open_files(96):
        master = Master(binary, tmp_path / "m", lease="15s")
        master.start()
    with contextlib.closing(contextlib.ExitStack()) as stack:
        stack.callback(master.kill)
        # A tunnel that goes on trying needs files as well.
        (master.hosts / "app1").write_text("127.0.0.1 80 -\n")
        with Holder(master):
            crowd = surround(master, 300, lambda: None)
            assert size(master.process.pid)[1] < 96
            assert master.node("late").ask("PING") == "PONG"
            (master.hosts / "app2").write_text("127.0.0.1 81 -\n")
            wait_until(lambda: "tunnel app2" in master.log.read_text(), 20, lambda: master.log.read_text())
        assert "open files" not in master.log.read_text()
        assert master.process.poll() is None and crowd


@pytest.mark.skipif(missing() is not None, reason=str(missing()))
@pytest.mark.native
def test_connections_whose_other_end_is_gone_without_a_word_are_given_up(binary, tmp_path):
    with Network(tmp_path) as net:
        lb, app = net.host("lb1"), net.host("app1")
        lb.install(binary, "autoscaler")
        lb.path("/etc/autoscaler/hosts.d").mkdir(parents=True)
        ini = lb.path("/etc/autoscaler/autoscaler.ini")
        ini.write_text(f"[master]\nlisten = 0.0.0.0:65432\n[cluster]\nsecret = {SECRET}\n")
        ini.chmod(0o600)
        master = lb.popen(["autoscaler", "master"], log="master.log")
        master.wait_line("serving on")

        def files():
            return len(lb.run(["sh", "-c", "ls /proc/$(pidof autoscaler)/fd"]).stdout.split())

        before = files()
        far = [Peer(app.connect(65432, lb.address)) for _ in range(40)]
        for number, peer in enumerate(far):
            if number % 2:
                peer.greet(f"far{number}")
        far[1].send("SCALE")
        assert far[1].line().startswith("GRANT ")
        assert files() == before + 40
        app.cut()
        near = Peer(lb.connect(65432))
        near.greet("near")
        near.send("LOAD 5", "SCALE")
        assert near.line().startswith("WAIT holder ")

        def given_up():
            near.send("LOAD 5")
            return files() <= before + 1
        wait_until(given_up, 40, "they are given up", every=1)
        # The lease that one of them held has its time, and then the next one gets it.
        wait_until(lambda: near.ask("SCALE").startswith("GRANT ") or None, 40, "the lease is free again", every=1)


# The daemon, whose tunnel ports any local user may listen on

def silent(_peer, over):
    over.wait()


def trickle(peer, over):
    while not over.wait(0.3):
        peer.send(b"W")


def garbage(peer, _over):
    peer.send(secrets.token_bytes(100_000))


def endless(peer, over):
    while not over.is_set():
        peer.send(b"x" * 65536)


def at_once(peer, over):
    while not over.wait(0.01):
        peer.send("GRANT 1-a 30 1 1", "SCALE app9", "FINISH app9")


def unproved(peer, over):
    peer.send("WELCOME evil")
    at_once(peer, over)


def forged(peer, over):
    peer.send(f"CHALLENGE {'00' * 16}", f"WELCOME evil {'00' * 32}")
    at_once(peer, over)


def other_words(peer, _over):
    peer.send(f"ERROR {secrets.token_hex(16)}")


class Impostor:
    """Listens on a tunnel port and treats everybody in the same way; keeps what it was told in `heard`."""

    def __init__(self, port, way):
        self.heard, self._way, self._over = [], way, threading.Event()
        self._listener = socket.create_server(("127.0.0.1", port))
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self):
        with contextlib.suppress(OSError):
            while True:
                threading.Thread(target=self._serve, args=(self._listener.accept()[0],), daemon=True).start()

    def _serve(self, connection):
        with Peer(connection) as peer:
            listener = threading.Thread(target=self._listen, args=(peer,), daemon=True)
            listener.start()
            with contextlib.suppress(OSError):
                self._way(peer, self._over)
            listener.join(1)

    def _listen(self, peer):
        with contextlib.suppress(OSError, AssertionError):
            while (line := peer.line(60)) is not None:
                self.heard.append(line)

    def close(self):
        self._over.set()
        with contextlib.suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()


WAYS = (silent, trickle, garbage, endless, at_once, unproved, forged, other_words)


@pytest.mark.native
def test_a_daemon_among_impostors_believes_none_and_finds_the_master(binary, tmp_path):
    first, launched, log = free_ports(len(WAYS)), tmp_path / "launched", tmp_path / "log"
    directory = tmp_path / "etc"
    directory.mkdir()
    ini = directory / "autoscaler.ini"
    ini.write_text(
        f"[machine]\nscale_up_command = touch {launched}; exit 1\n"
        f"[scaling]\nprocfs = {tmp_path}/proc\nsample_interval = 100ms\nwindow = 500ms\ncooldown = 1s\n"
        f"[master]\ntunnel_ports = {first}-{first + len(WAYS) - 1}\n[cluster]\nsecret = {SECRET}\n"
        "[haproxy]\nservers = lb1\nssh_command = /bin/true\n")
    ini.chmod(0o600)
    with contextlib.ExitStack() as stack:
        stack.enter_context(ProcStat(tmp_path / "proc", load=100))
        impostors = [Impostor(first + number, way) for number, way in enumerate(WAYS)]
        for impostor in impostors:
            stack.callback(impostor.close)
        with open(log, "wb") as file:
            daemon = subprocess.Popen([binary, "-c", ini, "daemon"], env=environment(), stdin=subprocess.DEVNULL,
                                      stdout=file, stderr=file)
        stack.callback(daemon.wait)
        stack.callback(daemon.kill)
        wait_until(lambda: all(impostor.heard for impostor in impostors), 20, lambda: log.read_text())
        end = time.monotonic() + 15
        while time.monotonic() < end:
            threads, files, memory = size(daemon.pid)
            assert threads <= 4 + 2 * len(WAYS) and files <= 12 + 3 * len(WAYS) and memory <= 6 * 1024
            time.sleep(0.2)
        for impostor, way in zip(impostors, WAYS):
            assert {line.split()[0] for line in impostor.heard} <= {"HELLO", "AUTH"}, way
        assert daemon.poll() is None and not launched.exists(), log.read_text()
        assert len(log.read_text().splitlines()) <= 4 + 4 * len(WAYS), log.read_text()
        assert SECRET not in log.read_text()
        # One of them makes room for a tunnel to a master.
        impostors[0].close()
        master = Master(binary, tmp_path / "m")
        master.ini.write_text(master.ini.read_text().replace(str(master.port), str(first)))
        master.port = first
        stack.enter_context(master)
        wait_until(launched.exists, 60, lambda: log.read_text())


def test_made_up_loads_and_failures_go_no_further_than_the_limits(binary, tmp_path):
    with Master(binary, tmp_path / "m", cooldown="1s", max_hosts=5, lease="30s") as master:
        for number in range(3):
            (master.hosts / f"app{number}").write_text(f"127.0.0.1 {8000 + number} i-{number}\n")
        thief, honest = master.node("evil/i-0"), master.node("good/i-1")
        thief.hear("FLEET 3 3")
        for number in range(40):  # as many nodes as it likes
            master.node(f"evil/i-9{number}").send("LOAD 100")
        honest.send("LOAD 5")
        honest.expect_nothing()
        thief.send("LOAD 100")
        thief.expect_nothing()
        verb, lease, _, _, machines = wait_until(lambda: granted(thief, "SCALE 100000"), 5, "the cooldown is over")
        assert (verb, machines) == ("GRANT", "2")  # three are entered, and five may be
        thief.send(f"FINISH {lease} ok 4000000000")
        assert honest.lines_until("FINISH evil/i-0") == ["SCALE evil/i-0"]
        thief.send(*["FAILED 4000000000 never came"] * 300)
        thief.expect_nothing()
        assert honest.ask("SCALE").startswith("WAIT failing ") and master.memory() < 20 * 1024
        said = int(honest.ask("SCALE").split()[2])
        assert 3000 < said <= 3600  # an hour at most, however often it is said
        assert honest.ask("SCALE 0").startswith("GRANT ")  # and others may put things right
        assert (master.dir / "state/master").stat().st_size < 64 * 1024


def granted(peer, line):
    words = peer.ask(line).split()
    return words if words[0] == "GRANT" else None


# `status` among the same

@pytest.mark.native
@pytest.mark.parametrize("line", ["NODE app1 42 1", "PONG"])
def test_status_against_a_peer_that_floods_stays_small_and_ends(cli, line):
    """Answers without an end, and lines that nobody asked for."""
    over = threading.Event()
    with socket.create_server(("127.0.0.1", 0)) as server:
        cli.write(f"[master]\ntunnel_ports = {server.getsockname()[1]}\n")

        def serve():
            with contextlib.suppress(OSError, AssertionError), Peer(server.accept()[0]) as peer:
                assert peer.line().startswith("HELLO 2 ")
                peer.ask("WELCOME evil")
                while not over.is_set():
                    peer.send(f"{line}\n".encode() * 1000)

        thread = threading.Thread(target=serve, daemon=True)
        thread.start()
        began = time.monotonic()
        process = cli.start("status")
        try:
            wait_until(lambda: process.poll() is not None or size(process.pid)[2] > 24 * 1024, 20, "it ends", every=0.02)
            assert process.poll() is not None, f"{size(process.pid)[2]} KiB"
            said = process.communicate(timeout=5)
        finally:
            over.set()
            process.kill()
            process.wait()
            thread.join(5)
    assert time.monotonic() - began < 15 and process.returncode == 69, said
    assert said[1].startswith("autoscaler: ") and "no master answers here: its answer is over 8 MiB" in said[1], said
