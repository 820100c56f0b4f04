"""What a thief of one of the README's two keys gets out of it: each key does its job, for root as well, and every
other thing that ssh can be asked for is tried against a real sshd."""

import subprocess

import pytest
from lab import Network, missing, wait_until
from readme import authorized_keys, sshd_settings

pytestmark = pytest.mark.skipif(missing("sshd", "socat") is not None, reason=str(missing("sshd", "socat")))

SSH = "-i /root/stolen -o IdentitiesOnly=yes -o BatchMode=yes -o StrictHostKeyChecking=accept-new".split()
UNIX = "/run/service.sock"


class Theft:
    """Two hosts: the thief has `key` on `here`, and it is in authorized_keys on `there` as `line` says."""

    def __init__(self, net, binary, key, line, settings):
        self.here, self.there = net.host("here"), net.host("there")
        for suffix in ("", ".pub"):
            target = self.here.path(f"/root/stolen{suffix}")
            target.write_text(key.with_name(key.name + suffix).read_text())
            target.chmod(0o600)
        # /usr/local/bin is this machine's; the key's line names a program there.
        self.there.run(["mount", "--bind", "/etc/lab/bin", "/usr/local/bin"])
        self.there.install(binary, "autoscaler")
        self.there.path("/etc/autoscaler/autoscaler.ini").write_text("")
        self.there.path("/etc/autoscaler/hosts.d").mkdir()
        self.there.start_sshd(authorized_keys=line + "\n", settings=settings)
        self.there.start_app(80)
        self.there.popen(["socat", f"UNIX-LISTEN:{UNIX},fork", "SYSTEM:touch /tmp/reached"], log="service.log")
        wait_until(self.there.path(UNIX).exists, 10, "the service's socket")

    def ssh(self, *arguments, input="id\n", env=None):
        """Runs ssh to its end, with what comes before the host and after it."""
        done = self.here.run(["ssh", *SSH, *arguments], check=False, input=input, timeout=20, env=env)
        assert "Permission denied" not in done.stderr, done
        return done

    def forwards(self, listen):
        """Whether `-R listen:…` is granted."""
        done = self.ssh("-o", "ExitOnForwardFailure=yes", "-R", f"{listen}:127.0.0.1:22", "root@there", "x", input="")
        assert ("remote port forwarding failed" in done.stderr) == (done.returncode == 255), done
        return done.returncode != 255

    def reaches_unix_socket(self):
        """Whether `-L` leads to a Unix socket over there."""
        forward = self.here.popen(["ssh", *SSH, "-N", "-L", f"127.0.0.1:4000:{UNIX}", "root@there"], log="forward.log")
        self.here.wait_port(4000)  # which is one attempt already
        reached = self.there.path("/tmp/reached").exists
        wait_until(lambda: reached() or "open failed" in forward.text(), 10, "an answer")
        forward.kill()
        return reached()


@pytest.fixture(scope="module")
def thefts(binary, tmp_path_factory):
    """{"app" or "haproxy", whose key was stolen: Theft}."""
    scratch = tmp_path_factory.mktemp("keys")
    keys = [scratch / side for side in ("app", "haproxy")]
    for key in keys:
        subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", key], check=True)
    lines = authorized_keys([key.with_name(f"{key.name}.pub").read_text() for key in keys])
    with Network(scratch / "a") as first, Network(scratch / "b") as second:
        yield {"app": Theft(first, binary, keys[0], lines[0], ""),
               "haproxy": Theft(second, binary, keys[1], lines[1], sshd_settings())}


def test_the_key_of_the_app_servers_runs_a_daemons_calls_alone(thefts):
    theft = thefts["app"]
    listed = theft.ssh("root@there", "autoscaler list-hosts")
    assert (listed.returncode, listed.stdout) == (0, "")
    for order in ("id", "sh", "autoscaler generate", "autoscaler list-hosts; id", "/usr/lib/openssh/sftp-server"):
        done = theft.ssh("root@there", order)
        assert (done.returncode, done.stdout) == (77, ""), order
    # A shell, with and without a terminal.
    for options in ([], ["-T"]):
        done = theft.ssh(*options, "root@there")
        assert (done.returncode, done.stdout) == (64, ""), done
    for listen in ("127.0.0.1:65432", "127.0.0.1:4000", "0.0.0.0:4000", "/tmp/made.sock"):
        assert not theft.forwards(listen), listen


