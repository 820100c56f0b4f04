"""`ssh-gate`, the forced command of the app servers' key: it runs a daemon's calls, itself, and nothing else.
(Behind a real sshd, with every call that daemons make: test_readme_setup.py.)"""

import subprocess

import pytest
from cli import environment, refusal

ADD = "autoscaler add-host 10.0.0.9 80"


@pytest.fixture
def gate(cli):
    """A function: ssh-gate with this order, on a host with the entry app1."""
    cli.settings(socket=cli.dir / "none.sock", check_command="true")
    cli("add-host", "10.0.0.1", 80)
    return lambda order, *before: cli.call(*before, "ssh-gate", env={"SSH_ORIGINAL_COMMAND": order})


@pytest.mark.parametrize("order, name, text", [
    (f"{ADD} --apply", "app2", "10.0.0.9 80 -"),
    (f"{ADD} --id i-0ab --apply", "i-0ab", "10.0.0.9 80 i-0ab"),
    (f"sudo {ADD} --apply", "app2", "10.0.0.9 80 -"),
    (f"/usr/local/bin/{ADD} --apply", "app2", "10.0.0.9 80 -"),
    (f"sudo /opt/a-b_c.d/{ADD} --apply", "app2", "10.0.0.9 80 -"),
    ("autoscaler add-host fd77::9 8080 --id i-0ab --apply", "i-0ab", "fd77::9 8080 i-0ab"),
    ("autoscaler add-host localhost 80 --apply", "app2", None),
])
def test_entering(cli, gate, order, name, text):
    done = gate(order)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", ""), done
    assert cli.names() == sorted(["app1", name])
    if text:
        assert (cli.hosts / name).read_text() == f"{text}\n"
    assert f"server {name} " in cli.installed.read_text()


@pytest.mark.parametrize("server", ["app2", "10.0.0.2:80", "'[fd77::9]:80'", "i-0ab"])
def test_removing(cli, gate, server):
    host = "fd77::9" if "::" in server else "10.0.0.2"
    cli("add-host", host, 80, *(["--id", server] if server.startswith("i-") else []))
    done = gate(f"autoscaler remove-host {server} --apply")
    assert (done.returncode, done.stdout) == (0, ""), done
    assert cli.names() == ["app1"]


def test_listing(gate):
    for order in ("autoscaler list-hosts", "sudo autoscaler list-hosts", "/usr/bin/autoscaler list-hosts"):
        done = gate(order)
        assert (done.returncode, done.stdout, done.stderr) == (0, "app1 10.0.0.1 80 -\n", "")


def test_looking(cli, gate):
    assert gate("autoscaler list-hosts --state").stdout == "app1 10.0.0.1 80 - - -\n"
    assert gate("sudo autoscaler generate --check").returncode == 0
    cli.settings(check_command="echo '[ALERT] no such thing' >&2; exit 1")
    done = gate("autoscaler generate --check")
    assert "no such thing" in refusal(done, 78)


def test_no_more_than_max_hosts_and_one_for_a_replacement(cli, gate):
    cli.write(cli.ini.read_text() + "[scaling]\nmax_hosts = 3\n")
    codes = [gate(f"autoscaler add-host 10.0.0.{n} 80 --id i-{n} --apply").returncode for n in (2, 3, 4, 5, 6)]
    assert codes == [0, 0, 0, 77, 77] and len(cli.names()) == 4
    # What is there already, and what takes an entry over, is no more than before.
    for order in ("10.0.0.4 80 --id i-4", "10.0.0.4 80 --id i-7", "10.0.0.8 80 --id i-7"):
        assert gate(f"autoscaler add-host {order} --apply").returncode == 0, order
    assert len(cli.names()) == 4
    # An operator is not held to it.
    cli("add-host", "10.0.0.9", 80)


