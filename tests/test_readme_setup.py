"""The README's set-up on AWS, followed to the letter in the lab: its INI keys, its authorized_keys lines
and its commands are taken from the README's own text."""

import re
import shutil
import subprocess
import time

import pytest
from conftest import ROOT
from lab import Ec2Endpoint, Network, ProcStat, missing, wait_until

pytestmark = pytest.mark.skipif(missing("sshd", "haproxy") is not None, reason=str(missing("sshd", "haproxy")))

README = (ROOT / "README.md").read_text()
SSH = "ssh -i /etc/autoscaler/id_ed25519 -o IdentitiesOnly=yes -o BatchMode=yes -o StrictHostKeyChecking=accept-new"

# HAProxy's configuration before autoscaler, and sudo's as Debian has it.
BEFORE = """\
global
    stats socket /run/haproxy/admin.sock level admin
frontend before
    mode http
    timeout client 1s
    bind :80
"""
SUDOERS = "Defaults secure_path=/usr/local/bin:/usr/sbin:/usr/bin\n@includedir /etc/sudoers.d\n"


def step(number):
    """The text of one of the ten steps."""
    return re.search(rf"^\*\*{number}\. .*?(?=^\*\*\d+\. |^### )", README, re.M | re.S)[0]


def block(text, language=""):
    """The first fenced block of `language`."""
    return re.search(rf"^```{language}\n(.*?)^```", text, re.M | re.S)[1]


def commands(text):
    """The lines of the shell blocks, without their comments."""
    lines = "".join(re.findall(r"^```sh\n(.*?)^```", text, re.M | re.S)).splitlines()
    return [line.partition("#")[0].strip() for line in lines]


def authorized_keys(user_key):
    """(the line for the HAProxy hosts, the line for the app servers) with these (app, HAProxy) keys in them."""
    lines = re.findall(r"^restrict,.*$", step(4), re.M)
    assert len(lines) == 2
    return [re.sub(r"ssh-ed25519 <.*>$", key.strip(), line) for line, key in zip(lines, user_key)]


class Setup:
    """Two HAProxy hosts and an app server, before anybody has done anything; the image is `launch`."""

    def __init__(self, net, scratch, binary, user="root"):
        self.net, self.binary, self.user = net, binary, user
        self.lbs = [net.host("lb1", "10.77.0.11"), net.host("lb2", "10.77.0.12")]
        self.keys = []
        for side in ("app", "haproxy"):
            key = scratch / f"{side}_ed25519"
            subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", key], check=True)
            self.keys.append(key)
        self.lines = authorized_keys([key.with_suffix(".pub").read_text() for key in self.keys])
        if user != "root":
            self.lines[0] = self.lines[0].replace('command="', 'command="sudo ')
        self.ini = None

    def machine(self, host, side):
        """Steps 1, 2 and 4 on one host: the binary, the INI if there is one yet, the keys."""
        # /usr/local/bin of the lab's hosts is this machine's: theirs goes over it, for them alone.
        host.run(["mount", "--bind", "/etc/lab/bin", "/usr/local/bin"])
        host.install(self.binary, "autoscaler")
        if self.user != "root":
            host.add_user(self.user)
            host.path("/etc/sudoers").write_text(SUDOERS)
            sudoers = host.path("/etc/sudoers.d/autoscaler")
            sudoers.parent.mkdir()
            if side == "haproxy":
                shutil.copy(ROOT / "packaging/ssh/sudoers", sudoers)
        key = self.keys[side == "haproxy"]
        for suffix in ("", ".pub"):
            shutil.copy(f"{key}{suffix}", host.path(f"/etc/autoscaler/id_ed25519{suffix}"))
        host.path("/etc/autoscaler/id_ed25519").chmod(0o600)
        host.start_sshd(authorized_keys=self.lines[side == "app"] + "\n")
        if self.ini:
            path = host.path("/etc/autoscaler/autoscaler.ini")
            path.write_text(self.ini)
            path.chmod(0o600)

    def write_ini(self, more):
        """Step 2: `init`, the keys of the README, and what the lab needs beside them."""
        first = self.lbs[0]
        first.run(["autoscaler", "init"])
        ini = first.path("/etc/autoscaler/autoscaler.ini")
        for text in (block(step(2), "ini"), more):
            section = None
            for line in filter(None, text.splitlines()):
                if line.startswith("["):
                    section = line
                    continue
                key, _, value = line.partition(" = ")
                value = re.sub(r"\b10\.0\.0\.", "10.77.0.", value)
                before, after = ini.read_text().split(f"{section}\n")
                # The key's own line in the sample, whether it is commented out or not.
                line = f"{key} = {value}"
                after, found = re.subn(rf"^#?{key} =.*$", lambda _, line=line: line, after, count=1, flags=re.M)
                assert found, key
                ini.write_text(f"{before}{section}\n{after}")
        self.ini = ini.read_text()
        for lb in self.lbs[1:]:
            lb.run(["autoscaler", "init"])
            lb.path("/etc/autoscaler/autoscaler.ini").write_text(self.ini)

    def boot(self, host):
        """Step 7: what a machine of the image does when it boots."""
        self.machine(host, "app")
        load = ProcStat(host.path("/var/lib/proc"), load=10)
        host.on_kill(load.close)
        host.start_app(80)
        return host.popen(["autoscaler", "daemon"], log="daemon.log")

    def ssh(self, host, peer, *arguments, input=None):
        """ssh with the key of the README, as somebody would who has got hold of it."""
        return host.run([*SSH.split(), *arguments[:-1], f"{self.user}@{peer.address}", *arguments[-1:]],
                        check=False, input=input, timeout=20)


