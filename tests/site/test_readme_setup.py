"""The README's set-up on AWS, followed to the letter in the lab: its INI keys, its authorized_keys lines
and its commands are taken from the README's own text."""

import json
import re
import shutil
import subprocess
import time

import pytest
from conftest import ROOT
from lab import Ec2Endpoint, Network, ProcStat, missing, wait_until
from readme import (USERS_PATH, WITHOUT_ROOT, authorized_keys, block, commands, on_every_host_after, part,
                    sshd_settings, step)
from site_lab import loads

pytestmark = pytest.mark.skipif(missing("sshd", "haproxy") is not None, reason=str(missing("sshd", "haproxy")))

USER = "autoscaler"
SSH = "ssh -i /etc/autoscaler/id_ed25519 -o IdentitiesOnly=yes -o BatchMode=yes -o StrictHostKeyChecking=accept-new"

# HAProxy's configuration before autoscaler, and sudo's as Debian has it.
BEFORE = """\
global
    stats socket /run/haproxy/admin.sock mode 660 level admin
frontend before
    mode http
    timeout client 1s
    bind :80
"""
SUDOERS = "Defaults secure_path=/usr/local/bin:/usr/sbin:/usr/bin\n@includedir /etc/sudoers.d\n"
# What the steps put into the image.
IMAGE = ("etc/passwd", "etc/shadow", "etc/group", "etc/gshadow", "etc/autoscaler", "etc/lab/bin", "root/.ssh",
         f"var/lib/{USER}")


