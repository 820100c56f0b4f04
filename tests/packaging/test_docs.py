"""Holds README, manual page, --help, the sample INI and packaging/ to each other and to the program."""

import json
import os
import re
import shutil
import socket
import subprocess

import pytest
from conftest import ROOT
from lab import free_ports, wait_until

README = (ROOT / "README.md").read_text()
MAN = (ROOT / "packaging/autoscaler.1").read_text()
KEYS = re.findall(r'\(\s*"(\w+)",\s*"(\w+)",\s*"(.*)",?\s*\)', (ROOT / "src/config/keys.rs").read_text())


@pytest.fixture(scope="module")
def output(binary):
    """A function: what `autoscaler ARGUMENTS…` prints."""
    return lambda *arguments: subprocess.run([binary, *arguments], check=True, capture_output=True, text=True).stdout


@pytest.fixture(scope="module")
def commands(output):
    """{command: its --help}, as --help lists them."""
    listed = re.search(r"^Commands:\n(.*?)\n\n", output("--help"), re.M | re.S)[1]
    names = re.findall(r"^  ([a-z-]+) ", listed, re.M)
    assert len(names) > 5
    return {name: output(name, "--help") for name in names}


def man_section(title):
    return re.search(rf"^\.Sh {title}\n(.*?)(?=^\.Sh |\Z)", MAN, re.M | re.S)[1]


def man_items(macro, text):
    """The first words of the list items of a manual page's part."""
    return re.findall(rf"^\.It {macro} (\S+)", text, re.M)


def test_every_command_is_in_the_readme_and_the_manual(commands):
    table = re.search(r"^\| command \| does \|\n\|---\|---\|\n(.*?)\n\n", README, re.M | re.S)[1]
    assert re.findall(r"^\| `([a-z-]+)", table, re.M) == list(commands)
    assert man_items("Cm", man_section("COMMANDS")) == list(commands)


def test_every_option_is_in_the_manual(commands, output):
    everywhere = set(re.findall(r"--[a-z-]+", output("--help").partition("Options:")[2]))
    assert everywhere == {f"-{each}" for each in re.findall(r"^\.It Fl \w , (-[a-z]+)", MAN, re.M)}
    for command, text in commands.items():
        own = set(re.findall(r"^ {6}(--[a-z-]+)", text, re.M))
        part = re.search(rf"^\.It Cm {command}\b.*?(?=^\.It Cm |\Z)", man_section("COMMANDS"), re.M | re.S)[0]
        assert own == {f"-{each}" for each in man_items("Fl", part)}, command


def test_options_in_the_readme_exist(commands, output):
    known = set(re.findall(r"--[a-z-]+", output("--help") + "".join(commands.values())))
    table = re.search(r"^\| command \|.*?\n\n", README, re.M | re.S)[0]
    assert set(re.findall(r"--[a-z-]+", table)) - {"---"} <= known


def test_commands_that_are_not_there_yet_are_named(commands):
    """What the README says is missing is missing."""
    missing = re.search(r"^## What it does not do\n(.*?)^## ", README, re.M | re.S)[1]
    for later in ("scale-down", "prune", "check", "simulate"):
        assert (f"`{later}`" in missing) == (later not in commands), later
    for option in ("--json", "--prometheus"):
        assert (option in missing) == (option not in commands["status"]), option


def test_every_field_of_status_is_in_the_manual():
    """The table of the lines of STATUS and REPORT, which --json follows, and the one of the metrics."""
    source = (ROOT / "src/core/protocol/facts.rs").read_text()
    shapes = re.findall(r'^    shape_of\("(\w+)", "(\w*)", \w+,\s*&\[(.*?)\]\)', source, re.M)
    assert len(shapes) >= 12
    table = [(verb, key or "-", re.sub(r'[#…",]', "", fields)) for verb, key, fields in shapes]
    assert re.findall(r"^\.It Ic (\w+) No in Ic (\S+) : Ar (.*)$", man_section("STATUS IN JSON"), re.M) == table
    metrics = re.findall(r'^    (?:gauge|counter)\("(\w+)", "(.*?)", ', (ROOT / "src/core/report/metrics.rs").read_text(), re.M)
    assert len(metrics) >= 21
    assert re.findall(r"^\.It Ic (\w+).*\n(.*)$", man_section("METRICS"), re.M) == metrics


