"""What holds for every command: help, usage, the INI, and the manners of stdout, stderr and exit codes."""

import os
import re
import subprocess
from collections import Counter

import pytest
from cli import CHECK, Cli, environment, refusal, run

COMMANDS = ["init", "master", "daemon", "add-host", "list-hosts", "remove-host", "generate", "status", "scale-up"]


def offered(binary):
    """The commands that `--help` lists."""
    text = run([binary, "--help"]).stdout
    block = text.partition("Commands:\n")[2].partition("\n\n")[0]
    return [line.split()[0] for line in block.splitlines()]


# Help and usage

def test_help_lists_every_command_and_each_has_its_own(binary):
    commands = offered(binary)
    assert set(COMMANDS) <= set(commands)
    texts = set()
    for command in commands:
        for argv in ([command, "--help"], ["-h", command], [command, "-h"]):
            # Before any INI is read.
            done = run([binary, "-c", "/nonexistent/x.ini", *argv])
            assert (done.returncode, done.stderr) == (0, ""), argv
            assert f"autoscaler [options] {command}" in done.stdout
            texts.add(done.stdout)
    assert len(texts) == len(commands)


@pytest.mark.parametrize("argv", [["-V"], ["--version"], ["prune", "-V"], ["add-host", "--version"]], ids=repr)
def test_version(binary, argv):
    done = run([binary, *argv])
    assert (done.returncode, done.stderr) == (0, "")
    assert re.fullmatch(r"autoscaler \d+\.\d+\.\d+\n", done.stdout)


@pytest.mark.parametrize("arguments", [
    [], ["frobnicate"], ["--frobnicate"], ["-x"], [""], ["add-host"], ["add-host", "10.0.0.1"],
    ["add-host", "10.0.0.1", "80", "81"], ["add-host", "10.0.0.1", "80", "--name"],
    ["add-host", "10.0.0.1", "80", "--frob"], ["add-host", "10.0.0.1", "80", "--apply=yes"],
    ["remove-host"], ["remove-host", "a", "b"], ["generate", "x"], ["generate", "--stdout", "--diff"],
    ["list-hosts", "x"], ["init", "x"], ["scale-up", "--id", "x"], ["-c"], ["list-hosts", "--config"],
    ["add-host", b"\xff", "80"], ["list-hosts\nx"],
], ids=repr)
def test_usage_errors(cli, arguments):
    before = cli.snapshot()
    refusal(run([cli.binary, *arguments], env={"AUTOSCALER_CONFIG": str(cli.ini)}), 64)
    assert cli.snapshot() == before


def test_an_unknown_command_is_answered_with_the_nearest(binary):
    assert "did you mean add-host?" in refusal(run([binary, "add-hots"]), 64)


# Which INI

def test_the_ini_is_found_by_option_and_by_environment(binary, tmp_path):
    one, two = Cli(binary, tmp_path / "one"), Cli(binary, tmp_path / "two")
    one("add-host", "10.0.0.1", 80)
    two("add-host", "10.0.0.2", 80)
    listings = {"app1 10.0.0.1 80 -\n": one.ini, "app1 10.0.0.2 80 -\n": two.ini}
    for listing, ini in listings.items():
        for argv in (["-c", ini, "list-hosts"], ["list-hosts", "-c", ini], [f"--config={ini}", "list-hosts"],
                     ["list-hosts", "--config", ini]):
            # The option goes before the environment.
            assert run([binary, *argv], env={"AUTOSCALER_CONFIG": str(one.ini)}).stdout == listing
        assert run([binary, "list-hosts"], env={"AUTOSCALER_CONFIG": str(ini)}).stdout == listing
        # Without a directory it is one of the present directory.
        assert run([binary, "-c", ini.name, "list-hosts"], cwd=ini.parent).stdout == listing


def test_a_missing_ini_is_said_with_the_way_to_one(binary, tmp_path):
    line = refusal(run([binary, "-c", tmp_path / "x.ini", "list-hosts"]), 78)
    assert line.startswith(f"{tmp_path}/x.ini: ") and "autoscaler init" in line


@pytest.mark.parametrize("text, line, named", [
    ("[aws]\n\n# x\ntreshold = 5\n", 4, "treshold"),
    ("[scaling]\ntreshold = 5\n", 2, "did you mean threshold"),
    ("[aws]\n[scalign]\n", 2, "scalign"),
    ("threshold = 5\n", 1, "section"),
    ("[scaling]\nthreshold = many\n", 2, "many"),
    ("[scaling]\nthreshold = 5\nthreshold = 6\n", 3, "threshold"),
    ("[scaling]\nwindow = 3 days\n", 2, "3 days"),
    ("[machine]\n; x\nport = 65536\n", 3, "65536"),
    ("[machine]\nhealth_check = ping\n", 2, "health_check"),
    ("[master]\nlisten = somewhere\n", 2, "somewhere"),
    ("[haproxy]\nservers = lb1, -oProxyCommand=x\n", 2, "-oProxyCommand=x"),
    ("[haproxy]\nserver_line = bind *:80\n", 2, "server_line"),
], ids=lambda value: repr(value) if isinstance(value, str) else None)
def test_complaints_about_the_ini_name_its_line(cli, text, line, named):
    cli.write(text)
    complaint = cli.refused(78, "list-hosts")
    assert complaint.startswith(f"{cli.ini}:{line}: ") and named in complaint


def test_a_value_may_hold_what_begins_a_comment_elsewhere(cli):
    cli.write("# c = 1\n; c = 2\n[haproxy]\nserver_line = server $NAME $IP:$PORT check cookie a=b%c;d#e\n")
    cli("add-host", "10.0.0.1", 80)
    assert "server app1 10.0.0.1:80 check cookie a=b%c;d#e\n" in cli("generate", "--stdout")


