"""The tunnels from the masters to the app servers: real ssh, real sshd, hosts of their own."""

import re
import signal

import pytest
from lab import Network, missing, wait_until
from peers import SECRET, Peer

pytestmark = pytest.mark.skipif(missing("sshd") is not None, reason=str(missing("sshd")))


@pytest.fixture(scope="module")
def net(binary, tmp_path_factory):
    with Network(tmp_path_factory.mktemp("tunnels")) as network:
        for name in ("lb1", "lb2", "app1", "app2"):
            host = network.host(name)
            host.install(binary, "autoscaler")
            host.start_sshd()
        yield network


@pytest.fixture
def site(net):
    """Hosts without entries and without a master; what the test starts is ended."""
    one = Tunnels(net)
    yield one
    for process in one.started:
        process.kill()
    for host in net.hosts.values():
        wait_until(lambda host=host: not running(host, "ssh"), 5, f"no ssh is left on {host.name}")


class Tunnels:
    def __init__(self, net):
        self.started = []
        self.lb1, self.lb2, self.app1, self.app2 = net.hosts.values()
        for host in net.hosts.values():
            # File by file and from outside: a host also sees directories that are this machine's.
            for kept in ("/etc/autoscaler/hosts.d", "/var/lib/autoscaler/known_hosts", "/var/lib/autoscaler"):
                for path in host.path(kept).glob("*"):
                    if path.is_file():
                        path.unlink()
            for name in ("x", "tries", "pwned"):
                host.path(f"/tmp/{name}").unlink(missing_ok=True)
            host.path("/etc/autoscaler/hosts.d").mkdir(exist_ok=True)
            self.configure(host)

    def configure(self, host, master="", haproxy="ssh_user = root\n"):
        ini = host.path("/etc/autoscaler/autoscaler.ini")
        ini.write_text(f"[cluster]\nsecret = {SECRET}\n[master]\n{master}\n[haproxy]\nservers = lb1\n{haproxy}"
                       "[machine]\nscale_up_command = false\n")
        ini.chmod(0o600)

    def enter(self, lb, name, text):
        """An entry, put in place in one step."""
        hidden = lb.path(f"/etc/autoscaler/hosts.d/.{name}")
        hidden.write_text(f"{text}\n")
        hidden.rename(hidden.with_name(name))

    def leave(self, lb, name):
        lb.path(f"/etc/autoscaler/hosts.d/{name}").unlink()

    def start(self, host, command):
        self.started.append(host.popen(["autoscaler", command], log=f"{command}.log"))
        return self.started[-1]

    def master(self, lb):
        return self.start(lb, "master")


def running(host, program):
    """{pid: argv} of a program in the host."""
    return {pid: argv for pid, argv in host.commands().items() if argv[0].rpartition("/")[2] == program}


def master_at(app, port=65432):
    """The name of the master that answers on a port of the app server; None where nobody does."""
    try:
        with Peer(app.connect(port)) as peer:
            return peer.greet("somebody")
    except OSError:
        return None


def is_closed(app, port=65432):
    wait_until(lambda: master_at(app, port) is None, 5, f"nobody answers on {app.name}:{port}")


def test_they_follow_hosts_d(site):
    lb1, app1, app2 = site.lb1, site.app1, site.app2
    lb1.run(["autoscaler", "add-host", "app1", "80", "--name", "one"])
    master = site.master(lb1)
    master.wait_line("tunnel one: up, port 65432 ")
    assert master_at(app1) == "lb1" and master_at(app2) is None
    lb1.run(["autoscaler", "add-host", "app2", "80", "--name", "two"])
    master.wait_line("tunnel two: up, port 65432 ")
    assert master_at(app2) == "lb1"
    lb1.run(["autoscaler", "remove-host", "one"])
    master.wait_line("tunnel one: entry removed")
    is_closed(app1)
    # The address of an entry changes.
    mark = master.mark()
    site.enter(lb1, "two", f"{app1.address} 80 -")
    master.wait_line("tunnel two: up, port 65432 ", after=mark)
    is_closed(app2)
    assert master_at(app1) == "lb1"
    wait_until(lambda: len(running(lb1, "ssh")) == 1, 5, "one ssh is left")
    # As an argv, with what the contract says; and the one process at the far end is cat.
    [argv] = running(lb1, "ssh").values()
    options = [argv[number + 1] for number, word in enumerate(argv) if word == "-o"]
    assert {"BatchMode=yes", "ExitOnForwardFailure=yes"} <= set(options)
    assert any(option.startswith("ServerAliveInterval=") for option in options)
    assert f"root@{app1.address}" in argv and argv[-1] == "cat"
    assert not running(lb1, "sh")