def test_exit_codes(output):
    said = output("--help").partition("Exit codes:")[2]
    codes = re.findall(r"\b\d+\b", said)
    in_source = re.findall(r"^    \w+ = (\d+),", (ROOT / "src/error.rs").read_text(), re.M)
    assert codes == ["0", *in_source]
    assert re.findall(r"^\.It (\d+)$", man_section("EXIT STATUS"), re.M) == codes
    assert re.findall(r"\b\d+\b", re.search(r"^Exit codes: .*?\. ", README, re.M | re.S)[0]) == codes


def test_every_key_is_in_the_manual_with_its_default():
    found = []
    for name, part in re.findall(r"^\.Ss \[(\w+)\]\n(.*?)(?=^\.Ss |\Z)", man_section("CONFIGURATION"), re.M | re.S):
        found += [(name, key, default) for key, default in re.findall(r"^\.It Ic (\w+) No = ?(.*)$", part, re.M)]
    assert found == KEYS


def test_every_key_is_in_the_sample_with_its_default(tmp_path, binary):
    subprocess.run([binary, "-c", tmp_path / "autoscaler.ini", "init"], check=True)
    found, section = [], None
    for line in (tmp_path / "autoscaler.ini").read_text().splitlines():
        if line.startswith("["):
            section = line.strip("[]")
        elif match := re.match(r"(#?)(\w+) =\s?(.*)$", line):
            found.append((section, match[2], match[3], bool(match[1])))
    assert [(section, key) for section, key, *_ in found] == [(section, key) for section, key, _ in KEYS]
    # What the sample sets, and the one example, differ from the defaults on purpose.
    differ = {key for (_, key, shown, _), (*_, default) in zip(found, KEYS) if shown != default}
    assert differ == {"scale_up_command", "name", "secret", "config"}
    assert {key for _, key, _, commented in found if not commented} == {"name", "secret", "config"}


def test_keys_that_have_no_effect_are_said_to_have_none():
    """The manual's `Not used by this release`, and the keys that config/mod.rs reads and hands to nobody."""
    source = (ROOT / "src/config/mod.rs").read_text().partition("#[cfg(test)]")[0]
    fields = re.search(r"let config = Config \{.*?^        \};", source, re.M | re.S)[0]
    fields += (ROOT / "src/config/notify.rs").read_text()
    unused = {key for section, key, _ in KEYS if not re.search(rf'"{section}",\s*"{key}"', fields)}
    said = set()
    for block in re.findall(r"((?:^\.It Ic .*\n)+)((?:^(?!\.It|\.El).*\n)*)", MAN, re.M):
        if "Not used by this release" in block[1]:
            said |= set(man_items("Ic", block[0]))
    assert said == unused


def test_make_targets_exist():
    makefile = (ROOT / "Makefile").read_text()
    guide = (ROOT / "CONTRIBUTING.md").read_text()
    for target in {"quick", "check", *re.findall(r"`[^`\n]*\bmake ([a-z]+)", README + guide)}:
        assert re.search(rf"^{target}:", makefile, re.M), target
    for path in re.findall(r"`((?:src|tests|packaging)/[\w./-]+)`", guide):
        assert (ROOT / path).exists(), path


def test_links_and_files_exist():
    for link in re.findall(r"\]\((?!https?:|#)([^)]+)\)", README):
        assert (ROOT / link.partition("#")[0]).exists(), link
        assert re.match("docs/|packaging/|LICENSE|CHANGELOG", link), f"{link}: is not installed with the README"
    for path in re.findall(r"\bpackaging/[\w./-]+\w", README):
        assert (ROOT / path).exists(), path


