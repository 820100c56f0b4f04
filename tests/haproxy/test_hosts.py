"""add-host, list-hosts, remove-host: the files of hosts.d, whatever is asked for and whatever lies there."""

import os

import pytest
from cli import CHECK, TEMPLATE, refusal
from lab import Network, missing

needs_lab = pytest.mark.skipif(missing() is not None, reason=str(missing()))


# What is written

def test_an_entry_is_a_file_named_after_its_server(cli):
    cli("add-host", "10.0.0.5", 8080)
    cli("add-host", "10.0.0.6", 80, "--name", "web-1.x")
    cli("add-host", "--id", "i-0123456789abcdef0", "10.0.0.7", 80)
    assert cli.names() == ["app1", "i-0123456789abcdef0", "web-1.x"]
    assert cli("list-hosts") == ("app1 10.0.0.5 8080 -\ni-0123456789abcdef0 10.0.0.7 80 i-0123456789abcdef0\n"
                                 "web-1.x 10.0.0.6 80 -\n")
    # HAProxy's user and an operator may read them.
    assert {path.stat().st_mode & 0o777 for path in cli.hosts.iterdir()} == {0o644}


@pytest.mark.parametrize("written", ["2001:db8::5", "[2001:db8::5]", "2001:0DB8:0::0005"])
def test_ipv6(cli, written):
    cli("add-host", written, 80)
    cli("add-host", "2001:db8::5", 80)
    assert cli("list-hosts") == "app1 2001:db8::5 80 -\n"
    assert f"    server app1 [2001:db8::5]:80 {CHECK}\n" in cli("generate", "--stdout")


def test_a_name_is_resolved_and_the_address_is_written(cli):
    cli("add-host", "localhost", 80)
    [line] = cli("list-hosts").splitlines()
    assert line in ("app1 127.0.0.1 80 -", "app1 ::1 80 -")
    cli("add-host", line.split()[1], 80)
    assert len(cli.names()) == 1


def test_the_same_host_and_port_again_changes_nothing(cli):
    cli("add-host", "10.0.0.5", 80, "--id", "i-0a", "--name", "web")
    before = cli.snapshot()
    for more in ([], ["--name", "other"], ["--id", "i-0a"], ["--name", "web", "--id", "i-0a"]):
        cli("add-host", "10.0.0.5", 80, *more)
    assert cli.snapshot() == before
    cli("add-host", "10.0.0.5", 81)
    assert len(cli.names()) == 2


@pytest.fixture
def keys(cli):
    """A function: the names for which the master keeps an ssh host key."""
    kept = cli.dir / "state/known_hosts"
    kept.mkdir(parents=True)
    cli.write(f"[master]\nstate = {kept.parent}\n")
    for name in ("i-0a", "i-0b", "web", "app1"):
        (kept / name).write_text("10.0.0.5 ssh-ed25519 AAAA\n")
    return lambda: {path.name for path in kept.iterdir()}


def test_another_instance_at_the_same_address_takes_the_entry_over(cli, keys):
    cli("add-host", "10.0.0.6", 80, "--id", "i-0f")
    cli("add-host", "10.0.0.5", 80, "--id", "i-0a")
    cli("add-host", "10.0.0.5", 80, "--id", "i-0b")
    assert cli("list-hosts") == "i-0b 10.0.0.5 80 i-0b\ni-0f 10.0.0.6 80 i-0f\n"
    assert keys() == {"i-0b", "web", "app1"}
    # A name that somebody gave stays, and a wish for another one counts.
    cli("add-host", "10.0.0.7", 80, "--id", "i-01", "--name", "web")
    cli("add-host", "10.0.0.7", 80, "--id", "i-02")
    assert "web 10.0.0.7 80 i-02\n" in cli("list-hosts") and "web" not in keys()
    cli("add-host", "10.0.0.7", 80, "--id", "i-03", "--name", "www")
    assert "www 10.0.0.7 80 i-03\n" in cli("list-hosts") and "web" not in cli.names()
    # Another port is another server.
    cli("add-host", "10.0.0.7", 81, "--id", "i-04")
    assert "www" in cli.names() and "i-04" in cli.names()


