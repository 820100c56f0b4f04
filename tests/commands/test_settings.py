"""Settings that change: `set`, and services that live through SIGHUP."""

import os
import re
import signal
import subprocess

import pytest
from cli import environment, refusal
from conftest import ROOT

INI = """\
# about it
[scaling]
# percent
#threshold = 50
max_hosts=7

[cluster]
; nothing
"""


@pytest.fixture
def site(cli):
    """An INI and a master's directory."""
    cli.write(INI, 0o640)
    return cli


def given(cli, key, text):
    """`set KEY -`, with this on stdin."""
    return subprocess.run(cli.argv("set", key, "-"), input=text, env=environment(), capture_output=True, text=True)


def test_one_line_changes_and_all_else_stays(site):
    os.chown(site.ini, 12, 34)
    for key, value, old, new in [
        ("max_hosts", "9", "max_hosts=7\n", "max_hosts=9\n"),
        ("threshold", "60", "#threshold = 50\n", "#threshold = 50\nthreshold = 60\n"),
        ("scaling.min_hosts", "2", "max_hosts=9\n", "max_hosts=9\nmin_hosts = 2\n"),
        ("Cluster.Name", "shop", "[cluster]\n", "[cluster]\nname = shop\n"),
        ("cluster.name", "", "name = shop\n", "name =\n"),
        ("haproxy.servers", "lb1, lb2", "; nothing\n", "; nothing\n\n[haproxy]\nservers = lb1, lb2\n"),
    ]:
        expected = site.ini.read_text().replace(old, new)
        assert site("set", key, value) == ""
        assert site.ini.read_text() == expected
    there = site.ini.stat()
    assert (there.st_mode & 0o7777, there.st_uid, there.st_gid) == (0o640, 12, 34)
    assert [path.name for path in site.dir.iterdir() if path.name.startswith(".auto")] == []


def test_what_is_set_already_is_left_alone(site):
    before = site.ini.stat()
    site("set", "max_hosts", 7)
    assert site.ini.stat().st_ino == before.st_ino


def test_a_link_stays_one(site):
    behind = site.dir / "real.ini"
    site.ini.rename(behind)
    site.ini.symlink_to("real.ini")
    site("set", "max_hosts", 8)
    assert site.ini.is_symlink() and "max_hosts=8\n" in behind.read_text()


@pytest.mark.parametrize(("code", "key", "value", "said"), [
    (78, "max_hosts", "many", r"autoscaler\.ini:5: max_hosts: `many` is not a whole number; the file is as it was$"),
    (78, "min_hosts", "8", r"min_hosts: must not be over max_hosts"),
    (78, "scale_up_command", "x", None),
    (64, "treshold", "50", "did you mean threshold"),
    (64, "secret", "x", r"did you mean cluster\.secret\?"),
    (64, "cluster.secret", "hush", "autoscaler set cluster.secret - <FILE$"),
    (64, "notify.webhook", "http://hush", "- <FILE$"),
    (64, "max.hosts", "3", "no such key"),
    (64, "", "3", "no such key"),
])
def test_what_would_be_wrong_changes_nothing(site, code, key, value, said):
    complaint = site.refused(64 if said is None else code, "set", key, value)
    assert re.search(said or r"did you mean machine\.scale_up_command\?", complaint)
    assert "hush" not in complaint


def test_a_wrong_file_can_be_mended_and_not_made_worse(site):
    site.write(INI.replace("7", "seven"))
    assert "autoscaler.ini:5: max_hosts: `seven`" in site.refused(78, "set", "min_hosts", "2")
    site("set", "max_hosts", 7)
    site.ini.unlink()
    assert "`autoscaler init` makes one" in site.refused(78, "set", "max_hosts", "2")


def test_a_secret_comes_by_stdin_and_stays_its_owners(site):
    complaint = refusal(given(site, "cluster.secret", "hush-hush\n"), 78)
    assert complaint.endswith(f"run: chmod 600 {site.ini}") and "hush" not in site.ini.read_text()
    site.ini.chmod(0o600)
    done = given(site, "cluster.secret", "0123456789abcdef fedcba9876543210\n")
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    assert "; nothing\n" in site.ini.read_text() and site.ini.stat().st_mode & 0o777 == 0o600
    assert "\nsecret = 0123456789abcdef fedcba9876543210\n" in site.ini.read_text()
    done = given(site, "machine.scale_up_command", "echo one\necho two\n")
    assert done.returncode == 0
    assert "\n[machine]\nscale_up_command = echo one\n    echo two\n" in site.ini.read_text()
    verbose = subprocess.run(site.argv("-v", "set", "cluster.secret", "-"), input="other", env=environment(),
                             capture_output=True, text=True)
    assert verbose.stderr == f"autoscaler: {site.ini}: secret\n"