REFUSED = [
    "", " ", "sh", "sudo", "sudo id", "id", "autoscaler", "sudo autoscaler", "scp -t /tmp", "internal-sftp",
    # Other commands and options, also those that every command takes.
    *(f"autoscaler {command}" for command in ("init", "master", "daemon", "generate", "generate --stdout", "status", "check",
                                              "prune --apply", "scale-up", "scale-down", "ssh-gate", "--help", "-V")),
    "autoscaler list-hosts --state --state", "autoscaler generate --check --diff", "autoscaler generate --diff",
    "autoscaler remove-host app1 --force", "autoscaler remove-host app1 --force --apply", f"{ADD} --apply --force",
    "autoscaler list-hosts --help", "autoscaler list-hosts -c /tmp/x", "autoscaler -c /tmp/x list-hosts",
    "autoscaler -c/tmp/x list-hosts", "autoscaler -v list-hosts", "autoscaler list-hosts --apply",
    ADD, f"{ADD} --apply -c /tmp/x", f"{ADD} --name x --apply", f"{ADD} --apply --id i-0ab", f"{ADD} --id i-0ab",
    f"{ADD} --id -c/tmp/x --apply", f"{ADD} --id x --apply", f"{ADD} --id=i-0ab --apply", f"{ADD} -- --apply",
    f"{ADD} --apply --apply", "autoscaler add-host -c/tmp/x 80 --apply", "autoscaler add-host --apply 80 --apply",
    "autoscaler add-host 10.0.0.9 -1 --apply", "autoscaler add-host 10.0.0.9 0 --apply",
    "autoscaler add-host 10.0.0.9 65536 --apply", "autoscaler add-host 10.0.0.9 +80 --apply",
    "autoscaler remove-host app1", "autoscaler remove-host -c/tmp/x --apply", "autoscaler remove-host --apply --apply",
    "autoscaler remove-host app1 x --apply", "autoscaler remove-host ../app1 --apply",
    "autoscaler remove-host '[10.0.0.1]:80' --apply", "autoscaler remove-host '[fd77::1%eth0]:80' --apply",
    "autoscaler remove-host 'app1' --apply", "autoscaler remove-host [fd77::1]:80 --apply",
    # What a shell would make something of.
    "autoscaler list-hosts; id", "autoscaler list-hosts;id", "autoscaler list-hosts && id", "autoscaler list-hosts | sh",
    "autoscaler list-hosts > /tmp/x", "autoscaler list-hosts\nid", "autoscaler list-hosts\r", "autoscaler\nlist-hosts",
    "autoscaler list-hosts #", "autoscaler list-hosts &", "exec autoscaler list-hosts", "FOO=1 autoscaler list-hosts",
    "autoscaler $(id)", "autoscaler add-host $(id) 80 --apply", "autoscaler add-host `id` 80 --apply",
    "autoscaler add-host * 80 --apply", "autoscaler add-host ~ 80 --apply", "autoscaler add-host 10.0.0.9 ${X} --apply",
    "autoscaler add-host 'a b' 80 --apply", "autoscaler add-host 'localhost' 80 --apply", "'autoscaler' list-hosts",
    "autoscaler add-host %h 80 --apply", "autoscaler add-host a@b 80 --apply", "autoscaler remove-host '[fd77::1]:80;id' --apply",
    "$0 list-hosts", "a\\utoscaler list-hosts",
    # Another program, and what is nearly right.
    "/tmp/evil list-hosts", "./autoscaler list-hosts", "../autoscaler list-hosts", "/tmp/autoscaler-evil list-hosts",
    "/tmp/$(id)/autoscaler list-hosts", "autoscaler  list-hosts", " autoscaler list-hosts", "autoscaler list-hosts ",
    "autoscaler\tlist-hosts", "sudo  autoscaler list-hosts", "sudo sudo autoscaler list-hosts", "sudo -n autoscaler list-hosts",
    "sudo -u root autoscaler list-hosts", "AUTOSCALER list-hosts", "autoscaler LIST-HOSTS",
    # Too long, and not text.
    f"autoscaler add-host {'a.' * 200}a 80 --apply", "autoscaler remove-host " + "x" * 65 + " --apply", "x" * 100_000,
    "autoscaler list-hosts\x1b[2J", "äutoscaler list-hosts", b"autoscaler list-hosts\xff",
]


def test_everything_else_is_refused_in_one_line_and_changes_nothing(cli, gate):
    for order in REFUSED:
        before = cli.snapshot()
        complaint = refusal(gate(order), 77)
        assert complaint.startswith("ssh-gate: ") and len(complaint) < 250, order
        assert cli.snapshot() == before, order
    done = cli.call("ssh-gate")  # as for a shell: sshd sets no SSH_ORIGINAL_COMMAND
    assert refusal(done, 64).startswith("ssh-gate: ")


def test_its_own_options_stand_before_it(cli, gate):
    assert gate("autoscaler list-hosts", "-q").returncode == 0
    # What the order has for them, of the INI above all, it does not get.
    assert cli.call("ssh-gate", "--apply", env={"SSH_ORIGINAL_COMMAND": "autoscaler list-hosts"}).returncode == 64


@pytest.mark.native
def test_it_carries_out_the_call_itself(cli, tmp_path):
    """No shell and no second program, as the kernel sees it: with nothing to check or reload, one execve in all."""
    cli.settings(check_command="true")
    cli("add-host", "10.0.0.1", 80)
    for order, programs in (("sudo autoscaler list-hosts", 1), ("autoscaler list-hosts; id", 1),
                            # The INI's check_command and reload_command, each by a /bin/sh that watches over it and
                            # its own, and none for the order.
                            ("autoscaler add-host 10.0.0.2 80 --apply", 5)):
        trace = tmp_path / "trace"
        subprocess.run(["strace", "-f", "-qq", "-e", "trace=execve", "-e", "signal=none", "-o", trace, *cli.argv("ssh-gate")],
                       env=environment(SSH_ORIGINAL_COMMAND=order), capture_output=True, timeout=60)
        ran = [line for line in trace.read_text().splitlines() if line.endswith("= 0")]
        assert len(ran) == programs, (order, ran)
        assert all('execve("/bin/sh", ["/bin/sh", "-c", ' in line for line in ran[1:]), ran
