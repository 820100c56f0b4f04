"""generate: template and hosts.d to a configuration that a real `haproxy -c` takes, installed in one step."""

import os
import re
import subprocess
import tempfile
import threading
from pathlib import Path

import pytest
from cli import CHECK, TEMPLATE, Cli, refusal, run
from lab import wait_until


def rendered(*servers):
    """The template with these server lines."""
    lines = "".join(f"    server {server} {CHECK}\n" for server in servers)
    return TEMPLATE.replace("    $SERVERS\n", lines)


@pytest.fixture
def site(cli):
    """Two servers, installed."""
    cli.settings()
    cli("add-host", "10.0.0.1", 80)
    cli("add-host", "10.0.0.2", 80, "--apply")
    assert cli.installed.read_text() == rendered("app1 10.0.0.1:80", "app2 10.0.0.2:80") and cli.reload_count() == 1
    return cli


def leftovers(cli):
    """Temporary files of generate's."""
    return [path.name for path in cli.dir.iterdir() if path.name.startswith(".installed")]


# Rendering

def test_each_line_with_the_marker_is_repeated_with_its_indentation_sorted(cli):
    cli.template.write_text("# about $SERVERS\nbackend a\n\t$SERVERS\nbackend b\n        $SERVERS # no\n")
    for number in (10, 9, 1):
        cli("add-host", f"10.0.0.{number}", 80, "--name", f"s{number:02}")
    assert cli("generate", "--stdout") == (
        "# about $SERVERS\nbackend a\n" + "".join(f"\tserver s{n} 10.0.0.{int(n)}:80 {CHECK}\n" for n in ("01", "09", "10"))
        + "backend b\n" + "".join(f"        server s{n} 10.0.0.{int(n)}:80 {CHECK} # no\n" for n in ("01", "09", "10")))


def test_a_template_without_its_final_newline_gets_one(site):
    site.template.write_text(TEMPLATE.rstrip("\n"))
    site("add-host", "10.0.0.3", 80, "--apply")
    assert site.installed.read_text() == rendered("app1 10.0.0.1:80", "app2 10.0.0.2:80", "app3 10.0.0.3:80")


@pytest.mark.parametrize("template", ["backend b\n", "# $SERVERS\n", ""], ids=repr)
def test_a_template_without_the_marker_is_refused(site, template):
    site.template.write_text(template)
    assert site.refused(78, "generate").startswith(f"{site.template}: ")


def test_without_a_config_it_prints_and_apply_names_the_line_to_add(cli):
    cli("add-host", "10.0.0.1", 80)
    assert cli("generate") == cli("generate", "--stdout") == rendered("app1 10.0.0.1:80")
    for arguments in (["add-host", "10.0.0.1", 80, "--apply"], ["generate", "--diff"]):
        complaint = cli.refused(78, *arguments)
        assert complaint.startswith(f"{cli.ini}: ") and "[haproxy]: config = /etc/haproxy/haproxy.cfg" in complaint


# The Python release 0.0.3

OLD_INI = """\
[aws]
aws_access_key = AKIAIOSFODNN7EXAMPLE
aws_secret_key = wJalrXUtnFEMI/K7MDENG+bPxRfi%CY=EXAMPLE;#KEY
aws_default_region = us-east-1

[machine]
scale_up_command = aws ec2 run-instances --image-id ami-12345678 --count 1 --instance-type t2.micro --key-name KEY --security-group-ids sg-12345678 --subnet-id subnet-12345678

[haproxy]
servers = 10.0.0.250,10.0.0.251
ssh_user = ubuntu
ssh_params = -o StrictHostKeyChecking=no -i /home/ubuntu/.ssh/key.pem
server_line = server $NAME $IP:80 check
"""


