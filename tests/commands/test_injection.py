"""What comes from outside stays one word where it goes: in haproxy.cfg, in ssh's arguments, in the protocol, on a
terminal and in a log. Each table is tried on the real binary, with a good member that shows that the way is open."""

import http.server
import json
import re
import subprocess
import threading
import urllib.parse
from concurrent.futures import ThreadPoolExecutor

import pytest
from cli import CHECK, Cli, environment, refusal, run
from lab import missing, wait_until
from peers import SECRET, Master

# Its arguments, one a line, a blank line at the end.
NOTED = '#!/bin/sh\nfor word; do printf "%s\\n" "$word" | tr "\\n" "~"; echo; done >>{0}\necho >>{0}\n'


def recorder(tmp_path, then=""):
    """(the path of a program that notes its arguments, a function that returns the calls so far)."""
    program, noted = tmp_path / "recorder", tmp_path / "noted"
    program.write_text(NOTED.format(noted) + then)
    program.chmod(0o755)

    def calls():
        if not noted.exists():
            return []
        return [[word.removesuffix("~") for word in call.splitlines()] for call in noted.read_text().split("\n\n")[:-1]]
    return program, calls


def is_plain(text):
    """Lines of ours, each printable, and none made up by anybody else."""
    return all(line.startswith("autoscaler: ") and line.isprintable() for line in text.splitlines())


# hosts.d

NAMES = ["-oProxyCommand=x", "-F", "a b", "a\nb", "$(id)", "`id`", "%h", "%r", "root@a", "a;b", "a|b", "a'b", 'a"b', "a\\b", "a#b",
         "a\x1b[2J", "ä", "a\tb", "a" * 65, "a,b", "a/../b".replace("/", "\u2215")]
TEXTS = ["-oProxyCommand=x 80 -", "-F 80 -", "$(id) 80 -", "`id` 80 -", "%h 80 -", "root@10.0.0.1 80 -", "a.example 80 -",
         "10.0.0.1 80 -\nbind *:1", "10.0.0.1 80 -\r bind *:1", "10.0.0.1 80 - bind", "10.0.0.1 -1 -", "10.0.0.1 80 i-0 x",
         "10.0.0.1 80 $(id)", "10.0.0.1 80 -x", "10.0.0.1 80 i-0\x1b[2J", "10.0.0.1\x0080 -", "10.0.0.1,10.0.0.2 80 -",
         "fe80::1%eth0 80 -", "server x -oProxyCommand=y:80", "server x $(id):80", "server x %h:80", "server -x 10.0.0.1:80",
         "server x root@-F:80", "server x 10.0.0.1:80\nbind *:1", "server x 10.0.0.1:80\x0bbind *:1", "bind *:1", "$SERVERS",
         "use-server x if TRUE", b"\xff\xfe 80 -"]


def hostile_entries():
    yield from ((name, "10.0.0.1 80 -\n") for name in NAMES)
    yield from (("bad", text) for text in TEXTS)


def test_no_entry_adds_a_line_to_the_configuration(cli):
    cli.settings(check_command="true")
    cli("add-host", "10.0.0.1", 80, "--name", "good")
    cli("generate")
    for name, text in hostile_entries():
        path = cli.hosts / name
        path.write_bytes(text if isinstance(text, bytes) else text.encode())
        for command in ("generate", "list-hosts"):
            before = cli.snapshot()
            done = cli.call(command)
            assert done.returncode == 0 and "hosts.d" in done.stderr and "passed over" in done.stderr, (name, text)
            assert cli.snapshot() == before and "good" in (done.stdout or "good"), (name, text)
        path.unlink()
    assert re.findall(r"^\s*server .*$", cli.installed.read_text(), re.M) == [f"    server good 10.0.0.1:80 {CHECK}"]