def test_calls_side_by_side_lose_nothing(site):
    keys = {"max_hosts": "20", "min_hosts": "2", "threshold": "61", "cooldown": "31s", "max_step": "3", "replace_after": "7m"}
    calls = [site.start("set", key, value) for key, value in keys.items()]
    assert [call.wait(20) for call in calls] == [0] * len(keys)
    found = dict(re.findall(r"^(\w+) ?= ?(.*)$", site.ini.read_text(), re.M))
    assert found == keys


def test_a_reader_sees_the_old_file_or_the_new_one(site):
    """The whole text of either, while it changes over and over."""
    texts = {INI, INI.replace("7", "8")}
    with subprocess.Popen(["sh", "-c", 'i=0; while [ $i -lt 30 ]; do "$@" 8; "$@" 7; i=$((i+1)); done', "sh",
                           *site.argv("set", "max_hosts")], env=environment()) as writer:
        seen = set()
        while writer.poll() is None:
            seen.add(site.ini.read_text())
    assert writer.returncode == 0 and seen <= texts


def a_service(cli, command):
    """`master` or `daemon`, as it is about to start."""
    cli.write(f"[master]\nlisten = 127.0.0.1:0\nstate = {cli.dir}/state\ntunnel_ports = 1\n"
              "[machine]\nscale_up_command = echo 127.0.0.1\n[haproxy]\nservers = lb1\n")
    return cli.start(command)


@pytest.mark.parametrize("command", ["master", "daemon"])
def test_a_service_lives_through_sighup(cli, command):
    """With the process id that its supervisor knows."""
    with a_service(cli, command) as service:
        try:
            assert re.search("serving on|watching the CPU", service.stderr.readline())
            with open(f"/proc/{service.pid}/status") as status:
                [ignored] = re.findall(r"^SigIgn:\t(\w+)$", status.read(), re.M)
            assert int(ignored, 16) & 1 << signal.SIGHUP - 1
            service.send_signal(signal.SIGHUP)
            service.terminate()
            # Not by the signal that came first.
            assert service.wait(10) == -signal.SIGTERM
        finally:
            service.kill()


@pytest.mark.parametrize("command", ["master", "daemon"])
def test_a_service_takes_a_changed_file_and_keeps_its_settings_where_it_is_wrong(cli, command):
    with a_service(cli, command) as service:
        try:
            assert re.search("serving on|watching the CPU", service.stderr.readline())
            said = iter(lambda: service.stderr.readline().rstrip("\n"), "")
            cli("set", "threshold", 61)
            assert f"{cli.ini} has changed: threshold = 61" in next(line for line in said if "has changed" in line)
            right = cli.ini.read_text()
            cli.ini.write_text(right.replace("61", "6100"))
            service.send_signal(signal.SIGHUP)
            wrong = next(line for line in said if str(cli.ini) in line)
            assert re.search(r"autoscaler\.ini:\d+: threshold: `6100` is not .*; the settings stay as they were$", wrong)
            # Back to what is in force, and on to what waits.
            cli.ini.write_text(right)
            cli("set", "master.state", "/var/lib/other")
            cli("set", "max_hosts", 12)
            lines = [next(line for line in said if "has changed" in line)]
            while "max_hosts = 12" not in lines[-1]:
                lines.append(next(said))
            assert "state waits for the next start" in " ".join(lines) and "threshold" not in " ".join(lines)
            assert service.poll() is None
        finally:
            service.kill()


def test_the_page_has_what_packaging_has():
    page, cron = ((ROOT / path).read_text() for path in ("docs/change-a-setting.md", "packaging/cron/autoscaler"))
    lines = re.findall(r"^0 .*min_hosts.*$", page, re.M)
    assert len(lines) == 2
    for line in lines:
        assert f"#{line}\n" in cron
