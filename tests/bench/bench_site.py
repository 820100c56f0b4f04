"""The rows of `make bench` about whole sites: many tunnels, beside autossh, and a new machine's first request."""

import contextlib
import os
import re
import secrets
import shutil
import signal
import socket
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from bench_table import Figure, Group
from lab import Network, missing, wait_until
from site_lab import TEMPLATE, Site

CUT = 20  # seconds: longer than ssh takes to notice
BACK_OFF_CAP = 60  # seconds
APP_START = 2.5  # seconds: after EC2 calls it running, as ever
FIRST_REQUEST = 0.6  # seconds
AUTOSSH = "autossh -M 0 -N -o BatchMode=yes -o ServerAliveInterval=5 -o ServerAliveCountMax=3 -o LogLevel=ERROR " \
          "-o StrictHostKeyChecking=accept-new -o ExitOnForwardFailure=yes -R 127.0.0.1:{port}:127.0.0.1:65432 root@{app}"
INI = "[haproxy]\nssh_user = root\nconfig = /etc/haproxy/haproxy.cfg\n[cluster]\nsecret = {secret}\n"


def tunnels(bench, apps=200):
    """Memory of 200 tunnels on a HAProxy host, and the time until all are back after its cable was cut."""
    needs = missing("sshd", "autossh")
    if needs:
        yield Group("Tunnels of a whole site", "B", Figure(f"needs what is missing: {needs}", []))
        return
    memory, back = {"master": [], "autossh": []}, {"master": [], "autossh": []}
    with Network(bench.scratch / "site") as net:
        balancers = [net.host("lb1"), net.host("lb2")]
        servers = [net.host(f"app{number + 1}") for number in bench.rounds(apps, "booting app servers")]
        for number in bench.rounds(apps, "starting sshd"):
            _sshd(servers[number])
        for number, lb in enumerate(balancers):
            for name, start in (("master", _masters), ("autossh", _autossh)):
                with start(bench, lb, servers, number) as began:
                    bench.screen.waiting(f"{lb.name}: {apps} tunnels by {name}")
                    _wait_all(lb, servers, began.ports, f"{apps} tunnels by {name}")
                    memory[name].append(_memory(lb, began.parts))
                    lb.cut()
                    bench.screen.pause(CUT, f"{lb.name}: its cable is cut")
                    lb.mend()
                    mended = time.monotonic()
                    _wait_all(lb, servers, began.ports, f"{apps} tunnels by {name}, again")
                    back[name].append(time.monotonic() - mended)
    yield Group(f"{apps} tunnels: memory on the HAProxy host", "B", Figure("master and its ssh", memory["master"]),
                [Figure("autossh and its ssh, and a master", memory["autossh"], 1)])
    yield Group(f"{apps} tunnels: all back after {CUT} s without a network", "s", Figure("master", back["master"]),
                [Figure("autossh", back["autossh"])], BACK_OFF_CAP)


class _Listening(Site):
    """Notes in `since` when the app of each new machine has begun to listen."""

    def __init__(self, *given, **named):
        super().__init__(*given, **named)
        self.since = {}

    def start_web(self, host):
        if host.name in self.ec2.launched:
            time.sleep(APP_START)
        super().start_web(host)
        self.since[host.name] = time.monotonic()


def first_request(bench, machines=9):
    """From the moment that a new machine's app listens to the first answer that it gives through HAProxy."""
    needs = missing("sshd", "haproxy")
    title, took = "From the app's listening to its first request", []
    if needs:
        yield Group(title, "s", Figure(f"needs what is missing: {needs}", []))
        return
    settings = {"scaling": {"cooldown": "0", "threshold": "100", "max_hosts": str(machines + 1)}}
    with _Listening(bench.scratch / "first", bench.binary, settings=settings, boot_delay=1.0) as site:
        site.start()
        [lb], [app] = site.balancers, site.apps
        for _ in bench.rounds(machines, "launching machines"):
            with ThreadPoolExecutor(1) as pool:
                done = pool.submit(site.scale_up, app, "--wait")
                while (name := site.get(lb)[0]) not in site.ec2.launched[len(took):]:
                    time.sleep(0.005)
                took.append(time.monotonic() - site.since[name])
                assert done.result().returncode == 0, done.result()
    yield Group(title, "s", Figure("the default server_line", took), limit=FIRST_REQUEST)