def test_no_entry_adds_an_option_to_ssh(cli, tmp_path):
    ssh, calls = recorder(tmp_path)
    cli.write(f"[master]\nlisten = 127.0.0.1:0\nstate = {tmp_path}/state\n[haproxy]\nssh_command = {ssh}\n")
    count = 0
    for name, text in hostile_entries():
        count += 1
        path = cli.hosts / (name if name != "bad" else f"bad{count}")
        path.write_bytes(text if isinstance(text, bytes) else text.encode())
    (cli.hosts / "zgood").write_text("10.0.0.9 80 -\n")
    with open(tmp_path / "log", "wb") as log, subprocess.Popen(cli.argv("master"), env=environment(), stderr=log) as master:
        try:
            # The names are looked at in their order.
            wait_until(lambda: any("10.0.0.9" in call for call in calls()), 20, "the good one is called")
            wait_until(lambda: "ä" in (tmp_path / "log").read_text(), 20, "the last name is complained of")
        finally:
            master.kill()
    for call in calls():
        assert call[-2:] == ["10.0.0.9", "cat"], call
        assert f'UserKnownHostsFile="{tmp_path}/state/known_hosts/zgood"' in call
    log = (tmp_path / "log").read_text()
    assert is_plain(log) and log.count("tunnel ") >= count


# Host names

HOST_NAMES = [(b"-oProxyCommand=x", True), (b"$(id)", True), (b"%h;`id`'\"\\", True),
              (b"a b", False), (b"a\x1b[2J", False), (b"a\tb", False), ("ä".encode(), False), (b"\xff", False), (b" ", False)]


@pytest.mark.parametrize("name, taken", HOST_NAMES, ids=lambda value: repr(value)[:20])
@pytest.mark.skipif(missing() is not None, reason=str(missing()))
def test_a_host_name_is_one_word_of_the_protocol_or_refused(cli, binary, tmp_path, name, taken):
    with Master(binary, tmp_path / "m") as master:
        cli.write(f"[master]\ntunnel_ports = {master.port}\n[cluster]\nsecret = {SECRET}\n[scaling]\nsample_interval = 50ms\n"
                  "window = 60s\nthreshold = 100\n[machine]\nscale_up_command = /bin/true\n[haproxy]\n"
                  "servers = 127.0.0.2\nssh_command = /bin/false\n")
        log = tmp_path / "daemon.log"
        script = 'cat "$0" >/proc/sys/kernel/hostname && exec "$@"'
        (tmp_path / "name").write_bytes(name)
        argv = ["unshare", "--uts", "sh", "-c", script, str(tmp_path / "name"), *cli.argv("daemon")]
        if not taken:
            # Not even text is the file's fault.
            assert "hostname" in refusal(run(argv), 74 if name == b"\xff" else 78).replace("host name", "hostname")
            return
        with log.open("wb") as stderr, subprocess.Popen(argv, env=environment(), stderr=stderr) as daemon:
            try:
                other = master.node("other")
                [node] = wait_until(lambda: [each for each in other.status()["NODE"] if each[0] != "other"], 20, "it is known")
            finally:
                daemon.kill()
        assert node[0].rpartition("/")[0] == name.decode() and len(node) == 3
        assert is_plain(master.log.read_text()) and is_plain(log.read_text())


def texts(value):
    """All texts in a JSON document."""
    if isinstance(value, (dict, list)):
        members = [*value.keys(), *value.values()] if isinstance(value, dict) else value
        return [text for member in members for text in texts(member)]
    return [value] if isinstance(value, str) else []


def test_a_nodes_name_is_one_word_wherever_it_is_shown(cli, binary, tmp_path):
    """Names as anybody may send them who knows the secret: every character that a line may hold, but blanks."""
    names = ["$(id)", "-x", 'a"b\\c', "{a}", "a,b=c", "<b>", "%s%n", "END", "".join(map(chr, range(33, 97))),
             "".join(map(chr, range(97, 127)))]
    with Master(binary, tmp_path / "m") as master:
        for name in names:
            master.node(name).send("LOAD 5")
        cli.write(f"[master]\ntunnel_ports = {master.port}\n[cluster]\nsecret = {SECRET}\n")
        shown = cli("status")
        assert all(name in shown.split() for name in names)
        assert all(line.isprintable() for line in shown.splitlines())
        # For programs: each name is one text, with whatever it holds escaped.
        assert set(names) <= set(texts(json.loads(cli("status", "--json"))))
        metrics = cli("status", "--prometheus")
        labels = re.findall(r'"((?:[^"\\]|\\.)*)"', metrics)
        assert set(names) <= {re.sub(r"\\(.)", r"\1", label) for label in labels}
        # ... and no name begins a line of its own, a label or a value.
        assert all(re.fullmatch(r'#.*|\w+(\{\w+="([^"\\]|\\.)*"(,\w+="([^"\\]|\\.)*")*\})? \S+', line)
                   for line in metrics.splitlines()), metrics
        # The text of FINISH is the only one that holds blanks; it stays in its line of the log.
        peer = master.node("other")
        lease = peer.ask("SCALE").split()[1]
        peer.send(f"FINISH {lease} failed 0 it\x7fautoscaler: all is well".replace("\x7f", " / "))
        wait_until(lambda: "gave the lease back" in master.log.read_text(), 5, "the verdict")
        assert is_plain(master.log.read_text())