def test_an_entry_that_cannot_be_read_does_not_hold_up_the_others(site):
    site.enter(site.lb1, "app1", f"{site.app1.address} 80 -")
    site.enter(site.lb1, "aaa", "bind *:1")
    site.enter(site.lb1, "old", f"server old {site.app2.address}:80 check")  # of 0.0.3
    master = site.master(site.lb1)
    master.wait_line("tunnel app1: up")
    master.wait_line("tunnel old: up")
    master.wait_line("tunnel aaa: .*hosts.d/aaa: ")
    # One that vanished for a moment, with the whole directory, closes nothing.
    hosts = site.lb1.path("/etc/autoscaler/hosts.d")
    hosts.rename(hosts.with_name("elsewhere"))
    master.wait_line("hosts.d: not found")
    hosts.with_name("elsewhere").rename(hosts)
    assert master_at(site.app1) == master_at(site.app2) == "lb1"
    assert len(re.findall("tunnel app1: up", master.text())) == 1
    assert len(re.findall("tunnel aaa: ", master.text())) == 1


def test_a_port_that_is_taken_at_the_far_end_is_passed_over(site):
    site.configure(site.lb1, "tunnel_ports = 65432-65433")
    with site.app1.listen(65432, "127.0.0.1"), site.app2.listen(65432, "127.0.0.1"), site.app2.listen(65433, "127.0.0.1"):
        site.enter(site.lb1, "app1", f"{site.app1.address} 80 -")
        site.enter(site.lb1, "app2", f"{site.app2.address} 80 -")
        master = site.master(site.lb1)
        master.wait_line("tunnel app1: up, port 65433 ")
        assert master_at(site.app1, 65433) == "lb1"
        master.wait_line("tunnel app2: down: .*65433")
    # One of them is free again.
    master.wait_line("tunnel app2: up, port 65432 ")
    assert len(running(site.lb1, "ssh")) == 2


def test_two_masters_take_two_ports_and_the_daemon_tells_them_apart(site):
    for lb in (site.lb1, site.lb2):
        site.enter(lb, "app1", f"{site.app1.address} 80 -")
        site.master(lb).wait_line("tunnel app1: up")
    assert {master_at(site.app1, port) for port in (65432, 65433)} == {"lb1", "lb2"}
    daemon = site.start(site.app1, "daemon")
    daemon.wait_line("master lb1: connected")
    daemon.wait_line("master lb2: connected")
    # One tunnel more to a master that is known: no third master.
    mark = daemon.mark()
    site.enter(site.lb1, "again", f"{site.app1.address} 81 -")
    wait_until(lambda: master_at(site.app1, 65434) == "lb1", 10, "a third tunnel")
    site.started[0].kill()
    daemon.wait_line("master lb1: connection lost")
    assert "connected" not in daemon.text(mark)


def test_a_tunnel_comes_back_with_a_pause_that_grows(site):
    lb1, app1 = site.lb1, site.app1
    lb1.script("ssh-noted", '#!/bin/sh\ndate +%s.%N >>/tmp/tries\nexec ssh "$@"\n')
    site.configure(lb1, haproxy="ssh_command = ssh-noted\n")
    site.enter(lb1, "app1", f"{app1.address} 80 -")
    master = site.master(lb1)
    master.wait_line("tunnel app1: up")
    lb1.path("/tmp/tries").unlink()
    app1.stop_sshd()
    tries = lb1.path("/tmp/tries")
    wait_until(lambda: tries.exists() and len(tries.read_text().split()) >= 3, 15, "three tries")
    begin = [float(line) for line in tries.read_text().split()]
    assert begin[2] - begin[1] > 1.5 * (begin[1] - begin[0]), begin
    mark = master.mark()
    app1.start_sshd()
    master.wait_line("tunnel app1: up", after=mark, timeout=10)
    assert master_at(app1) == "lb1"
    # The same trouble is not said at every try.
    assert len(re.findall("tunnel app1: down", master.text())) <= 2, master.text()