class Setup:
    """Two HAProxy hosts and the machine of which the image is made, before anybody has done anything.

    `rights`: "root", "user" where docs/without-root.md is followed, or "sudo" for its last part.
    """

    def __init__(self, net, binary, rights):
        self.net, self.binary, self.rights = net, binary, rights
        self.user = "root" if rights == "root" else USER
        self.lbs = [net.host("lb1", "10.77.0.11"), net.host("lb2", "10.77.0.12")]
        self.image = net.host("image")
        for host in (*self.lbs, self.image):
            host.path("/etc/autoscaler").rmdir()  # the lab's
            self.own_programs(host)
            host.install(binary, "autoscaler")

    @staticmethod
    def own_programs(host):
        """/usr/local/bin of the lab's hosts is this machine's: theirs goes over it, for them alone."""
        host.run(["mount", "--bind", "/etc/lab/bin", "/usr/local/bin"])

    def write_ini(self, more):
        """Step 2: `init`, the keys of the README, and what the lab needs beside them."""
        first, *others = self.lbs
        where, init = re.search(r"On (each|one) HAProxy host, run `(autoscaler init)`", step(2)).groups()
        for lb in self.lbs if where == "each" else [first]:
            lb.run(init.split())
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
        self.image.path("/etc/autoscaler").mkdir()
        for host in (*others, self.image):
            shutil.copy(ini, host.path("/etc/autoscaler/autoscaler.ini"))

    def make_keys(self):
        """Step 4: a pair for each side, and who lets in whom."""
        [keygen] = re.findall(r"`(ssh-keygen [^`]*)`", step(4))
        first, *others = self.lbs
        public = []
        for host in (self.image, first):
            host.run(["sh", "-ec", keygen])
            public.append(host.path("/etc/autoscaler/id_ed25519.pub").read_text())
        for lb in others:
            for name in ("id_ed25519", "id_ed25519.pub"):
                shutil.copy(first.path(f"/etc/autoscaler/{name}"), lb.path(f"/etc/autoscaler/{name}"))
        [path] = re.findall(r"`(/\S*/authorized_keys)`", step(4) if self.rights == "root" else part("On every host"))
        lines = authorized_keys(public, self.rights == "sudo")
        for host, line in ((self.image, lines[1]), *((lb, lines[0]) for lb in self.lbs)):
            host.path(path).write_text(f"{line}\n")

    def as_ordinary_user(self, number):
        """docs/without-root.md on every host, after this one of the steps."""
        lines = {"root": [], "user": on_every_host_after(number),
                 "sudo": [line for line in on_every_host_after(number) if not line.startswith("chown")]}[self.rights]
        for host in (*self.lbs, self.image):
            self.shell(host, lines)

    def let_in(self, host):
        """sshd, as Debian sets it up, with the image's settings on app servers."""
        if self.rights == "sudo" and host in self.lbs:
            host.path("/etc/sudoers").write_text(SUDOERS)
            sudoers = host.path("/etc/sudoers.d/autoscaler")
            sudoers.parent.mkdir()
            shutil.copy(ROOT / "packaging/ssh/sudoers", sudoers)
            sudoers.chmod(0o440)
            host.run(["visudo", "-c", "-f", "/etc/sudoers.d/autoscaler"])
        host.start_sshd(own_keys=True, settings="" if host in self.lbs else sshd_settings(),
                        path=USERS_PATH if self.rights == "user" else None)

    @staticmethod
    def shell(host, lines):
        """Shell commands of the docs, on a host."""
        for line in lines:
            host.run(["sh", "-ec", line])
            if line.startswith("useradd"):
                # Debian's sshd asks PAM and not this; the lab's would take "!" for a locked account.
                host.run(["usermod", "-p", "*", USER])

    def service(self, host, name):
        """Step 9, as the supervisor runs it."""
        argv = ["autoscaler", name]
        if self.rights != "user":
            return host.popen(argv, log=f"{name}.log")
        # As chpst does it, which also leaves root's HOME.
        groups = f":{USER}:haproxy" if name == "master" else ""
        assert f"exec chpst -u {USER}{groups} autoscaler {name}" in WITHOUT_ROOT
        process = host.popen(["setpriv", f"--reuid={USER}", f"--regid={USER}",
                              "--init-groups" if groups else "--clear-groups", "--bounding-set=-all", "--inh-caps=-all",
                              "--no-new-privs", *argv], log=f"{name}.log")
        process.wait_line("serving on|watching the CPU")
        with open(f"/proc/{process.pid}/status") as file:
            status = file.read()
        assert re.search(r"^CapEff:\s0+$", status, re.M) and re.search(r"^CapBnd:\s0+$", status, re.M)
        assert not re.search(r"^(Uid|Gid|Groups):.*\b0\b", status, re.M), status
        return process

    def start_haproxy(self, lb):
        """HAProxy as Debian runs it, with the settings of docs/without-root.md."""
        lb.path("/etc/haproxy/haproxy.cfg").write_text(BEFORE)
        if self.rights != "user":
            return lb.start_haproxy()
        text = part("On a HAProxy host")
        lb.run(["sh", "-ec", "chown haproxy: /run/haproxy; chmod 2775 /run/haproxy"])  # Debian's tmpfiles.d/haproxy.conf
        self.shell(lb, commands(text))
        template = lb.path("/etc/autoscaler/haproxy.cfg")
        [socket] = re.findall(r"^stats socket .*$", text, re.M)
        after, count = re.subn(r"^(\s*)stats socket .*$", rf"\1{socket}", template.read_text(), flags=re.M)
        assert count == 1
        template.write_text(after)
        return lb.start_haproxy(master_socket=re.search(r'^EXTRAOPTS="-S (.*)"$', text, re.M)[1])

    def boot(self, host):
        """Step 7: what a machine of the image does when it boots."""
        self.own_programs(host)
        present = [name for name in IMAGE if self.image.path(f"/{name}").exists()]
        subprocess.run(["cp", "-a", "--parents", *present, host.dir], cwd=self.image.dir, check=True)
        self.let_in(host)
        load = ProcStat(host.path("/var/lib/proc"), load=10)
        host.on_kill(load.close)
        host.start_app(80)
        return self.service(host, "daemon")

    def ssh(self, host, peer, *arguments, input=None):
        """ssh with the key of the README, as somebody would who has got hold of it."""
        return host.run([*SSH.split(), *arguments[:-1], f"{self.user}@{peer.address}", *arguments[-1:]],
                        check=False, input=input, timeout=20)