# EC2

ITEM = """<item><instanceId>{id}</instanceId><instanceState><code>16</code><name>{state}</name></instanceState>
<privateIpAddress>{address}</privateIpAddress><launchTime>2020-01-01T00:00:00.000Z</launchTime>
<stateReason><code>{reason}</code><message>{reason}</message></stateReason>
<tagSet><item><key>autoscaler:cluster</key><value>default</value></item></tagSet></item>"""
GOOD = {"id": "i-0ab", "state": "running", "address": "127.0.0.1", "reason": "", "before": ""}
HOSTILE = [
    *({"address": each} for each in (
        "-oProxyCommand=x", "$(touch /tmp/x)", "127.0.0.1&#10;autoscaler", "127.0.0.1&#x20;80", "&#45;F", "%h", "root@127.0.0.1",
        "localhost", "0.0.0.0", "fe80::1%eth0")),
    *({"id": each} for each in ("-x", "i-0ab&#10;x", "i-$(id)", "i-0ab --apply")),
    {"before": '<!DOCTYPE x [<!ENTITY a "127.0.0.1">]>', "address": "&a;"},
    {"before": '<!DOCTYPE x [<!ENTITY a SYSTEM "file:///etc/passwd">]>', "address": "&a;"},
    {"state": "terminated", "reason": "gone&#10;autoscaler: all is well&#27;[2J"},
]


class Ec2(http.server.ThreadingHTTPServer):
    """An EC2 that answers with `answer`, whatever is asked; nothing is launched before RunInstances."""

    def __init__(self, answer):
        super().__init__(("127.0.0.1", 0), Ec2Handler)
        self.answer, self.launched = answer, False
        threading.Thread(target=self.serve_forever, args=(0.05,), daemon=True).start()


class Ec2Handler(http.server.BaseHTTPRequestHandler):
    def do_POST(self):
        body = self.rfile.read(int(self.headers["Content-Length"])).decode()
        [action] = urllib.parse.parse_qs(body)["Action"]
        server = self.server
        server.launched |= action == "RunInstances"
        item = ITEM.format(**server.answer) if server.launched else ""
        if action == "RunInstances":
            content = f"<instancesSet>{ITEM.format(**GOOD)}</instancesSet>"
        elif action == "DescribeInstances":
            content = f"<reservationSet><item><instancesSet>{item}</instancesSet></item></reservationSet>"
        else:
            content = ("<instancesSet><item><instanceId>i-0ab</instanceId><currentState><name>shutting-down</name>"
                       "</currentState></item></instancesSet>")
        before = server.answer["before"] if server.launched and action == "DescribeInstances" else ""
        text = f'<?xml version="1.0"?>{before}<{action}Response>{content}</{action}Response>'.encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(text)))
        self.end_headers()
        self.wfile.write(text)

    def log_message(self, *_):
        pass


def scaled_up(binary, directory, answer):
    """(how a `scale-up` by hand with such an EC2 ended, what ssh was called with, what the master logged, [machine] port)."""
    cli = Cli(binary, directory / "etc")
    # A HAProxy host that lists what it was told to enter, and has it UP.
    lists = """case "$*" in *list-hosts*) sed -n 's/.*add-host \\([^ ]*\\) \\([0-9]*\\) --id \\([^ ~]*\\).*/\\3 \\1 \\2 \\3 UP 1/p' """
    ssh, calls = recorder(directory, f"{lists} {directory}/noted | sort -u;; esac\n")
    with Ec2({**GOOD, **answer}) as ec2, Master(binary, directory / "m", lease="20s") as master:
        cli.write(f"""[aws]
endpoint_url = http://127.0.0.1:{ec2.server_port}
metadata_url = http://127.0.0.1:9
aws_access_key = AKIA0
aws_secret_key = x
aws_default_region = us-east-1
[machine]
scale_up_command = aws ec2 run-instances --image-id ami-0
port = {ec2.server_port}
boot_timeout = 1s
[master]
tunnel_ports = {master.port}
[cluster]
secret = {SECRET}
[haproxy]
servers = 127.0.0.2
ssh_command = {ssh}
""")
        done = cli.call("-v", "scale-up", timeout=100)
        ec2.shutdown()
        return done, calls(), master.log.read_text(), ec2.server_port