def test_an_instance_that_is_known_at_another_address_moves(cli, keys):
    cli("add-host", "10.0.0.5", 80, "--id", "i-0a")
    cli("add-host", "10.0.0.5", 81, "--id", "i-0a")
    cli("add-host", "10.0.0.9", 80, "--id", "i-0a")
    assert cli("list-hosts").split()[1:4] == ["10.0.0.9", "80", "i-0a"] and len(cli.names()) == 1
    assert "i-0a" not in keys() and "app1" not in keys()
    # To the address of another one that is gone.
    cli("add-host", "10.0.0.8", 80, "--id", "i-0b")
    cli("add-host", "10.0.0.8", 80, "--id", "i-0a")
    assert cli("list-hosts").split()[1:] == ["10.0.0.8", "80", "i-0a"]


def test_an_entry_without_an_id_learns_it_and_a_line_of_0_0_3_stays(cli, keys):
    cli("add-host", "10.0.0.5", 80)
    cli("add-host", "10.0.0.5", 80, "--id", "i-0a")
    (cli.hosts / "old").write_text("server old 10.0.0.6:80 check\n")
    cli("add-host", "10.0.0.6", 80, "--id", "i-0b")
    assert cli("list-hosts") == "app1 10.0.0.5 80 i-0a\nold 10.0.0.6 80 -\n"
    assert "app1" in keys()


def test_a_name_that_another_server_has_is_refused(cli):
    cli("add-host", "10.0.0.5", 80, "--name", "web")
    assert "web" in cli.refused(64, "add-host", "10.0.0.6", 80, "--name", "web")
    # One that was made out of the instance's id is not asked for by anybody.
    cli("add-host", "10.0.0.7", 80, "--id", "i-0a")
    cli("add-host", "10.0.0.7", 81, "--id", "i-0a")
    assert len(cli.names()) == 3


# Names

def test_fifty_side_by_side_are_fifty_entries_and_fifty_names(cli):
    calls = [cli.start("add-host", f"10.0.0.{number}", 80) for number in range(1, 51)]
    for call in calls:
        assert call.communicate(timeout=60) == ("", "") and call.returncode == 0
    rows = [line.split() for line in cli("list-hosts").splitlines()]
    assert {row[0] for row in rows} == {f"app{number}" for number in range(1, 51)}
    assert {row[1] for row in rows} == {f"10.0.0.{number}" for number in range(1, 51)}
    assert len(rows) == len(cli.names()) == 50


def test_the_same_twenty_times_side_by_side_is_one_entry(cli):
    calls = [cli.start("add-host", "10.0.0.1", 80) for _ in range(20)]
    for call in calls:
        assert call.communicate(timeout=60) == ("", "") and call.returncode == 0
    assert cli("list-hosts") == "app1 10.0.0.1 80 -\n"


def test_a_generated_name_is_never_used_again(cli):
    for number in range(1, 4):
        cli("add-host", f"10.0.0.{number}", 80)
    for number in range(1, 4):
        cli.remove(f"app{number}")
    cli("add-host", "10.0.0.9", 80)
    os.remove(cli.hosts / "app4")  # by hand
    cli("add-host", "10.0.0.9", 80)
    assert cli.names() == ["app5"]


def test_a_generated_name_stays_clear_of_names_given_by_hand(cli):
    cli("add-host", "10.0.0.1", 80, "--name", "app2")
    for number in range(2, 5):
        cli("add-host", f"10.0.0.{number}", 80)
    assert len(cli.names()) == 4


def test_a_name_given_by_hand_is_not_generated_after_its_removal(cli):
    cli("add-host", "10.0.0.1", 80, "--name", "app2")
    cli.remove("app2")
    for number in range(2, 5):
        cli("add-host", f"10.0.0.{number}", 80)
    assert "app2" not in cli.names()