@pytest.mark.parametrize("sig", [signal.SIGKILL, signal.SIGTERM], ids=lambda sig: sig.name)
def test_a_master_that_is_killed_leaves_nothing(site, sig):
    for name, app in (("app1", site.app1), ("app2", site.app2)):
        site.enter(site.lb1, name, f"{app.address} 80 -")
    master = site.master(site.lb1)
    daemon = site.start(site.app1, "daemon")  # a forwarded channel is open
    daemon.wait_line("master lb1: connected")
    master.wait_line("tunnel app2: up")
    mark = daemon.mark()
    master.kill(sig)
    wait_until(lambda: not running(site.lb1, "ssh"), 5, "no ssh is left on lb1")
    for app in (site.app1, site.app2):
        wait_until(lambda app=app: not running(app, "cat") or len(running(app, "cat")) == 1, 5, "no cat but the init's")
        is_closed(app)
    daemon.wait_line("master lb1: connection lost", after=mark)
    mark = daemon.mark()
    site.master(site.lb1).wait_line("tunnel app1: up, port 65432 ")  # free again
    daemon.wait_line("master lb1: connected", after=mark)


# App servers that let the master in and carry nothing

@pytest.fixture
def sshd(site):
    """A function: app1's sshd anew with these options before its key, or these lines of its configuration."""
    def again(options="", settings=""):
        site.app1.stop_sshd()
        key = site.app1.path("/root/.ssh/id_ed25519.pub").read_text()
        site.app1.start_sshd(authorized_keys=f"{options} {key}", settings=settings)

    yield again
    again()


def says(site, text):
    """A tunnel to app1 is down for this reason, says so once, and is never up."""
    site.configure(site.lb1, "tunnel_ports = 65432-65434")
    site.enter(site.lb1, "app1", f"{site.app1.address} 80 -")
    master = site.master(site.lb1)
    master.wait_line(f"tunnel app1: down: {text}", timeout=20)
    told = site.lb1.run(["autoscaler", "status"]).stdout
    assert "0 of 1 up" in told, told
    return master


NOT_ROOT = 'Please login as the user "ec2-user" rather than the user "root".'


def test_the_key_of_ec2s_images_says_whom_to_log_in_as(site, sshd):
    text = NOT_ROOT.replace('"', '\\"')
    sshd(f"no-port-forwarding,no-agent-forwarding,no-X11-forwarding,command=\"echo '{text}';echo;sleep 10;exit 142\"")
    says(site, f"where cat should run, this is printed: {NOT_ROOT}")


def test_what_answers_in_place_of_cat_is_not_up(site, sshd):
    sshd('command="echo This account is currently not available."')
    master = says(site, "where cat should run, this is printed: This account is currently not available.")
    wait_until(lambda: len(running(site.lb1, "ssh")) == 0, 10, "that try has ended")
    assert "up, port" not in master.text() and master.text().count("tunnel app1: down") == 1


@pytest.mark.parametrize("how", [{"settings": "AllowTcpForwarding no"}, {"settings": "PermitListen 1"}, {"options": "restrict"}],
                         ids=lambda how: next(iter(how.values())).split()[0])
def test_a_host_that_forbids_forwarding_is_told_from_a_port_that_is_taken(site, sshd, how):
    sshd(**how)
    says(site, f"root@{site.app1.address} gives none of the ports 65432-65434: .*AllowTcpForwarding and PermitListen.*"
         "no-port-forwarding")


def test_a_greeting_before_the_echo_does_no_harm(site, sshd):
    sshd('command="echo Welcome; exec cat"')
    site.enter(site.lb1, "app1", f"{site.app1.address} 80 -")
    site.master(site.lb1).wait_line("tunnel app1: up")


def test_a_port_that_is_open_to_the_network_is_said_once_and_in_check(site, sshd):
    sshd(settings="GatewayPorts yes")
    site.enter(site.lb1, "app1", f"{site.app1.address} 80 -")
    site.master(site.lb1).wait_line("tunnel app1: up")
    daemon = site.start(site.app1, "daemon")
    daemon.wait_line("port 65432, where the tunnel ends, is open to the network: take `GatewayPorts yes` out")
    daemon.wait_line("master lb1: connected")
    told = site.app1.run(["autoscaler", "check"], check=False).stdout
    assert "warn  port 65432, where the tunnel ends, is open to the network" in told, told
    sshd()
    daemon.wait_line("master lb1: connected", after=daemon.mark(), timeout=20)
    assert daemon.text().count("open to the network") == 1
    assert "open to the network" not in site.app1.run(["autoscaler", "check"], check=False).stdout