def test_a_good_answer_of_ec2_gets_into_a_command(binary, tmp_path):
    done, calls, logged, port = scaled_up(binary, tmp_path, {})
    assert done.returncode == 0 and done.stdout == "" and is_plain(done.stderr) and is_plain(logged), done
    [entered] = [call for call in calls if "add-host" in call[-1]]
    assert entered[-2:] == ["127.0.0.2", f"autoscaler add-host 127.0.0.1 {port} --id i-0ab --apply"]


@pytest.mark.minutes
def test_no_other_answer_of_ec2_gets_into_a_command(binary, tmp_path):
    """Side by side: each is asked for again for a minute, before it is given up."""
    with ThreadPoolExecutor(len(HOSTILE)) as pool:
        tried = []
        for number, answer in enumerate(HOSTILE):
            (tmp_path / str(number)).mkdir()
            tried.append(pool.submit(scaled_up, binary, tmp_path / str(number), answer))
    for answer, (done, calls, logged, _) in zip(HOSTILE, [each.result() for each in tried]):
        assert done.returncode in (69, 78) and done.stdout == "" and is_plain(done.stderr) and is_plain(logged), (answer, done)
        assert not any("add-host" in call[-1] or "127.0.0.1" in call[-1] for call in calls), answer


# A HAProxy host in wrong hands

@pytest.mark.parametrize("said", ["\\033]0;x\\007\\033[2J", "x\\nautoscaler: all is well", "a b\\rc 80 -", "\\302\\233J"])
def test_what_a_haproxy_host_says_stays_in_its_line(cli, tmp_path, said):
    for stream, end in (("", 0), (" >&2", 1), (" >&2", 255)):
        ssh, _ = recorder(tmp_path, f"printf 'x {said} y z\\n'{stream}\nexit {end}\n")
        cli.write(f"[machine]\nscale_up_command = /bin/true\n[haproxy]\nservers = lb1\nssh_command = {ssh}\n[master]\ntunnel_ports = 1\n")
        done = cli.call("check")
        lines = done.stdout.splitlines()
        assert lines and all(line.isprintable() and re.match("ok|FAIL|warn|info|skip", line) for line in lines), done
        assert any("lb1" in line for line in lines) and is_plain(done.stderr)


@pytest.mark.parametrize("host", ["-oProxyCommand=x", "-F", "$(id)", "a b", "a\nb", "%h", "root@a", ""])
def test_no_host_to_check_adds_an_option_to_ssh(cli, tmp_path, host):
    ssh, calls = recorder(tmp_path, "echo 'ok    x: y'\n")
    cli.write(f"[haproxy]\nssh_command = {ssh}\n")
    assert cli.call("check", "--host=lb1").returncode == 0 and len(calls()) == 1
    done = cli.call("check", f"--host={host}")
    assert done.returncode == 64 and is_plain(done.stderr) and len(calls()) == 1, (done, calls())


NOT_A_LISTING = ["$(id) 10.0.0.1 80 -", "-x 10.0.0.1 80 -", "a -F 80 -", "a 10.0.0.1 80 $(id)", "a 10.0.0.1 80 -x", "a;id 10.0.0.1 80 -"]


@pytest.mark.parametrize("line", NOT_A_LISTING)
def test_what_no_list_hosts_prints_is_taken_for_no_entry(cli, tmp_path, line):
    ssh, _ = recorder(tmp_path, f"cat <<'EOF'\n{line}\nEOF\n")
    cli.write(f"[machine]\nscale_up_command = /bin/true\n[haproxy]\nservers = lb1\nssh_command = {ssh}\n[master]\ntunnel_ports = 1\n")
    assert re.search(r"^FAIL .*lb1: answers to list-hosts: ", cli.call("check").stdout, re.M)