def follow(setup, ec2, keys=""):
    """The ten steps, with these keys in the INI as well; returns (an app server, the new machine, the HAProxies)."""
    net, lbs = setup.net, setup.lbs
    for lb in lbs:
        setup.machine(lb, "haproxy")
    setup.write_ini(f"[aws]\nendpoint_url = {ec2.url}\nmetadata_url = {ec2.metadata_url}\n"
                    f"[scaling]\nprocfs = /var/lib/proc\ncooldown = 1s\nscale_down_cooldown = 1s\n{keys}")
    # 8. and 3.: the first app servers, and the template that `init` made.
    add_hosts = commands(step(8))
    assert [line.split()[1] for line in add_hosts] == ["add-host", "add-host", "generate", "generate"]
    addresses = [line.split()[2].replace("10.0.0.", "10.77.0.") for line in add_hosts if "add-host" in line]
    apps = [net.host(f"app{n + 1}", address) for n, address in enumerate(addresses)]
    daemons = [setup.boot(app) for app in apps]
    haproxies = []
    for lb in lbs:
        lb.path("/etc/haproxy/haproxy.cfg").write_text(BEFORE)
        haproxies.append(lb.start_haproxy())
        for line in add_hosts:
            lb.run(line.replace("10.0.0.", "10.77.0.").split())
        haproxies[-1].wait_servers(2)
    # 9.
    for lb in lbs:
        lb.popen(["autoscaler", "master"], log="master.log")
    for daemon in daemons:
        for lb in lbs:
            daemon.wait_line(f"master {lb.name}: connected")
    # 10.
    check, status, dry_run, scale_up = (line.split() for line in commands(step(10)))
    checked = apps[0].run(check, check=False)
    assert checked.returncode == 0, checked
    wait_until(lambda: apps[0].run(status).stdout.count("NODE") == 4, 10, "both masters know both nodes")
    assert "LaunchTemplate.LaunchTemplateName=app-server\n" in apps[0].run(dry_run).stdout
    assert not ec2.launched
    done = apps[0].run(scale_up)
    [new] = ec2.launched
    for lb, haproxy in zip(lbs, haproxies):
        assert f"{new} is in HAProxy on {lb.address}" in done.stderr
        haproxy.wait_servers(3)
    return apps[0], net.hosts[new], haproxies