def test_an_entry_that_is_edited_in_place_is_followed(site):
    lb1, app1, app2 = site.lb1, site.app1, site.app2
    site.enter(lb1, "one", f"{app1.address} 80 i-1")
    master = site.master(lb1)
    master.wait_line("tunnel one: up")
    file = lb1.path("/etc/autoscaler/hosts.d/one")
    mark = master.mark()
    file.write_text(f"{app2.address} 80 i-1\n")
    master.wait_line("tunnel one: entry changed", after=mark, timeout=15)
    master.wait_line("tunnel one: up", after=mark)
    assert master_at(app2) == "lb1"
    is_closed(app1)
    # EC2 gave the address to another instance, which has another key.
    new_host_key(app2)
    mark = master.mark()
    file.write_text(f"{app2.address} 80 i-2\n")
    master.wait_line("tunnel one: entry changed", after=mark, timeout=15)
    master.wait_line("tunnel one: up", after=mark)


# Host keys

def new_host_key(app):
    """The machine is another one at the same address."""
    app.stop_sshd()
    for key in app.path("/etc/ssh").glob("ssh_host_*"):
        key.unlink()
    app.start_sshd()


def test_a_host_key_is_taken_once_and_kept_for_its_entry(site):
    lb1, app1 = site.lb1, site.app1
    site.enter(lb1, "one", f"{app1.address} 80 -")
    master = site.master(lb1)
    master.wait_line("tunnel one: up")
    kept = lb1.path("/var/lib/autoscaler/known_hosts")
    assert [path.name for path in kept.iterdir()] == ["one"]
    assert not lb1.path("/root/.ssh/known_hosts").exists()
    master.kill()
    new_host_key(app1)
    # Another key under the same entry: somebody is in the way.
    site.enter(lb1, "other", f"{app1.address} 81 -")
    master = site.master(lb1)
    master.wait_line("tunnel one: down: Host key verification failed.* if it was set up anew, remove "
                     "/var/lib/autoscaler/known_hosts/one;")
    # A new entry at that address is a new machine.
    master.wait_line("tunnel other: up")
    assert master_at(app1) == "lb1" and "tunnel one: up" not in master.text()
    # Its removal takes the key along, so that it can be entered again.
    site.leave(lb1, "one")
    master.wait_line("tunnel one: entry removed")
    site.enter(lb1, "one", f"{app1.address} 80 -")
    master.wait_line("tunnel one: up")


def test_a_key_of_an_entry_that_went_while_no_master_ran_is_forgotten(site):
    lb1, app2 = site.lb1, site.app2
    site.enter(lb1, "one", f"{app2.address} 80 -")
    master = site.master(lb1)
    master.wait_line("tunnel one: up")
    master.kill()
    site.leave(lb1, "one")
    new_host_key(app2)
    master = site.master(lb1)
    master.wait_line("serving on")
    wait_until(lambda: not lb1.path("/var/lib/autoscaler/known_hosts/one").exists(), 3, "the key is forgotten")
    site.enter(lb1, "one", f"{app2.address} 80 -")
    master.wait_line("tunnel one: up")


# Entries that would be something else than an address

@pytest.mark.parametrize("address", [
    "-oProxyCommand=touch${IFS}/tmp/pwned", "-F/tmp/x", "$(touch${IFS}/tmp/pwned)",
    "`touch${IFS}/tmp/pwned`", "a;touch${IFS}/tmp/pwned"])
def test_no_entry_can_be_more_than_an_address_to_ssh(site, address):
    lb1 = site.lb1
    site.configure(lb1, haproxy="")  # without a user, so that the address begins the word
    lb1.path("/tmp/x").write_text("ProxyCommand touch /tmp/pwned\n")
    site.enter(lb1, "bad", f"server bad {address}:80 check")
    site.enter(lb1, "good", f"{site.app1.address} 80 -")
    master = site.master(lb1)
    master.wait_line("tunnel good: up")
    master.wait_line("tunnel bad: ")
    assert not lb1.path("/tmp/pwned").exists()
