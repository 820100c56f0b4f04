"""Secrets stay where they belong: in no log, file, argument or environment of another program, and in no file that
others could read, not even for a moment."""

import os
import re
import signal
import subprocess
import threading

import pytest
from cli import TEMPLATE, environment
from lab import missing, wait_until
from lab.support import children_of
from site_lab import Site

in_the_lab = pytest.mark.skipif(missing("sshd", "haproxy") is not None, reason=str(missing("sshd", "haproxy")))

# Write down what they inherit, for the test to look through.
NOTED = '#!/bin/sh\nenv >>/tmp/environment\ncat /proc/$$/cmdline >>/tmp/environment\nexec {program} "$@"\n'


class Loud(Site):
    """A site in which everything runs with --verbose, and with EC2's credentials in its environment or in the INI."""

    def __init__(self, *arguments, credentials, **options):
        super().__init__(*arguments, session_token="session/token+" + "x" * 40, **options)
        self.env = self.ec2.env() if credentials == "environment" else {}
        if self.env:
            ini = self.ec2.ini
            self.ec2.ini = lambda: ini(credentials=False)
        self.outputs = []

    def configure(self, host):
        for program in ("ssh", "haproxy"):
            host.script(f"{program}-noted", NOTED.format(program=program))
        super().configure(host)

    def start_master(self, lb):
        self.masters[lb.name] = lb.popen(["autoscaler", "-v", "master"], log="master.log", env=self.env)
        self.masters[lb.name].wait_line("serving on")

    def start_daemon(self, host):
        self.daemons[host.name] = host.popen(["autoscaler", "-v", "daemon"], log="daemon.log", env=self.env)
        self.daemons[host.name].wait_line("watching the CPU")

    def call(self, host, *arguments, code=0):
        """A command by hand, the same way."""
        done = host.run(["autoscaler", "-v", *arguments], env=self.env, check=False)
        self.outputs.append(done.stdout + done.stderr)
        assert done.returncode == code, done
        return done

    def secrets(self):
        return [each.encode() for each in (self.ec2.secret_key, self.ec2.session_token, self.secret)]


@in_the_lab
@pytest.mark.parametrize("credentials", ["ini", "environment"])
def test_no_secret_is_in_anything_that_a_whole_run_wrote(tmp_path, binary, credentials):
    settings = {"haproxy": {"ssh_command": "ssh-noted", "check_command": "haproxy-noted -c -f $FILE",
                            "reload_command": "env >>/tmp/environment; systemctl reload haproxy"},
                "scaling": {"cooldown": "2s"}}
    with Loud(tmp_path, binary, credentials=credentials, settings=settings) as site:
        site.start()
        [lb], [app] = site.balancers, site.apps
        site.load[app.name].load = 90
        site.haproxies[lb.name].wait_servers(2, timeout=30)
        site.load[app.name].load = 10
        [new] = site.ec2.launched
        site.daemons[new].wait_line("master lb1: connected")
        # Commands of all kinds, and what goes wrong with each secret.
        template = lb.path("/etc/autoscaler/haproxy.cfg")
        template.write_text(template.read_text() + "# changed\n")
        for host, *arguments in ((lb, "generate"), (lb, "list-hosts"), (lb, "status"), (lb, "prune", "--dry-run"),
                                 (app, "status")):
            site.call(host, *arguments)
        by_hand = lambda *more: app.run(["autoscaler", "scale-up", *more], env=site.env, check=False).returncode
        wait_until(lambda: by_hand("--dry-run") == 0, 20, "the cooldown is over", every=1)
        site.call(app, "scale-down", "--dry-run", code=78)  # it was not launched
        site.call(app, "check")
        ini = app.path("/etc/autoscaler/autoscaler.ini")
        right = ini.read_text()
        ini.write_text(right.replace(site.secret, "another"))
        assert "secret" in site.call(app, "status", code=69).stderr
        ini.write_text(right)
        site.ec2.credentials[site.ec2.access_key] = ("another", site.ec2.session_token, None)
        wait_until(lambda: by_hand() == 77, 20, "the cooldown is over", every=1)
        assert "SignatureDoesNotMatch" in site.call(app, "scale-up", code=77).stderr
        found, looked_at = [], 0
        for host in site.net.hosts.values():
            for path in filter(lambda path: path.is_file() and not path.is_symlink(), host.dir.rglob("*")):
                text = path.read_bytes()
                looked_at += 1
                if path.name == "autoscaler.ini":
                    assert site.secret.encode() in text and path.stat().st_mode & 0o077 == 0
                else:
                    found += [(path, secret) for secret in site.secrets() if secret in text]
        found += [(output, secret) for output in site.outputs for secret in site.secrets() if secret.decode() in output]
        assert found == [] and looked_at > 50
        # What was looked through holds what it should.
        assert b"ServerAliveInterval" in lb.path("/tmp/environment").read_bytes()  # a tunnel's
        assert b"add-host" in app.path("/tmp/environment").read_bytes()  # a daemon's call
        assert b"FILE=/etc/haproxy/haproxy.cfg" in lb.path("/tmp/environment").read_bytes()  # reload_command
        assert f"{new} is in HAProxy" in site.daemons[app.name].text() and len("".join(site.outputs).splitlines()) > 20