class _Started:
    """What runs on a HAProxy host: `parts` are the programs that count, `ports` those that a tunnel may have."""

    def __init__(self, host, processes, parts, ports):
        self.host, self.processes, self.parts, self.ports = host, processes, parts, ports

    def __enter__(self):
        return self

    def __exit__(self, *_):
        for pid in _pids(self.host, self.parts):  # autossh's ssh would stay
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        for each in self.processes:
            each.wait()
        wait_until(lambda: not _pids(self.host, self.parts), 30, "the tunnels are down")


def _sshd(host):
    host.start_sshd().stop()
    config = host.path("/etc/ssh/sshd_config")
    config.write_text(config.read_text() + "ClientAliveInterval 5\nClientAliveCountMax 2\n")
    host.popen(["/usr/sbin/sshd", "-D", "-e", "-f", "/etc/ssh/sshd_config"], log="sshd.log").wait_line("listening")


def _master(bench, lb, servers):
    shutil.rmtree(lb.path("/etc/autoscaler"))
    lb.path("/etc/autoscaler/hosts.d").mkdir(parents=True)
    ini = lb.path("/etc/autoscaler/autoscaler.ini")
    ini.write_text(INI.format(secret=secrets.token_hex(16)))
    ini.chmod(0o600)
    lb.path("/etc/autoscaler/haproxy.cfg").write_text(TEMPLATE)
    for app in servers:
        lb.path(f"/etc/autoscaler/hosts.d/{app.name}").write_text(f"{app.address} 80 -\n")
    lb.install(bench.binary, "autoscaler")
    if not lb.path("/root/.ssh/id_ed25519").exists():
        lb.start_sshd()
    master = lb.popen(["autoscaler", "master"], log="master.log")
    master.wait_line("serving on")
    return master


def _masters(bench, lb, servers, _):
    return _Started(lb, [_master(bench, lb, servers)], ("autoscaler", "ssh"), range(65432, 65440))


def _autossh(bench, lb, servers, number):
    port = 65432 + number
    started = [lb.popen(AUTOSSH.format(app=app.address, port=port).split(), log="autossh.log",
                        env={"AUTOSSH_GATETIME": "0"}) for app in servers]
    return _Started(lb, [*started, _master(bench, lb, [])], ("autossh", "ssh", "autoscaler"), [port])


def _pids(host, programs):
    return [pid for pid, argv in host.commands().items() if Path(argv[0]).name in programs]


def _memory(host, programs):
    """Their memory in bytes, what they share counted once."""
    def pss(pid):
        return int(re.search(r"^Pss:\s*(\d+)", Path(f"/proc/{pid}/smaps_rollup").read_text(), re.M)[1]) * 1024
    return sum(map(pss, _pids(host, programs)))


def _wait_all(lb, servers, ports, what):
    """Waits until the master answers on every app server."""
    waiting = set(servers)

    def answers(app):
        for port in ports:
            try:
                with app.connect(port, timeout=2) as connection:
                    connection.sendall(f"HELLO 2 bench {secrets.token_hex(16)}\n".encode())
                    if connection.recv(100).startswith(b"CHALLENGE"):
                        return app
            except (OSError, socket.timeout):
                pass
        return None

    def all_answer():
        with ThreadPoolExecutor(8) as pool:
            waiting.difference_update(pool.map(answers, list(waiting)))
        return not waiting
    wait_until(all_answer, 300, lambda: f"{what}; missing {len(waiting)}, of which {next(iter(waiting)).name}", every=0.1)