def test_remove_host_takes_a_name_an_address_or_both(cli):
    for number, wanted in enumerate(("app1", "10.0.0.2", "10.0.0.3:80", "[2001:db8::4]:80", "2001:db8::5"), 1):
        cli("add-host", f"10.0.0.{number}" if number < 4 else f"2001:db8::{number}", 80)
        cli.remove(wanted)
        assert cli.names() == [], wanted
    cli("add-host", "10.0.0.1", 80, "--name", "a")
    cli("add-host", "10.0.0.1", 81, "--name", "b")
    complaint = cli.refused(64, "remove-host", "10.0.0.1")
    assert "a, b" in complaint
    cli.refused(64, "remove-host", "10.0.0.2")
    cli.refused(64, "remove-host", "../hosts.d/a")
    cli.remove("10.0.0.1:81")
    assert cli.names() == ["a"]


# What is asked for wrongly

@pytest.mark.parametrize("host", [
    "", " ", "../x", "a/b", "a b", "a\nb", "10.0.0.1\n", "$x", "$(id)", "`id`", "-x.example", "10.0.0", "10.0.0.256",
    "1.2.3.4.5", "12345", "::g", "[::1", "0.0.0.0", "::", "224.0.0.1", "10.0.0.1:80", "user@host", "a..b", "ä.example",
    "x" * 300, "\x1b[31m", "http://10.0.0.1",
], ids=repr)
def test_a_host_that_is_none(cli, host):
    complaint = cli.refused(64, "add-host", "--", host, 80) if host.startswith("-") else cli.refused(
        64, "add-host", host, 80)
    assert complaint.startswith("host: ")


@pytest.mark.parametrize("port", ["", "0", "65536", "-1", "+80", "80x", "8 0", "80\n", "0x50", "http", "９", "1e3",
                                  "99999999999999999999"], ids=repr)
def test_a_port_that_is_none(cli, port):
    cli.refused(64, "add-host", "--", "10.0.0.1", port)


@pytest.mark.parametrize("name", ["", ".", "..", "../x", "a/b", ".hidden", "a b", "a\nb", "$x", "${HOME}", "-x", "ä",
                                  "x" * 65, "a;b", "a'b", 'a"b', "a#b", "a\\b", "a\x7f"], ids=repr)
def test_a_name_that_is_none(cli, name):
    complaint = cli.refused(64, "add-host", "10.0.0.1", 80, f"--name={name}")
    assert complaint.startswith("--name")


@pytest.mark.parametrize("instance", ["", "-", "i-", "i-xyz", "x-0a", "i-0a b", "i-0a\n", "../i-0a", "i-" + "0" * 40],
                         ids=repr)
def test_an_instance_that_is_none(cli, instance):
    cli.refused(64, "add-host", "10.0.0.1", 80, f"--id={instance}")


@needs_lab
def test_a_name_that_nobody_knows(binary, tmp_path):
    with Network(tmp_path) as net:
        host = net.host("lb1")
        host.install(binary, "autoscaler")
        host.run(["autoscaler", "init"])
        done = host.run(["autoscaler", "add-host", "unknown.example", "80"], check=False)
        assert refusal(done, 69).startswith("unknown.example: ")
        # A name that is known, as its present address.
        host.run(["autoscaler", "add-host", "lb1", "80"])
        assert host.run(["autoscaler", "list-hosts"]).stdout == f"app1 {host.address} 80 -\n"


# What the disk does

@pytest.fixture(scope="module")
def machine(binary, tmp_path_factory):
    """A host whose /etc/autoscaler the test may mount over."""
    if missing():
        pytest.skip(missing())
    with Network(tmp_path_factory.mktemp("disk")) as net:
        host = net.host("lb1")
        host.install(binary, "autoscaler")
        yield host