def leave(machine, haproxies):
    """The new machine goes the way that it came, through the same keys."""
    wait_until(lambda: f"NODE {machine.name} " in machine.run(["autoscaler", "status"], check=False).stdout,
               10, "its load is known")
    for _ in range(10):
        done = machine.run(["autoscaler", "scale-down", "-v"], check=False)
        if done.returncode != 75:  # busy: try later, as the manual says
            break
        time.sleep(1)
    assert done.returncode in (0, 137, -9), done.stderr  # it may die with the machine
    for haproxy in haproxies:
        haproxy.wait_servers(2)
        assert machine.name not in haproxy.servers()


@pytest.mark.parametrize("user", ["root", "autoscaler"])
def test_the_ten_steps(tmp_path, binary, user):
    without_root = re.search(r"^### Without root\n(.*?)^## ", README, re.M | re.S)[1]
    keys = ""
    if user != "root":
        if not shutil.which("sudo"):
            pytest.skip("sudo is not installed")
        keys = "[haproxy]\n" + "\n".join(re.findall(r"`(ssh_user = .*?)`", without_root))
        assert f"ssh_user = {user}" in keys
    with Network(tmp_path) as net:
        setup = Setup(net, tmp_path, binary, user)
        with Ec2Endpoint(host=net.host("aws"), on_launch=lambda i, address, _: setup.boot(net.host(i, address)),
                         on_terminate=lambda i: net.hosts[i].kill()) as ec2:
            app, new, haproxies = follow(setup, ec2, keys)
            leave(new, haproxies)
            assert ec2.running == []
            assert all(call.verdict in ("ok", "DryRunOperation") for call in ec2.requests)
            what_an_app_server_may_not_do(setup, setup.lbs[0], app)
            what_a_haproxy_host_may_not_do(setup, setup.lbs[0], app)


def what_an_app_server_may_not_do(setup, lb, app):
    """Its key lists, adds and removes hosts (test_ssh_gate.py has all that is no such call)."""
    listing = lb.run(["autoscaler", "list-hosts"]).stdout
    assert setup.ssh(app, lb, "autoscaler list-hosts").stdout == listing
    for order in ("id", "autoscaler generate", "autoscaler list-hosts; id", "sudo id"):
        done = setup.ssh(app, lb, order)
        assert (done.returncode, done.stdout) == (77, ""), order
    for forward in (["-R", "127.0.0.1:4000:127.0.0.1:22"], ["-W", "127.0.0.1:80"]):
        assert setup.ssh(app, lb, "-o", "ExitOnForwardFailure=yes", *forward, "autoscaler list-hosts").returncode
    if setup.user != "root":  # The rule of sudo holds without the forced command, too.
        for order in ("id", "autoscaler list-hosts", "autoscaler -c /tmp/x ssh-gate", "autoscaler ssh-gate --help"):
            done = lb.run(["setpriv", f"--reuid={setup.user}", f"--regid={setup.user}", "--clear-groups",
                           "sudo", "-n", *order.split()], check=False)
            assert "password is required" in done.stderr, order
    assert lb.run(["autoscaler", "list-hosts"]).stdout == listing


def what_a_haproxy_host_may_not_do(setup, lb, app):
    """Its key opens a tunnel from the ports of tunnel_ports, and the order does not matter: it is always cat."""
    assert setup.ssh(lb, app, "id", input="echo\n").stdout == "echo\n"
    for listen in ("127.0.0.1:4000", "0.0.0.0:65439", "65439"):
        done = setup.ssh(lb, app, "-o", "ExitOnForwardFailure=yes", "-R", f"{listen}:127.0.0.1:22", "id", input="")
        assert "remote port forwarding failed" in done.stderr, listen
    done = setup.ssh(lb, app, "-o", "ExitOnForwardFailure=yes", "-R", "127.0.0.1:65439:127.0.0.1:22", "id", input="")
    assert done.returncode == 0
    done = lb.run([*SSH.split(), "-W", "127.0.0.1:80", f"{setup.user}@{app.address}"], check=False,
                  input="GET / HTTP/1.0\n\n")
    assert "prohibited" in done.stderr
    assert done.stdout == ""