@pytest.mark.parametrize("line", ["{}", "= {}", "{} = x", "[{}", "[aws", "  {}", "aws_secret_keyy = {}",
                                  "secret = {}\nsecret = {}", "[{}]\nx = 1", "x\n  {}\n=", "sekret = {}"])
def test_a_wrong_ini_is_complained_of_without_its_values(cli, line):
    secret = "wJalrXUtnFEMI/K7MDENG"
    cli.write("[cluster]\n" + line.replace("{}", secret) + "\n")
    complaint = cli.refused(78, "list-hosts")
    # A name in the place of a key or a section may be shown: it is what is wrong.
    assert line in ("{} = x", "[{}]\nx = 1") or secret not in complaint, complaint


def created(trace):
    """[(name, mode)] of the files and directories that came into being, and [(mode)] of every chmod, from strace."""
    made = re.findall(r'open(?:at)?\((?:AT_FDCWD, )?"([^"]*)", [A-Z_|]*O_CREAT[A-Z_|]*, (0\d+)\)\s+= \d', trace)
    made += re.findall(r'mkdir(?:at)?\((?:AT_FDCWD, )?"([^"]*)", (0\d+)\)\s+= 0', trace)
    modes = [int(mode, 8) for mode in re.findall(r"chmod(?:at)?\([^)]*, (0\d+)\)\s+= 0", trace)]
    return [(name, int(mode, 8)) for name, mode in made], modes


def traced(cli, tmp_path, *arguments, until=None):
    """strace of a command under `umask 0`."""
    log = tmp_path / "trace"
    argv = ["sh", "-c", 'umask 0; exec "$@"', "sh", "strace", "-f", "-qq", "-o", log, "-e", "signal=none", "-e",
            "trace=open,openat,creat,mkdir,mkdirat,chmod,fchmod,fchmodat", *cli.argv(*arguments)]
    with subprocess.Popen(argv, env=environment(), stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                          stderr=subprocess.STDOUT) as process:
        killer = threading.Timer(60, process.kill)
        killer.start()
        try:
            if until:
                wait_until(lambda: until() or process.poll() is not None, 30, "it has done its work")
                for pid in children_of(process.pid):  # not strace, which would let it run on
                    os.kill(pid, signal.SIGKILL)
            output = process.communicate()[0]
        finally:
            killer.cancel()
    assert until or process.returncode == 0, output
    # Libraries do not matter: what is under its own directory does.
    made, modes = created(log.read_text())
    return {name.removeprefix(f"{cli.dir}/"): mode for name, mode in made if name.startswith(str(cli.dir))}, modes


@pytest.mark.native
def test_files_have_their_mode_from_the_first_byte(cli, tmp_path):
    for path in (cli.ini, cli.template):
        path.unlink()
    cli.hosts.rmdir()
    made, changed = traced(cli, tmp_path, "init")
    [ini] = [mode for name, mode in made.items() if name.startswith(".autoscaler.ini.")]
    assert ini == 0o600 and len(made) == 3
    assert all(mode & 0o022 == 0 for mode in made.values()) and set(changed) == {0o600, 0o644}

    # One that names no socket, so that none is waited for.
    cli.template.write_text(TEMPLATE)
    cli.settings(check_command="true", reload_command="true")
    made, changed = traced(cli, tmp_path, "add-host", "10.0.0.1", "80", "--apply")
    assert made[".lock"] == 0o600
    assert all(mode & 0o022 == 0 for mode in [*made.values(), *changed]) and len(made) >= 4

    # HAProxy's file may hold passwords: the one that takes its place is no wider, from the start.
    for mode in (0o600, 0o640):
        cli.installed.chmod(mode)
        made, changed = traced(cli, tmp_path, "add-host", f"10.0.1.{mode}"[:8], "80", "--apply")
        candidates = [each for name, each in made.items() if name.startswith(".installed.cfg.")]
        assert candidates == [mode], made
        assert cli.installed.stat().st_mode & 0o777 == mode
        assert all(each & 0o022 == 0 for each in changed)


@pytest.mark.native
def test_a_masters_files_have_their_mode_from_the_first_byte(cli, tmp_path):
    cli("add-host", "127.0.0.1", 80)
    state = cli.dir / "state"
    cli.write(f"[master]\nstate = {state}\nlisten = 127.0.0.1:0\n[haproxy]\nssh_command = /bin/false\n")
    made, changed = traced(cli, tmp_path, "master", until=(state / "known_hosts").exists)
    assert made["state/known_hosts"] == 0o700 and made["state"] == 0o755
    assert all(mode & 0o022 == 0 for mode in [*made.values(), *changed]) and len(made) >= 3
