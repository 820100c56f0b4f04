"""check: each finding seen to hold and to fail, on one machine's files and then on a whole site."""

import shutil
import socket
import subprocess

import pytest
from cli import TEMPLATE, environment
from lab import Ec2Endpoint, free_ports, missing, wait_until
from peers import SECRET, Master
from site_lab import Site, loads

needs = pytest.mark.skipif(missing("sshd", "haproxy") is not None, reason=str(missing("sshd", "haproxy")))


class Report:
    """What one `check` printed and how it ended."""

    def __init__(self, done):
        self.done, self.code = done, done.returncode
        self.lines = done.stdout.splitlines()
        assert all(line.split("  ")[0].strip() in ("ok", "FAIL", "warn", "info", "skip") for line in self.lines), done
        assert all(line.isprintable() for line in self.lines), done
        failed = [line for line in self.lines if line.startswith("FAIL")]
        if failed:
            assert done.stderr == f"autoscaler: check: {len(failed)} of {len(self.lines)} findings failed\n", done
        else:
            assert (self.code, done.stderr) == (0, ""), done

    def has(self, word, *texts):
        """There is one line of this kind with all the texts; returns it."""
        found = [line for line in self.lines if line.startswith(word) and all(text in line for text in texts)]
        assert len(found) == 1, (word, texts, self.done.stdout)
        return found[0]

    def fails(self, code, *texts):
        """One line alone fails, with all these texts."""
        assert self.code == code, self.done
        assert sum(line.startswith("FAIL") for line in self.lines) == 1, self.done.stdout
        return self.has("FAIL", *texts)

    def none(self, word):
        assert not [line for line in self.lines if line.startswith(word)], self.done.stdout
        return self