def test_the_key_of_the_app_servers_enters_no_more_than_max_hosts_and_one(thefts):
    theft = thefts["app"]
    ini, hosts = (theft.there.path(f"/etc/autoscaler/{name}") for name in ("autoscaler.ini", "hosts.d"))
    ini.write_text("[scaling]\nmax_hosts = 3\n[haproxy]\nconfig = /run/haproxy.cfg\ncheck_command = true\nreload_command = true\n")
    theft.there.path("/etc/autoscaler/haproxy.cfg").write_text("backend web\n    $SERVERS\n")
    # One connection each, as from daemons that launched them all; and several for one machine.
    orders = [f"10.0.0.{number} 80 --id i-{number}" for number in range(1, 7)] + [f"10.0.0.1 {port}" for port in (81, 82)]
    try:
        codes = [theft.ssh("root@there", f"autoscaler add-host {order} --apply").returncode for order in orders]
        assert codes == [0] * 4 + [77] * 4 and len(list(hosts.glob("[!.]*"))) == 4
        assert theft.there.path("/run/haproxy.cfg").read_text().count("server ") == 4
    finally:
        ini.write_text("")
        for entry in hosts.iterdir():
            entry.unlink()


def test_the_key_of_the_haproxy_hosts_opens_their_tunnel_alone(thefts):
    theft = thefts["haproxy"]
    for order in ([], ["id"], ["sh", "-i"], ["touch /tmp/pwned"]):
        assert theft.ssh("-T", "root@there", *order).stdout == "id\n", order  # what was sent: it is cat
    for port in (65432, 65439):
        assert theft.forwards(f"127.0.0.1:{port}")
    for listen in ("127.0.0.1:65431", "127.0.0.1:65440", "127.0.0.1:22", "127.0.0.1:0", "0.0.0.0:65432", "*:65432", "65432",
                   "localhost:65432", "[::1]:65432", "[::]:65432", "/tmp/made.sock", "/root/.ssh/made.sock"):
        assert not theft.forwards(listen), listen


@pytest.mark.parametrize("side", ["app", "haproxy"])
def test_nothing_else_that_ssh_can_do(thefts, side):
    theft = thefts[side]
    done = theft.ssh("-tt", "root@there", "sh")
    assert "PTY allocation request failed" in done.stderr and "uid=" not in done.stdout
    done = theft.ssh("-Y", "root@there", "x", env={"DISPLAY": "127.0.0.1:99"})
    assert "X11 forwarding request failed" in done.stderr
    for target in ("127.0.0.1:80", "127.0.0.1:22", f"{theft.here.address}:22", "[::1]:80"):
        done = theft.ssh("-W", target, "root@there", input="GET / HTTP/1.0\r\n\r\n")
        assert "administratively prohibited" in done.stderr and done.stdout == "", target
    assert not theft.reaches_unix_socket()
    done = theft.ssh("-w", "0:0", "root@there", "x")
    assert "unnel forwarding failed" in done.stderr or "unnel device open failed" in done.stderr, done
    # Files, by both protocols. With cat at the other end some wait for ever.
    theft.here.path("/tmp/file").write_text("stolen\n")
    for program in (["scp"], ["scp", "-O"]):
        done = theft.here.run(["timeout", "5", *program, *SSH, "/tmp/file", "root@there:/tmp/copied"], check=False, timeout=20)
        assert done.returncode != 0 and not theft.there.path("/tmp/copied").exists(), program
    done = theft.here.run(["timeout", "5", "sftp", *SSH, "root@there"], check=False, input="ls /\n", timeout=20)
    assert done.returncode != 0 and "etc" not in done.stdout
    # The thief's agent is not handed on, where somebody else over there could use it.
    agent = theft.here.run(["ssh-agent", "-a", f"/run/agent-{side}"]).stdout
    assert "SSH_AUTH_SOCK" in agent
    theft.ssh("-A", "root@there", "x", env={"SSH_AUTH_SOCK": f"/run/agent-{side}"})
    log = (theft.there.dir / "sshd.log").read_text()
    assert not list(theft.there.path("/tmp").glob("ssh-*")) and "agent" not in log.lower()
    assert not [name for name in ("made.sock", "pwned") if theft.there.path(f"/tmp/{name}").exists()]
    assert not theft.there.path("/root/.ssh/made.sock").exists()


def test_each_part_of_the_line_is_needed(thefts):
    """Why step 4 wants a setting of sshd and permitopen; and that these tests see a hole when there is one."""
    theft = thefts["haproxy"]
    line = theft.there.path("/etc/ssh/authorized_keys").read_text()
    try:
        theft.there.stop_sshd()
        theft.there.start_sshd(authorized_keys=line)
        assert theft.forwards("/tmp/hole.sock")
        assert not theft.reaches_unix_socket()
        theft.there.stop_sshd()
        theft.there.start_sshd(authorized_keys=line.replace('permitopen="127.0.0.1:1",', ""))
        assert theft.reaches_unix_socket()
        assert theft.ssh("-W", "127.0.0.1:80", "root@there", input="GET / HTTP/1.0\r\n\r\n").stdout != ""
    finally:
        theft.there.stop_sshd()
        theft.there.start_sshd(authorized_keys=line, settings=sshd_settings())
    theft.there.path("/tmp/reached").unlink()