def test_what_release_0_0_3_left_works_unchanged(cli):
    cli.write(OLD_INI, 0o644)
    (cli.hosts / "web1").write_text("server web1 10.0.0.1:80 check\n")
    (cli.hosts / "web2").write_text("server web2 10.0.0.2:80 check inter 2s # 'as it stands'")
    cli("add-host", "10.0.0.1", 80)  # has an entry
    cli("add-host", "10.0.0.3", 80)
    out = TEMPLATE.replace("    $SERVERS\n", "    server app1 10.0.0.3:80 check\n    server web1 10.0.0.1:80 check\n"
                           "    server web2 10.0.0.2:80 check inter 2s # 'as it stands'\n")
    assert cli("generate") == out
    assert cli("list-hosts") == "app1 10.0.0.3 80 -\nweb1 10.0.0.1 80 -\nweb2 10.0.0.2 80 -\n"
    cli.installed.write_text(out)
    assert run(["haproxy", "-c", "-f", cli.installed]).returncode == 0
    plan = cli("scale-up", "--dry-run")
    assert "ImageId=ami-12345678\n" in plan and "SubnetId=subnet-12345678\n" in plan


# Installing

@pytest.mark.parametrize("broken, named", [
    ("    frobnicate\n", "frobnicate"),
    ("    server app1 10.9.9.9:80\n", "app1"),
    ("    server x unknown.invalid:80\n", "unknown.invalid"),
])
def test_what_haproxy_refuses_is_not_installed(site, broken, named):
    site.installed.chmod(0o640)
    os.chown(site.installed, 12345, 12346)
    site.template.write_text(TEMPLATE.replace("# the end\n", broken))
    complaint = site.refused(78, "generate")
    assert named in complaint and "haproxy -c -f $FILE" in complaint
    assert str(site.installed) in complaint and ".installed" not in complaint
    assert leftovers(site) == []
    # Neither by --apply, which keeps the entry all the same.
    refusal(site.call("add-host", "10.0.0.3", 80, "--apply"), 78)
    assert "app3" in site.names() and "app3" not in site.installed.read_text() and site.reload_count() == 1


def test_its_alerts_alone_are_told_and_its_warnings_on_a_line_of_their_own(site):
    late = "frontend web\n    use_backend servers if TRUE\n    http-request set-header a b\n"
    site.template.write_text(TEMPLATE.replace("frontend web\n", late).replace("# the end", "    frobnicate"))
    done = site.call("generate")
    warning, error = done.stderr[:-1].split("\n")
    assert done.returncode == 78 and "warns: " in warning and "[WARNING]" not in warning
    assert "unknown keyword 'frobnicate'" in error and "use_backend" not in error
    assert not any(word in error for word in ("[ALERT]", "config : ", "Error(s) found", "Fatal errors"))


def test_two_servers_of_one_name_are_refused_whatever_haproxy_says(site):
    """HAProxy 3.4 takes them."""
    site.settings(check_command="true")
    site.template.write_text(TEMPLATE.replace("$SERVERS", "$SERVERS\n    server app2 10.0.0.9:80"))
    assert "two servers of `servers` are called `app2`" in site.refused(78, "generate")


def test_a_template_in_any_encoding_is_taken_byte_by_byte(site):
    comment = b"# f\xfcr \xe2\x82\xac \x80\xff\n"
    site.template.write_bytes(comment + TEMPLATE.encode())
    site("generate")
    assert site.installed.read_bytes() == comment + rendered("app1 10.0.0.1:80", "app2 10.0.0.2:80").encode()
    site("add-host", "10.0.0.3", 80, "--apply")
    assert site.installed.read_bytes().startswith(comment) and b"server app3" in site.installed.read_bytes()
    # What is not ASCII in an entry of 0.0.3 and in server_line, too.
    (site.hosts / "app4").write_text("server app4 10.0.0.4:80 # für\n")
    site("generate")
    assert "server app4 10.0.0.4:80 # für\n".encode() in site.installed.read_bytes()