def test_what_the_demo_says_to_read_next_is_there():
    [heading] = re.findall(r'README\.md, \\"([^"\\]+)', (ROOT / "tests/site/demo.py").read_text())
    assert f"\n## {heading}\n" in README


def test_each_claim_about_security_has_its_test():
    claims = re.findall(r"\[((?:test_\w+(?:, )?)+)\]", (ROOT / "docs/security.md").read_text())
    assert len(claims) > 10
    for name in re.findall(r"\w+", " ".join(claims)):
        assert list((ROOT / "tests").glob(f"*/{name}.py")), name


def test_scripts():
    """Executable, and a shell can read them."""
    scripts = [path for path in (ROOT / "packaging").rglob("*") if path.is_file()
               and re.match(r"#!/(bin/sh|sbin/openrc-run)\n", path.read_text())]
    assert len(scripts) > 20
    for script in scripts:
        assert os.access(script, os.X_OK), script
        subprocess.run(["sh", "-n", script], check=True)



@pytest.mark.parametrize("service", ["master", "daemon"])
def test_runit_stays_down_after_permanent_errors(tmp_path, service):
    (tmp_path / "sv").write_text(f'#!/bin/sh\necho "$@" >>{tmp_path}/calls\n')
    (tmp_path / "sv").chmod(0o755)
    finish = ROOT / "packaging/runit" / service / "finish"
    for code in (0, 1, 64, 69, 74, 75, 77, 78, -1):
        (tmp_path / "calls").write_text("")
        subprocess.run([finish, str(code), "0"], check=True, env={"PATH": f"{tmp_path}:/usr/bin:/bin"},
                       capture_output=True)
        assert (tmp_path / "calls").read_text() == ("d .\n" if code in (64, 77, 78) else ""), code
    unit = (ROOT / f"packaging/systemd/autoscaler-{service}.service").read_text()
    assert "\nRestartPreventExitStatus=64 77 78\n" in unit
    assert f"\nExecStart=/usr/local/bin/autoscaler {service}\n" in unit


def test_manual_is_well_formed():
    if not shutil.which("mandoc"):
        pytest.skip("mandoc is not installed")
    done = subprocess.run(["mandoc", "-T", "lint", "-W", "warning", ROOT / "packaging/autoscaler.1"],
                          capture_output=True, text=True)
    assert done.stdout == ""


def test_the_manual_is_well_quoted():
    """‘Ql a , Ql b’ nests its quotes: each is on a line of its own."""
    if not shutil.which("mandoc"):
        pytest.skip("mandoc is not installed")
    page = subprocess.run(["mandoc", "-T", "utf8", ROOT / "packaging/autoscaler.1"], check=True, capture_output=True,
                          text=True).stdout
    text = " ".join(re.sub(".\b", "", page).split())
    for left, right in ("‘’", "“”"):
        assert re.findall(f"{left}[^{right}]*{left}.{{20}}|.{{20}}{right}[^{left}]*{right}", text) == []
        assert text.count(left) == text.count(right)
    assert "‘HELLO 2 <node> <nonce>’" in text


def test_the_reference_is_the_manual_and_reads_well():
    """mandoc miscounts after `Ql`, and then makes code blocks of what follows: hence `Sq Li`."""
    reference = (ROOT / "docs/reference.md").read_text()
    blocks = [re.sub(r"^(> )+", "", block, flags=re.M) for block in re.split(r"\n{2,}", reference)]
    code = [block for block in blocks if block.startswith(("\t", "    "))]
    assert any("$ autoscaler generate --diff" in block for block in code)
    assert [block for block in code if "**" in block] == []
    if shutil.which("mandoc"):
        made = subprocess.run(["mandoc", "-T", "markdown", ROOT / "packaging/autoscaler.1"], check=True,
                              capture_output=True, text=True).stdout
        assert made == reference, "run make reference"