def follow(setup, ec2, keys=""):
    """The ten steps, with these keys in the INI as well; returns (an app server, the new machine, the HAProxies)."""
    net, lbs = setup.net, setup.lbs
    setup.write_ini(f"[aws]\nendpoint_url = {ec2.url}\nmetadata_url = {ec2.metadata_url}\n"
                    f"[scaling]\nprocfs = /var/lib/proc\ncooldown = 1s\nscale_down_cooldown = 1s\n{keys}")
    setup.as_ordinary_user(2)
    setup.make_keys()
    setup.as_ordinary_user(4)
    setup.as_ordinary_user(7)
    for lb in lbs:
        setup.let_in(lb)
    # 8. and 3.: the first app servers, and the template that `init` made.
    add_hosts = commands(step(8))
    assert [line.split()[1] for line in add_hosts] == ["add-host", "add-host", "generate", "generate"]
    addresses = [line.split()[2].replace("10.0.0.", "10.77.0.") for line in add_hosts if "add-host" in line]
    apps = [net.host(f"app{n + 1}", address) for n, address in enumerate(addresses)]
    daemons = [setup.boot(app) for app in apps]
    haproxies = []
    for lb in lbs:
        haproxies.append(setup.start_haproxy(lb))
        for line in add_hosts:
            lb.run(line.replace("10.0.0.", "10.77.0.").split())
        haproxies[-1].wait_servers(2)
    # 9.
    for lb in lbs:
        setup.service(lb, "master")
    for daemon in daemons:
        for lb in lbs:
            daemon.wait_line(f"master {lb.name}: connected")
    # 10.
    check, status, dry_run, scale_up = (line.split() for line in commands(step(10)))
    checked = apps[0].run(check, check=False)
    assert checked.returncode == 0, checked
    def known():
        told = json.loads(apps[0].run([*status, "--json"]).stdout)
        return [[node["name"].partition("/")[0] for node in master["nodes"]] for master in told["masters"]]

    wait_until(lambda: known() == [["app1", "app2"]] * 2, 10, lambda: f"both masters know both nodes: {known()}")
    if setup.rights == "user":  # its group lets the master ask HAProxy
        assert "admin.sock" not in lbs[0].run(["autoscaler", "status"]).stdout
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
    wait_until(lambda: machine.name in loads(machine), 10, "its load is known")
    for _ in range(10):
        done = machine.run(["autoscaler", "scale-down", "-v"], check=False)
        if done.returncode != 75:  # busy: try later, as the manual says
            break
        time.sleep(1)
    assert done.returncode in (0, 137, -9), done.stderr  # it may die with the machine
    for haproxy in haproxies:
        haproxy.wait_servers(2)
        assert machine.name not in haproxy.servers()


@pytest.mark.parametrize("rights", ["root", "user", "sudo"])
def test_the_ten_steps(tmp_path, binary, rights):
    headings = {"root": [], "user": ["On every host", "On a HAProxy host"], "sudo": ["On every host"]}[rights]
    keys = "".join(block(part(heading), "ini") for heading in headings)
    with Network(tmp_path) as net:
        setup = Setup(net, binary, rights)
        with Ec2Endpoint(host=net.host("aws"), on_launch=lambda i, address, _: setup.boot(net.host(i, address)),
                         on_terminate=lambda i: net.hosts[i].kill()) as ec2:
            app, new, haproxies = follow(setup, ec2, keys)
            leave(new, haproxies)
            assert ec2.running == []
            assert all(call.verdict in ("ok", "DryRunOperation") for call in ec2.requests)
            what_an_app_server_may_not_do(setup, setup.lbs[0], app)


def what_an_app_server_may_not_do(setup, lb, app):
    """Its key lists, adds and removes hosts (what else was tried: test_ssh_gate.py and test_ssh_keys.py)."""
    listing = lb.run(["autoscaler", "list-hosts"]).stdout
    assert setup.ssh(app, lb, "autoscaler list-hosts").stdout == listing
    for order in ("id", "autoscaler generate", "autoscaler list-hosts; id", "sudo id"):
        done = setup.ssh(app, lb, order)
        assert (done.returncode, done.stdout) == (77, ""), order
    if setup.rights == "sudo":  # The rule of sudo holds without the forced command, too.
        for order in ("id", "autoscaler list-hosts", "autoscaler -c /tmp/x ssh-gate", "autoscaler ssh-gate --help"):
            done = lb.run(["setpriv", f"--reuid={setup.user}", f"--regid={setup.user}", "--clear-groups",
                           "sudo", "-n", *order.split()], check=False)
            assert "password is required" in done.stderr, order
    assert lb.run(["autoscaler", "list-hosts"]).stdout == listing