def test_a_number_stays_with_its_entry_for_life(site):
    site.settings(server_line="server $NAME $IP:$PORT id $ID")

    def numbers():
        site("generate")
        found = dict(re.findall(r"server (\S+) \S+ id (\d+)$", site.installed.read_text(), re.M))
        assert len(set(found.values())) == len(found) and all(0 < int(n) < 1 << 20 for n in found.values())
        return found

    before = numbers()
    for number in range(3, 12):
        site("add-host", f"10.0.0.{number}", 80)
    site.remove("app1")
    assert numbers()["app2"] == before["app2"] and "app1" not in numbers()
    (site.hosts / "app2").write_text("10.9.9.9 81 -\n")
    assert numbers()["app2"] == before["app2"]
    before, shown = site.snapshot(), site("generate", "--stdout")
    assert shown == site.installed.read_text() and site.snapshot() == before


def test_a_check_command_that_cannot_run_is_no_consent(site):
    site.settings(check_command="/nonexistent/haproxy -c -f $FILE")
    site.template.write_text(TEMPLATE + "# more\n")
    assert site.refused(74, "generate").startswith("check_command")


def test_the_check_sees_the_new_file_beside_the_old_one(site):
    site.settings(check_command=f"cp $FILE {site.dir}/seen; dirname $FILE >{site.dir}/where")
    site.template.write_text(TEMPLATE + "# more\n")
    site("generate")
    assert (site.dir / "seen").read_text() == site.installed.read_text() != rendered("app1 10.0.0.1:80")
    assert (site.dir / "where").read_text() == f"{site.dir}\n"


def test_it_keeps_mode_and_owner(site):
    site.installed.chmod(0o640)
    os.chown(site.installed, 12345, 12346)
    site("add-host", "10.0.0.3", 80, "--apply")
    status = site.installed.stat()
    assert (status.st_mode & 0o7777, status.st_uid, status.st_gid) == (0o640, 12345, 12346)
    assert "app3" in site.installed.read_text() and site.reload_count() == 2


def test_a_new_file_is_readable_whatever_the_umask(cli):
    cli.settings()
    cli("add-host", "10.0.0.1", 80)
    assert cli.call("generate", umask=0o077).returncode == 0
    assert cli.installed.stat().st_mode & 0o7777 == 0o644


def test_nothing_changed_means_nothing_done(site):
    before = site.installed.stat()
    site("generate")
    site("add-host", "10.0.0.1", 80, "--apply")
    after = site.installed.stat()
    assert (before.st_ino, before.st_mtime_ns, before.st_ctime_ns) == (after.st_ino, after.st_mtime_ns, after.st_ctime_ns)
    assert site.reload_count() == 1


def test_a_symlink_is_followed(site):
    real = site.dir / "real" / "haproxy.cfg"
    real.parent.mkdir()
    site.installed.rename(real)
    site.installed.symlink_to("real/haproxy.cfg")
    site("add-host", "10.0.0.3", 80, "--apply")
    assert site.installed.is_symlink() and "app3" in real.read_text()
    assert {path.name for path in real.parent.iterdir()} == {"haproxy.cfg", "haproxy.cfg.before-autoscaler"}


def test_what_the_first_generate_replaces_is_kept(site):
    site.installed.with_name(f"{site.installed.name}.before-autoscaler").unlink(missing_ok=True)
    (site.dir / ".written").unlink()
    site.installed.write_text("# my own\n")
    site("generate")
    site("add-host", "10.0.0.3", 80, "--apply")
    assert site.installed.with_name(f"{site.installed.name}.before-autoscaler").read_text() == "# my own\n"


def test_what_somebody_else_wrote_there_is_kept_and_said(site):
    ours = site.installed.read_text()
    site.installed.write_text(ours + "# by hand\n")
    done = run(site.argv("add-host", "10.0.0.3", 80, "--apply"))
    [kept] = site.installed.parent.glob(f"{site.installed.name}.*T*Z")
    assert done.returncode == 0 and str(kept) in done.stderr and "somebody has changed it" in done.stderr
    assert kept.read_text() == ours + "# by hand\n"
    assert site.installed.read_text() == rendered("app1 10.0.0.1:80", "app2 10.0.0.2:80", "app3 10.0.0.3:80")
    # Once: what autoscaler writes is its own again.
    assert "somebody" not in site.call("remove-host", "app3", "--apply").stderr
    assert list(site.installed.parent.glob(f"{site.installed.name}.*T*Z")) == [kept]