@pytest.fixture
def disk(machine):
    """A small file system at /etc/autoscaler with an INI, one entry and one installed configuration."""
    machine.run(["mount", "-t", "tmpfs", "-o", "size=80k,nr_inodes=40,mode=755", "tmpfs", "/etc/autoscaler"])
    machine.run(["sh", "-c", f"""cd /etc/autoscaler && mkdir hosts.d && cat >haproxy.cfg <<'END'
{TEMPLATE}END
printf '[haproxy]\nconfig = /etc/autoscaler/out.cfg\nreload_command = true\n' >autoscaler.ini
autoscaler add-host 10.0.0.1 80 --apply
printf '10.0.0.2 80 -\n' >hosts.d/app2"""])
    yield machine
    machine.run(["umount", "/etc/autoscaler"])


FILES = ["sh", "-c", "cd /etc/autoscaler && find . -type f ! -name fill\\* ! -name .lock | sort | xargs head -v -c 4096"]


@needs_lab
@pytest.mark.parametrize("arguments", [["add-host", "10.0.0.3", "80"], ["add-host", "10.0.0.3", "80", "--name", "x"],
                                       ["add-host", "10.0.0.3", "80", "--apply"], ["generate"],
                                       ["-c", "/etc/autoscaler/new/a.ini", "init"]], ids=" ".join)
@pytest.mark.parametrize("trouble", [
    "mount -o remount,ro /etc/autoscaler",
    "cat /dev/zero >/etc/autoscaler/fill",
    "for n in $(seq 100); do : >/etc/autoscaler/fill$n || break; done",
], ids=["read-only", "full", "no inodes"])
def test_a_disk_that_takes_nothing_changes_nothing(disk, arguments, trouble):
    before = disk.run(FILES).stdout
    assert "10.0.0.1 80 -" in before and "server app1" in before
    disk.run(["sh", "-c", f"exec 2>/dev/null; {trouble}"], check=False)
    refusal(disk.run(["autoscaler", *arguments], check=False), 74)
    assert disk.run(FILES).stdout == before
    # What only reads goes on.
    assert "app1 10.0.0.1 80 -\n" in disk.run(["autoscaler", "list-hosts"]).stdout
    assert "server app2" in disk.run(["autoscaler", "generate", "--stdout"]).stdout
    assert "+    server app2" in disk.run(["autoscaler", "generate", "--diff"]).stdout


@needs_lab
def test_a_disk_that_fills_up_on_the_way_leaves_nothing_by_halves(disk):
    outcomes = set()
    for pages in range(8):
        disk.run(["sh", "-c", "cd /etc/autoscaler; autoscaler remove-host 10.0.0.3 2>/dev/null; "
                  f"cat /dev/zero 2>/dev/null >fill; truncate -s -{4096 * pages} fill"], check=False)
        done = disk.run(["autoscaler", "add-host", "10.0.0.3", "80", "--apply"], check=False)
        outcomes.add(done.returncode)
        if done.returncode:
            refusal(done, 74)
        files = disk.run(["find", "/etc/autoscaler", "-type", "f"]).stdout
        assert not [name for name in files.split() if "/.app" in name or "/.out" in name or "/.serial." in name], files
        disk.run(["autoscaler", "list-hosts"])
        disk.run(["haproxy", "-c", "-f", "/etc/autoscaler/out.cfg"])
    assert outcomes == {0, 74}


def test_a_hosts_d_that_is_missing_is_no_empty_one(cli):
    cli.settings()
    cli("add-host", "10.0.0.1", 80, "--apply")
    installed = cli.installed.read_text()
    cli.hosts.rename(cli.dir / "elsewhere")
    for command in ("list-hosts", "generate"):
        assert str(cli.hosts) in cli.refused(74, command)
    assert cli.installed.read_text() == installed


# What others wrote