@pytest.mark.parametrize("mode", [0o644, 0o640, 0o604])
@pytest.mark.parametrize("command", ["daemon", "master"])
@pytest.mark.parametrize("secret", ["[cluster]\nsecret = hush\n", "[aws]\naws_secret_key = hush\n"])
def test_a_secret_that_others_can_read_is_refused(cli, command, mode, secret):
    cli.write(secret + "[machine]\nscale_up_command = true\n", mode)
    complaint = cli.refused(78, command)
    assert f"chmod 600 {cli.ini}" in complaint and "hush" not in complaint
    assert cli("list-hosts") == ""  # a command that runs for a moment is not held to it


@pytest.mark.parametrize("listen", ["0.0.0.0:65432", "[::]:65432", "10.77.0.1:65432"])
def test_listening_for_everybody_needs_a_secret(cli, listen):
    cli.write(f"[master]\nlisten = {listen}\nstate = {cli.dir}/state\n")
    complaint = cli.refused(78, "master")
    assert complaint.startswith(f"{cli.ini}:2: listen") and "secret" in complaint


# stdout, stderr, exit codes

def test_commands_are_silent_on_success(cli):
    cli.settings()
    for arguments in (["add-host", "10.0.0.1", 80], ["add-host", "10.0.0.1", 80], ["generate"], ["generate"],
                      ["add-host", "10.0.0.2", 80, "--apply"]):
        assert cli(*arguments) == "", arguments


def test_verbose_says_what_was_done_and_quiet_still_says_what_went_wrong(cli):
    cli.settings()
    cli("add-host", "10.0.0.1", 80)
    done = cli.call("generate", "-v")
    assert done.returncode == 0 and "installed" in done.stderr and done.stdout == ""
    refusal(cli.call("-q", "add-host", "10.0.0.1", "eighty"), 64)


def test_a_reader_that_goes_away_is_no_error(cli):
    for number in range(4000):
        (cli.hosts / f"app{number}").write_text(f"10.{number // 250}.{number % 250}.1 80 -\n")
    reader, writer = os.pipe()
    with subprocess.Popen(cli.argv("list-hosts"), env=environment(), stdout=writer, stderr=subprocess.PIPE) as lister:
        os.close(writer)
        assert os.read(reader, 4).startswith(b"app")
        os.close(reader)
        assert lister.communicate(timeout=20) == (None, b"")
    assert lister.returncode == 0


@pytest.mark.parametrize("arguments", [["--help"], ["--version"], ["generate", "--help"], ["list-hosts"],
                                       ["generate", "--stdout"]], ids=" ".join)
def test_results_that_cannot_be_written_are_an_error(cli, arguments):
    cli("add-host", "10.0.0.1", 80)
    with open("/dev/full", "w") as full:
        assert "stdout" in refusal(cli.call(*arguments, stdout=full), 74)


# init

def test_init_makes_all_that_the_others_need(binary, tmp_path):
    ini = tmp_path / "a/b/autoscaler.ini"
    done = run([binary, "-c", ini, "init"], umask=0o077)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    made = {path.name: path.stat().st_mode & 0o7777 for path in ini.parent.iterdir()}
    assert made["autoscaler.ini"] == 0o600 and made["haproxy.cfg"] == 0o644 and set(made) == {
        "autoscaler.ini", "haproxy.cfg", "hosts.d"}
    text = ini.read_text()
    assert len(re.findall(r"(?m)^#", text)) > 20
    assert "\nconfig = /etc/haproxy/haproxy.cfg\n" in text
    # Valid as it stands, for the others and for HAProxy.
    for argv in (["list-hosts"], ["add-host", "127.0.0.1", "80"], ["generate", "--stdout"]):
        done = run([binary, "-c", ini, *argv])
        assert (done.returncode, done.stderr) == (0, ""), argv
    (tmp_path / "out.cfg").write_text(done.stdout)
    checked = run(["haproxy", "-c", "-f", tmp_path / "out.cfg"])
    assert checked.returncode == 0, checked.stderr
    assert f"    server app1 127.0.0.1:80 {CHECK}\n" in done.stdout


def test_init_makes_a_fresh_secret_each_time(binary, tmp_path):
    secrets = Counter()
    for number in range(5):
        ini = tmp_path / f"{number}/autoscaler.ini"
        run([binary, "-c", ini, "init"], check=True)
        secrets[re.search(r"(?m)^secret = ([0-9a-f]{32,})$", ini.read_text())[1]] += 1
    assert len(secrets) == 5


@pytest.mark.parametrize("there", ["autoscaler.ini", "haproxy.cfg", "hosts.d"])
def test_init_overwrites_nothing_and_says_what_it_kept(binary, tmp_path, there):
    kept = tmp_path / there
    if there == "hosts.d":
        kept.mkdir()
        kept = kept / "mine"
    kept.write_text("mine\n")
    kept.chmod(0o640)
    done = run([binary, "-c", tmp_path / "autoscaler.ini", "init"])
    assert (done.returncode, done.stdout) == (0, "")
    [line] = done.stderr.splitlines()
    assert line.startswith(f"autoscaler: {tmp_path / there}: ") and "kept" in line
    assert kept.read_text() == "mine\n" and kept.stat().st_mode & 0o777 == 0o640
    assert {"autoscaler.ini", "haproxy.cfg", "hosts.d"} <= {path.name for path in tmp_path.iterdir()}


def test_init_follows_the_name_of_the_ini_and_not_a_dangling_link(binary, tmp_path):
    (tmp_path / "site.ini").symlink_to(tmp_path / "nowhere.ini")
    done = run([binary, "-c", tmp_path / "site.ini", "init"])
    assert "site.ini" in done.stderr and not (tmp_path / "nowhere.ini").exists()