class HaproxyHost:
    """A HAProxy host in a directory: a real HAProxy and a real master, both on loopback, and a node that reports."""

    def __init__(self, binary, directory, cli):
        self.cli, self.master = cli, Master(binary, directory / "master")
        self.socket = cli.dir / "admin.sock"
        self.sections = {"haproxy": {"config": cli.installed, "socket": self.socket, "reload_command": "true"},
                         "aws": {"metadata_url": "http://127.0.0.1:9"},
                         "master": {"listen": f"127.0.0.1:{self.master.port}"}, "cluster": {"secret": SECRET}}
        self.template = TEMPLATE.replace("8080", str(free_ports()))
        self.configure()
        self.cli("add-host", "10.255.0.1", 80)
        self.cli("generate")
        self.haproxy = None

    def configure(self, level="admin", **sections):
        for name, keys in sections.items():
            self.sections.setdefault(name, {}).update(keys)
        self.cli.write("".join(f"[{name}]\n" + "".join(f"{key} = {value}\n" for key, value in keys.items())
                               for name, keys in self.sections.items()))
        self.cli.template.write_text(f"global\n    stats socket {self.socket} level {level}\n{self.template}")

    def start_haproxy(self):
        self.stop_haproxy()
        self.haproxy = subprocess.Popen(["haproxy", "-f", self.cli.installed], env=environment(),
                                        stdin=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        wait_until(self.socket.exists, 5, "HAProxy serves")

    def stop_haproxy(self):
        if self.haproxy:
            self.haproxy.kill()
            self.haproxy.wait()
            self.socket.unlink(missing_ok=True)

    def report(self, node):
        """A daemon called `node` reports to the master from now on."""
        peer = self.master.node(node)
        peer.send("LOAD 5")
        peer.expect_nothing()

    def check(self, *options):
        """Its report; whatever it finds, it changes nothing and tells no secret."""
        before = self.cli.snapshot()
        report = Report(self.cli.call(*options, "check"))
        assert self.cli.snapshot() == before
        assert SECRET not in report.done.stdout + report.done.stderr
        return report


@pytest.fixture
def host(binary, tmp_path, cli):
    host = HaproxyHost(binary, tmp_path, cli)
    with host.master:
        host.start_haproxy()
        yield host
        host.stop_haproxy()


@needs
def test_a_haproxy_host_in_order(host):
    host.report("app1")
    report = host.check().none("FAIL").none("warn")
    report.has("ok", f"{host.cli.ini}: valid, mode 0600")
    report.has("skip", "app server: ", "scale_up_command")
    report.has("skip", "EC2: no Region")
    report.has("ok", "hosts.d: every entry is good (1)")
    report.has("ok", "template: ", "haproxy -c")
    report.has("ok", "installed.cfg: is what generate makes")
    report.has("ok", "answers on", "level admin")
    report.has("ok", "backend `servers` runs the servers of hosts.d (1)")
    report.has("skip", "not compared with EC2")
    report.has("ok", f"master {socket.gethostname()}", "nodes that report: 1 (app1)")


@needs
def test_files_of_a_haproxy_host(host):
    """What is wrong with the INI, the entries, the template and HAProxy's configuration."""
    host.report("app1")
    cli = host.cli
    cli.ini.chmod(0o640)
    host.check().fails(78, "chmod 600", "mode 0640")
    cli.ini.chmod(0o600)
    cli.hosts.joinpath("bad").write_text("not an entry\n")
    cli.hosts.joinpath("worse").write_text("10.0.0.1 80 -\nbind :1\n")
    report = host.check()
    assert report.code == 78
    report.has("FAIL", "hosts.d/bad: ", "remove the file")
    report.has("FAIL", "hosts.d/worse: ", "more than one line")
    for name in ("bad", "worse"):
        cli.hosts.joinpath(name).unlink()
    good = cli.template.read_text()
    cli.template.write_text(good.replace("$SERVERS", ""))
    host.check().fails(78, "haproxy.cfg: ", "$SERVERS")
    cli.template.write_text(good.replace("timeout client 1s", "timeout client soon"))
    host.check().fails(78, "refused by `haproxy -c -f $FILE`", "timeout")
    cli.template.write_text(good + "# changed\n")
    host.check().fails(78, "installed.cfg: differs", "autoscaler generate")
    cli.template.unlink()
    host.check().fails(74, "haproxy.cfg", "autoscaler init")
    cli.template.write_text(good)
    host.configure(haproxy={"check_command": "no-such-program $FILE"})
    host.check().fails(74, "check_command: ", "is HAProxy installed")
    host.configure(haproxy={"check_command": "haproxy -c -f $FILE"})
    host.check().none("FAIL")


@needs
def test_the_running_haproxy(host):
    host.report("app1"), host.report("app2")
    cli = host.cli
    # An entry that generate has not been told of: in neither.
    cli("add-host", "10.255.0.2", 80)
    report = host.check()
    assert report.code == 78
    report.has("FAIL", "installed.cfg: lacks app2", "autoscaler generate")
    report.has("FAIL", "backend `servers`: has no server `app2`")
    cli("generate")
    assert "app2" in cli.installed.read_text()
    host.check().none("FAIL")
    # One that goes from hosts.d is in both still.
    cli.hosts.joinpath("app1").unlink()
    report = host.check()
    report.has("FAIL", "installed.cfg: still has app1")
    report.has("FAIL", "still has server `app1`")
    # The file is right, and HAProxy has not followed.
    cli.installed.write_text(cli("generate", "--stdout"))
    host.check().fails(69, "backend `servers`: still has server `app1`", "autoscaler generate")
    host.configure(haproxy={"backend": "other"})
    host.check().fails(78, "[haproxy] backend", "no backend `other`")
    host.configure(haproxy={"backend": "servers"})
    host.configure(level="operator")
    cli.installed.write_text(cli("generate", "--stdout"))
    host.start_haproxy()
    host.check().fails(69, "is of level operator", f"stats socket {host.socket}", "level admin")
    host.stop_haproxy()
    host.check().fails(69, "No such file", "does HAProxy run?", "stats socket")
    # A reload that failed before, and is still due.
    host.start_haproxy()
    host.configure()
    cli("generate", "--diff")
    host.configure(haproxy={"reload_command": "false"})
    assert cli.call("generate").returncode == 74
    host.start_haproxy()
    host.check().fails(69, "a reload is due", "autoscaler generate")


@needs
def test_the_master_of_a_haproxy_host(host):
    host.check().none("FAIL").has("warn", "nodes that report: 0")
    host.configure(cluster={"secret": "another secret"})
    host.check().fails(69, f"127.0.0.1:{host.master.port}: ", "does autoscaler master run")
    host.configure(cluster={"secret": SECRET})
    host.master.kill()
    host.check().fails(69, f"127.0.0.1:{host.master.port}: ", "does autoscaler master run")


@needs
def test_an_empty_hosts_d_is_no_failure(host):
    host.cli.hosts.joinpath("app1").unlink()
    host.check().has("warn", "no entry yet", "add-host")


@needs
def test_a_haproxy_host_against_ec2(host):
    """With credentials here, the entries are compared with the cluster's instances."""
    host.report("app1")
    with Ec2Endpoint() as ec2:
        aws = dict(line.split(" = ") for line in ec2.ini().splitlines()[1:])
        host.configure(aws=aws)
        report = host.check().none("FAIL")
        report.has("ok", "credentials: [aws] of the configuration", ec2.access_key[-4:], "us-east-1", ec2.url)
        report.has("ok", "hosts.d: in line with EC2 (entries: 1)")
        assert ec2.access_key not in report.done.stdout and ec2.secret_key not in report.done.stdout
        new = ec2.seed("10.0.0.7", {"autoscaler:cluster": "default"})
        host.check().fails(75, "hosts.d: ", f"{new} runs at 10.0.0.7", f"add-host 10.0.0.7 <port> --id {new}")
        ec2.instances[new].launched = ec2.now()
        ec2.end(new)
        young = ec2.seed("10.0.0.8", {"autoscaler:cluster": "default"}, age=5)
        host.check().none("FAIL").has("warn", young, "being booted")
        ec2.end(young)
        host.cli("add-host", "10.0.0.8", 80, "--id", young, "--name", "app2")
        host.cli("add-host", "10.0.0.9", 80, "--id", "i-0123456789abcdef0", "--name", "app3")
        host.cli("add-host", "10.0.0.10", 80, "--id", ec2.seed("10.0.0.10", {}), "--name", "app4")
        report = host.check()
        report.has("FAIL", f"{young} of entry app2 is gone", "prune --apply")
        report.has("FAIL", "i-0123456789abcdef0 of entry app3 is gone")
        assert "app4 is gone" not in report.done.stdout
        host.configure(aws={"aws_secret_key": "wrong-all-through"})
        report = host.check()
        report.has("FAIL", "SignatureDoesNotMatch")
        assert "wrong-all-through" not in report.done.stdout + report.done.stderr


def test_without_a_valid_ini(cli):
    cli.write("[scaling]\ntreshold = 5\n")
    Report(cli.call("check")).fails(78, f"{cli.ini}:2: unknown key `treshold`", "did you mean")
    cli.ini.unlink()
    Report(cli.call("check")).fails(78, "not found", "autoscaler init")


def test_where_nothing_is_set_up(cli):
    cli.write("[haproxy]\nconfig = /nonexistent/haproxy.cfg\n", mode=0o644)
    shutil.rmtree(cli.hosts)
    cli.template.unlink()
    report = Report(cli.call("check"))
    assert report.code == 0
    report.has("warn", "mode 0644", "chmod 600")
    report.has("skip", "HAProxy host: ", "/nonexistent/haproxy.cfg is not here")
    report.has("skip", "app server: ")


# A whole site

def on(host):
    report = Report(host.run(["autoscaler", "check"], check=False, timeout=60))
    assert "0123456789abcdef0123456789abcdef" not in report.done.stdout
    return report


@needs
def test_a_site(tmp_path, binary):
    with Site(tmp_path, binary, balancers=2, apps=1) as site:
        site.start()
        [app], (lb1, lb2), ec2 = site.apps, site.balancers, site.ec2
        for lb in site.balancers:
            wait_until(lambda lb=lb: "app1" in loads(lb), 10, "app1 reports")

        report = on(app).none("FAIL").none("warn")
        report.has("skip", "HAProxy host: ")
        report.has("ok", "credentials: ")
        report.has("ok", "DescribeInstances")
        report.has("ok", "scale_up_command: EC2 would launch")
        for name in ("lb1", "lb2"):
            report.has("ok", f"HAProxy host {name}: list-hosts by ssh")
            report.has("ok", f"HAProxy host {name}: in line with EC2")
        report.has("ok", "masters: 2 for 2 HAProxy hosts: ", "lb1", "lb2")
        report.has("ok", "/var/lib/proc/stat: readable")
        report.has("info", f"this machine: {app.address}")
        assert ec2.secret_key not in report.done.stdout
        assert [call.params["DryRun"] for call in ec2.calls("RunInstances")] == ["true"] and ec2.launched == []

        # What Debian's package brings makes no HAProxy host of an image.
        app.path("/etc/haproxy").mkdir(exist_ok=True)
        app.path("/etc/haproxy/haproxy.cfg").write_text("global\n")
        report = on(app).none("FAIL").none("warn")
        report.has("skip", "HAProxy host: this is none, [haproxy] servers does not name it and hosts.d has no entry")
        report.has("ok", "masters: 2 for 2 HAProxy hosts: ")

        report = on(lb1).none("FAIL").none("warn")
        report.has("skip", "app server: this is a HAProxy host")
        report.has("ok", "master lb1: ", "(app1/")
        report.has("ok", "hosts.d: in line with EC2")

        # Membership, per host: an instance that only lb1 lists, and an entry of lb2 whose instance is gone.
        own = ec2.seed(app.address, {"autoscaler:cluster": "test"})
        live, gone = (ec2.seed(f"10.77.0.{n}", {"autoscaler:cluster": "test"}) for n in (201, 202))
        ec2.end(gone)
        lb1.run(["autoscaler", "add-host", "10.77.0.201", "80", "--id", live])
        lb2.run(["autoscaler", "add-host", "10.77.0.202", "80", "--id", gone, "--apply"])
        report = on(app)
        assert report.code == 75
        report.has("info", f"this machine: {app.address}, {own}, tagged autoscaler:cluster=test")
        report.has("ok", "HAProxy host lb1: in line with EC2 (entries: 2)")
        report.has("FAIL", f"HAProxy host lb2: {live} runs at 10.77.0.201")
        report.has("FAIL", f"HAProxy host lb2: the instance {gone} of entry {gone} is gone", "prune --apply")
        assert gone in site.haproxies["lb2"].servers()
        assert lb2.run(["autoscaler", "prune", "--apply"]).stdout == ""
        wait_until(lambda: gone not in site.haproxies["lb2"].servers(), 5, "it is out of HAProxy")
        lb2.run(["autoscaler", "add-host", "10.77.0.201", "80", "--id", live])
        on(app).none("FAIL")

        # Rights: the action to allow is named.
        message = "You are not authorized to perform this operation. User: x is not authorized to perform: ec2:CreateTags"
        ec2.fail_next("RunInstances", 1, "UnauthorizedOperation", message=message)
        on(app).fails(77, "EC2 RunInstances: UnauthorizedOperation", "allow ec2:CreateTags in the IAM policy")
        ec2.fail_next("DescribeInstances", 1, "UnauthorizedOperation")
        report = on(app)
        report.fails(77, "EC2 DescribeInstances", "allow ec2:DescribeInstances in the IAM policy")
        report.has("skip", "HAProxy host lb1: not compared with EC2")

        # ssh and masters: the host is named, and the next step.
        keys = lb2.path("/etc/ssh/authorized_keys")
        right = keys.read_text()
        keys.write_text("")
        on(app).fails(69, "HAProxy host lb2: ssh: ", "Permission denied", "authorized_keys")
        keys.write_text(right)
        ini = app.path("/etc/autoscaler/autoscaler.ini")
        text = ini.read_text()
        for command, said in (("no-such", "no-such: command not found"), ("echo", "answers to list-hosts: `list-hosts`")):
            ini.write_text(f"{text}remote_command = {command}\n")
            report = on(app)
            for name in ("lb1", "lb2"):
                report.has("FAIL", f"HAProxy host {name}: ", said, "remote_command")
        ini.write_text(text)
        site.masters["lb2"].kill()
        site.daemons["app1"].wait_line("master lb2: .*(closed|gone|lost)")
        on(app).fails(69, "masters: 1 for 2 HAProxy hosts: lb1", "log of autoscaler master")
        site.daemons["app1"].kill()
        site.masters["lb1"].kill()
        report = on(app)
        report.fails(69, "no master answers here", "hosts.d")

        # Settings of the app server itself.
        site.start_master(lb1), site.start_master(lb2)
        for lb in site.masters.values():
            lb.wait_line("tunnel app1: up")
        on(app).none("FAIL").has("warn", "daemon: app1 does not report to lb")
        ini.write_text(text.replace("--count 1", "--count 2").replace("/var/lib/proc", "/nonexistent"))
        report = on(app)
        report.has("FAIL", "--count")
        report.has("FAIL", "/nonexistent/stat", "procfs")
        ini.write_text(text.replace("aws ec2 run-instances", "echo new-machine"))
        report = on(app).none("FAIL")
        report.has("skip", "EC2: not asked")
        report.has("skip", "scale_up_command: a shell command")
        lines = [line for line in text.splitlines() if not line.startswith(("aws_access_key", "aws_secret_key"))]
        ini.write_text("\n".join(lines) + "\n")
        on(app).none("FAIL").has("ok", "credentials: instance role lab-role", "passed over: [aws]")
        ec2.imds.role = None
        report = on(app)
        assert report.code == 77
        report.has("FAIL", "credentials: NoCredentials", "instance role: this instance has none", "set aws_access_key")


@needs
def test_another_host(tmp_path, binary):
    """check --host, by an administrator's key and by keys that are tied to something else."""
    with Site(tmp_path, binary, balancers=1, apps=1) as site:
        site.start()
        [lb], [app] = site.balancers, site.apps
        wait_until(lambda: "app1" in loads(lb), 10, "app1 reports")

        def ask(host, *options):
            return lb.run(["autoscaler", *options, "check", "--host", host], check=False, timeout=150)

        def refused(code, *texts):
            done = ask("app1")
            assert (done.returncode, done.stdout) == (code, ""), done
            assert done.stderr.startswith("autoscaler: check on app1: ") and done.stderr.count("\n") == 1
            assert all(text in done.stderr for text in texts), done.stderr

        done = ask("app1")
        assert (done.returncode, done.stderr) == (0, ""), done
        there = app.run(["autoscaler", "check"], check=False).stdout.splitlines()
        assert [line.removeprefix("app1: ")[:4] for line in done.stdout.splitlines()] == [line[:4] for line in there]
        assert "app1: ok    masters: 1 for 1 HAProxy hosts: lb1\n" in done.stdout
        # What fails there fails here, with the same exit code.
        ini = app.path("/etc/autoscaler/autoscaler.ini")
        ini.chmod(0o644)
        done = ask("app1")
        assert done.returncode == 78 and "app1: FAIL  /etc/autoscaler/autoscaler.ini: " in done.stdout
        assert done.stderr.startswith("autoscaler: check on app1: 1 of "), done
        ini.chmod(0o600)
        # Not there, not let in, tied to another command.
        program = app.path("/etc/lab/bin/autoscaler")
        program.rename(app.path("/etc/lab/away"))
        refused(69, "not found", "install autoscaler there")
        app.path("/etc/lab/away").rename(program)
        keys = app.path("/etc/ssh/authorized_keys")
        key = keys.read_text()
        keys.write_text(f'restrict,command="cat" {key}')
        refused(69, "nothing was said", "ssh_params")
        keys.write_text(f'restrict,command="autoscaler ssh-gate" {key}')
        refused(69, "may not run `autoscaler check`", "ssh_params")
        keys.write_text("")
        refused(69, "Permission denied", "public key")
        keys.write_text(key)
        for wrong in ("-oProxyCommand=x", "a b", ""):
            assert lb.run(["autoscaler", "check", f"--host={wrong}"], check=False).returncode == 64