HOSTILE = {
    "two lines": ("app2", b"10.0.0.2 80 -\nbind *:1\n"),
    "a carriage return": ("app2", b"10.0.0.2 80 -\rbind *:1"),
    "a line of 0.0.3 with a second one": ("app2", b"server app2 10.0.0.2:80\n    bind *:1\n"),
    "a control character": ("app2", b"server app2 10.0.0.2:80 \x1b[31m\n"),
    "a NUL": ("app2", b"server app2 10.0.0.2:80\x00\n"),
    "another keyword": ("app2", b"bind *:1\n"),
    "an empty file": ("app2", b""),
    "no address": ("app2", b"example.com 80 -\n"),
    "no port": ("app2", b"10.0.0.2 http -\n"),
    "no instance": ("app2", b"10.0.0.2 80 $(id)\n"),
    "a word too many": ("app2", b"10.0.0.2 80 - cookie\n"),
    "a word too few": ("app2", b"server app2\n"),
    "bytes that are no text": ("app2", b"server app2 10.0.0.2:80 \xff\n"),
    "a line without an end": ("app2", b"server app2 10.0.0.2:80" + b" check" * 1000),
    "a second line far away": ("app2", b"server app2 10.0.0.2:80\n" + b"\n" * 5000 + b"bind *:1\n"),
    "a name with a space": ("app 2", b"10.0.0.2 80 -\n"),
    "a name with a line break": ("app2\nbind *:1", b"10.0.0.2 80 -\n"),
    "a name with a dollar": ("$SERVERS", b"10.0.0.2 80 -\n"),
    "a name with a dash": ("-oProxyCommand=x", b"10.0.0.2 80 -\n"),
    "a name in a line of 0.0.3": ("app2", b"server a;b 10.0.0.2:80\n"),
}


@pytest.mark.parametrize("name, content", HOSTILE.values(), ids=HOSTILE.keys())
def test_what_is_no_entry_is_named_and_passed_over(cli, name, content):
    cli.settings(check_command="true")
    cli("add-host", "10.0.0.1", 80, "--apply")
    installed, reloads = cli.installed.read_text(), cli.reload_count()
    (cli.hosts / name).write_bytes(content)
    shown = str(cli.hosts / name).replace("\n", " ")
    for arguments, out in ((["generate"], ""), (["generate", "--stdout"], installed), (["generate", "--diff"], ""),
                           (["generate", "--check"], ""), (["list-hosts"], "app1 10.0.0.1 80 -\n")):
        done = cli.call(*arguments)
        assert (done.returncode, done.stdout) == (0, out), done
        [line] = done.stderr[:-1].split("\n")
        assert line.startswith(f"autoscaler: {shown}: ") and line.isprintable(), done
    assert cli.installed.read_text() == installed and cli.reload_count() == reloads
    # Nor is its name given to another.
    cli.call("add-host", "10.0.0.2", 80)
    assert len(cli.names()) == 3 and (cli.hosts / name).read_bytes() == content


def test_pipes_and_directories_are_passed_over(cli):
    cli("add-host", "10.0.0.1", 80)
    os.mkfifo(cli.hosts / "pipe")
    (cli.hosts / "old").mkdir()
    (cli.hosts / "gone").symlink_to("/nonexistent")
    for name in ("pipe", "old", "gone"):
        done = cli.call("list-hosts")
        assert done.stdout == "app1 10.0.0.1 80 -\n" and f"/{name}: " in done.stderr, done


@pytest.mark.parametrize("content", ["10.0.0.1 80 -", "\n 10.0.0.1  80 - \n\n", "10.0.0.1 80 -\r\n"])
def test_an_editor_s_blanks_and_line_ends_do_not_matter(cli, content):
    cli.settings()
    (cli.hosts / "app1").write_bytes(content.encode())
    assert cli("list-hosts") == "app1 10.0.0.1 80 -\n"


def test_hidden_files_and_backups_are_no_entries(cli):
    cli("add-host", "10.0.0.1", 80)
    for name in (".app2.1234", ".gitkeep", "app1~"):
        (cli.hosts / name).write_text("anything\nat all\n")
    assert cli("list-hosts") == "app1 10.0.0.1 80 -\n"