def actions(policy):
    """The actions that a policy of packaging/ allows."""
    allowed = set()
    for statement in json.loads((ROOT / "packaging" / policy).read_text())["Statement"]:
        action = statement["Action"]
        allowed |= {action} if isinstance(action, str) else set(action)
    return allowed


def test_iam_policies_allow_what_is_used():
    """The actions in the source, by the way of launching; and two that EC2 asks for beside RunInstances: CreateTags for
    the tags of a launch, and PassRole for a new machine's role. Each policy has these and no others."""
    source = "".join(path.read_text() for path in (ROOT / "src").rglob("*.rs") if "test" not in path.stem)
    shapes = (ROOT / "src/aws_cli/shapes.rs").read_text()
    used = set()
    for service, name in (("Ec2", "ec2"), ("Autoscaling", "autoscaling")):
        used |= {f"{name}:{action}" for action in re.findall(rf'Service::{service},\s*"([A-Z]\w+)"', source)}
        used |= {f"{name}:{action}" for action in re.findall(
            rf'service: Service::{service},\s*service_word: "{name}",\s*command_word: "[a-z-]+",\s*action: "(\w+)"', shapes)}
    assert used == {"ec2:RunInstances", "ec2:DescribeInstances", "ec2:TerminateInstances",
                    "autoscaling:DescribeAutoScalingGroups", "autoscaling:SetDesiredCapacity",
                    "autoscaling:TerminateInstanceInAutoScalingGroup"}
    of_ec2 = {action for action in used if action.startswith("ec2:")}
    assert actions("iam-policy.json") == of_ec2 | {"ec2:CreateTags", "iam:PassRole"}
    assert actions("iam-policy-group.json") == used - {"ec2:RunInstances"}


def test_the_silence_that_ends_a_connection_is_told():
    heartbeats = re.search(r"SILENCE: .*from_secs\((\d) \* HEARTBEAT", (ROOT / "src/system/lines.rs").read_text())[1]
    heartbeat = re.search(r"HEARTBEAT: .*from_secs\((\d+)\)", (ROOT / "src/core/node/masters.rs").read_text())[1]
    silence = int(heartbeats) * int(heartbeat)
    assert re.search(rf"at least every\s+{silence} s, ", README)
    assert f"silent for {silence} seconds" in MAN


def test_the_session_by_nc(tmp_path, binary):
    """The README's lines against a real master, on its own port of loopback."""
    part = re.search(r"^## The protocol, by hand\n(.*?)^## ", README, re.M | re.S)[1]
    ini_command = re.search(r"^```sh\n(.*?)^autoscaler -c (\S+) master\n```", part, re.M | re.S)
    subprocess.run(["sh", "-ec", ini_command[1]], cwd=tmp_path, check=True)
    port = free_ports()
    ini = tmp_path / ini_command[2]
    ini.write_text(ini.read_text() + f"listen = 127.0.0.1:{port}\n")
    log = tmp_path / "log"
    with log.open("w") as stderr, subprocess.Popen([binary, "-c", ini_command[2], "master"], cwd=tmp_path,
                                                   stderr=stderr) as master:
        try:
            wait_until(lambda: "serving on" in log.read_text(), 10, "the master serves")
            speak(re.findall(r"^([<>]) (.*)$", part, re.M), port)
        finally:
            master.kill()


def speak(session, port):
    """Says the lines with `>`, and compares the answers with those with `<`; a lease's id is the master's to make."""
    lease = [None, None]
    with socket.create_connection(("127.0.0.1", port), 10) as connection, connection.makefile("rw") as lines:
        for direction, line in session:
            if lease[0]:
                line = line.replace(*lease)
            if direction == ">":
                print(line, file=lines, flush=True)
                continue
            answer = lines.readline().rstrip("\n")
            if line.startswith("GRANT "):
                assert re.fullmatch(r"\d+-[0-9a-f]+", answer.split()[1])
                lease = [line.split()[1], answer.split()[1]]
                line = line.replace(*lease)
            if line.startswith("WELCOME "):
                line = f"WELCOME {os.uname().nodename}"
            assert answer == line