def test_an_empty_hosts_d_never_replaces_a_working_file(site):
    for name in site.names():
        (site.hosts / name).unlink()
    assert str(site.hosts) in site.refused(78, "generate")
    # Where there is none yet, it is the beginning of everything.
    site.installed.unlink()
    site("generate")
    assert site.installed.read_text() == rendered()


def test_a_reader_sees_the_old_file_or_the_new_one(site):
    site.settings(check_command="true", reload_command="true")
    halves, done = [], threading.Event()

    def watch():
        while not done.is_set():
            text = site.installed.read_text()
            if not text.endswith("# the end\n"):
                halves.append(text)

    watcher = threading.Thread(target=watch)
    watcher.start()
    try:
        for number in range(3, 23):
            site("add-host", f"10.0.0.{number}", 80, "--apply")
    finally:
        done.set()
        watcher.join()
    assert halves == [] and site.installed.read_text().count("server app") == 22


def test_calls_side_by_side_wait_for_each_other(site):
    log = site.dir / "log"
    site.settings(check_command=f"echo in >>{log}; sleep 0.05; haproxy -c -f $FILE", reload_command=f"echo out >>{log}")
    calls = [site.start("add-host", f"10.0.0.{number}", 80, "--apply") for number in range(3, 11)]
    for call in calls:
        assert call.communicate(timeout=60) == ("", "") and call.returncode == 0
    steps = log.read_text().split()
    assert steps == ["in", "out"] * (len(steps) // 2) and steps
    assert site.installed.read_text().count("    server app") == 10
    assert leftovers(site) == []


# Out of whose INI

@pytest.fixture
def open_site(binary):
    """A directory that others may look into."""
    with tempfile.TemporaryDirectory() as directory:
        os.chmod(directory, 0o755)
        yield Cli(binary, Path(directory) / "etc")


@pytest.mark.parametrize("command", [["generate"], ["add-host", "10.0.0.2", 80, "--apply"]])
def test_root_runs_the_commands_of_somebody_else_s_ini_as_that_user(open_site, command):
    site = open_site
    site("add-host", "10.0.0.1", 80)
    site.installed.touch()
    os.chown(site.installed, 60999, 60998)
    who = site.dir / "who"
    who.touch()
    who.chmod(0o666)
    site.settings(check_command=f"id -u >>{who}; id -G >>{who}; head -n 1 $FILE >>{who}", reload_command=f"id -u >>{who}")
    for whose in (site.ini, site.dir):
        os.chown(whose, 60999, 60998)
        site.template.write_text(TEMPLATE + f"# {whose}\n")
        site(*command)
        assert who.read_text() == f"60999\n60998\n{TEMPLATE.splitlines()[0]}\n60999\n"
        who.write_text("")
        os.chown(whose, 0, 0)
    # One that the system knows has its own groups.
    os.chown(site.ini, 1, 1)
    os.chown(site.installed, 1, 1)
    site.template.write_text(TEMPLATE)
    site(*command)
    assert who.read_text().split()[:2] == ["1", "1"]


def test_root_installs_for_somebody_else_s_ini_only_where_that_user_may_write(open_site):
    """Whoever owns the INI names files of root's in it, also by a link, or puts a link where the configuration was."""
    site = open_site
    site("add-host", "10.0.0.1", 80)
    elsewhere, theirs = site.dir.parent / "root", site.dir.parent / "theirs"
    for directory in (elsewhere, theirs):
        directory.mkdir()
    os.chown(site.dir, 60999, 60998)
    os.chown(theirs, 60999, 60998)
    program, fresh, link = elsewhere / "program", elsewhere / "fresh", theirs / "link"
    program.write_text("root's\n")
    program.chmod(0o4755)
    link.symlink_to(program)
    for target in (program, fresh, link):
        site.settings(config=target, check_command="true")
        os.chown(site.ini, 60999, 60998)
        for command in (["generate"], ["generate", "--check"]):
            complaint = site.refused(78, *command)
            assert complaint.startswith(f"{elsewhere}/") and "run: chown 60999 " in complaint
        done = site.call("add-host", "10.0.0.2", 80, "--apply")
        assert "run: chown 60999 " in refusal(done, 78)
        assert program.read_text() == "root's\n" and os.listdir(elsewhere) == ["program"]
    # What it made of that itself, it may have replaced; nothing becomes a program of root's by it.
    link.unlink()
    os.link(program, link)
    site("generate")
    assert program.read_text() == "root's\n" and link.stat().st_mode & 0o7777 == 0o755


@pytest.mark.parametrize("which, mode", [("ini", 0o666), ("dir", 0o777)])
def test_root_runs_nothing_that_everybody_may_write(site, which, mode):
    path = getattr(site, which)
    path.chmod(mode)
    site.template.write_text(TEMPLATE + "# more\n")
    complaint = site.refused(78, "generate")
    assert complaint.startswith(f"{path}: ") and f"chmod go-w {path}" in complaint
    path.chmod(mode & ~0o022)
    site("generate")


# Reloading

def test_a_failed_reload_is_said_and_tried_again_by_the_next_one(site):
    gate = site.dir / "gate"
    site.settings(reload_command=f"test -e {gate} || {{ echo 'no systemd here' >&2; exit 4; }}; echo x >>{site.reloads}")
    complaint = refusal(site.call("add-host", "10.0.0.3", 80, "--apply"), 74)
    assert "no systemd here" in complaint and "app3" in site.installed.read_text()
    refusal(site.call("generate"), 74)
    gate.touch()
    site("generate")
    assert site.reload_count() == 2
    site("generate")
    assert site.reload_count() == 2


def test_one_killed_before_its_reload_is_made_up_for(site):
    site.settings(reload_command="sleep 60")
    site.template.write_text(TEMPLATE + "# more\n")
    with site.start("generate", start_new_session=True) as call:
        wait_until(lambda: site.installed.read_text().endswith("# more\n"), 10, "the new file is in place")
        os.killpg(call.pid, 9)
    site.settings()
    site("generate")
    assert site.reload_count() == 2


# Looking only

@pytest.mark.parametrize("change", ["nothing installed", "a server more", "a server less", "nothing",
                                    "no final newline", "carriage returns"])
def test_the_diff_makes_the_new_file_out_of_the_old_one(site, change):
    if change == "nothing installed":
        site.installed.unlink()
    elif change == "a server more":
        site.template.write_text("# first\n" + TEMPLATE + "# last\n")
        site("add-host", "10.0.0.3", 80)
    elif change == "a server less":
        site.remove("app1")
    elif change == "no final newline":
        site.installed.write_text(site.installed.read_text().rstrip("\n"))
    elif change == "carriage returns":
        site.installed.write_bytes(site.installed.read_bytes().replace(b"\n", b"\r\n"))
    before = site.snapshot()
    diff, new = site("generate", "--diff"), site("generate", "--stdout")
    assert site.snapshot() == before
    assert bool(diff) == (change != "nothing")
    patched = site.dir / "patched"
    patched.write_bytes(site.installed.read_bytes() if site.installed.exists() else b"")
    # --binary: patch would take away carriage returns by itself.
    subprocess.run(["patch", "--quiet", "--binary", str(patched)], input=diff.encode(), check=bool(diff))
    assert patched.read_bytes() == new.encode()


def test_stdout_prints_what_would_be_installed_and_installs_nothing(site):
    site("add-host", "10.0.0.3", 80)
    before = site.snapshot()
    text = site("generate", "--stdout")
    assert site.snapshot() == before and "app3" in text
    site("generate")
    assert site.installed.read_text() == text
