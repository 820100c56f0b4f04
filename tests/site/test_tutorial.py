"""The tutorial, block by block, as a user who is not root types it; and what the other documents refer to."""

import re

import pytest
from conftest import ROOT
from lab import Network, missing, wait_until
from readme import USERS_PATH

DOCS = ROOT / "docs"
needs = missing("sshd", "haproxy", "curl", "setpriv")
# The lab's own programs, which stand for /usr/local/bin, and what Debian gives an ordinary user.
PATH = f"/etc/lab/bin:{USERS_PATH}"


def blocks(text):
    """The shell blocks, in order."""
    return re.findall(r"^```sh\n(.*?)^```", text, re.M | re.S)


@pytest.mark.skipif(needs is not None, reason=str(needs))
def test_the_tutorial_to_the_letter(tmp_path, binary):
    steps = blocks((DOCS / "tutorial.md").read_text())
    *work, end, key_back = steps
    assert "list-hosts" in work[-2] and "status" in work[-1] and end.startswith("kill") and "authorized_keys" in key_back
    with Network(tmp_path) as net:
        host = net.host("box")
        host.install(binary, "autoscaler")
        host.add_user("reader")
        home = "/var/lib/reader"
        host.start_sshd(path=PATH, own_keys=True)
        script = "set -e\n" + "".join(f"{block}echo '=== {number}'\n" for number, block in enumerate(work))
        host.path(f"{home}/script").write_text(script)
        reader = ["setpriv", "--reuid", "60100", "--regid", "60100", "--clear-groups"]
        shell = host.popen([*reader, "/bin/bash", f"{home}/script"], log="shell.log", cwd=home,
                           env={"HOME": home, "USER": "reader", "PATH": PATH})
        shell.wait_line(f"^=== {len(work) - 1}", timeout=120)
        parts = re.split(r"^=== \d+\n", shell.text(), flags=re.M)
        assert parts[3].strip() == "127.0.0.1 8001"
        assert parts[5].splitlines()[-1] == "hello from 8001"
        assert "127.0.0.1 8002" in parts[8] and {"hello from 8001", "hello from 8002"} <= set(parts[8].splitlines())
        assert "box" in parts[9]
        wait_until(lambda: host.path(f"{home}/try/daemon.log").read_text().count("launched"), 5)
        # The way out leaves nothing running but sshd, with the jobs' ids in the place of `jobs -p`.
        jobs = [str(pid) for pid, argv in _inside(host) if argv[-1] in ("master", "daemon")]
        host.run([*reader, "/bin/bash", "-c", end.replace("$(jobs -p)", " ".join(jobs))], env={"HOME": home})
        wait_until(lambda: not [argv for argv in host.commands().values()
                                if any(word in " ".join(argv) for word in ("http.server", "haproxy", "autoscaler"))], 10)
        # And of its keys only those that the user had before.
        keys = host.path(f"{home}/.ssh/authorized_keys")
        [line] = keys.read_text().splitlines()
        keys.write_text(f"ssh-ed25519 AAAA another\n{line}\n")
        host.run([*reader, "/bin/bash", "-ec", key_back], env={"HOME": home})
        assert keys.read_text() == "ssh-ed25519 AAAA another\n"


def _inside(host):
    """(process id as seen inside, argv) of what runs in the host."""
    for pid, argv in host.commands().items():
        with open(f"/proc/{pid}/status") as status:
            yield int(re.search(r"^NSpid:.*\s(\d+)$", status.read(), re.M)[1]), argv


@pytest.mark.parametrize("page", sorted(path.name for path in DOCS.glob("*.md")))
def test_links_lead_somewhere(page):
    for target in re.findall(r"\]\(([^)#]+)", (DOCS / page).read_text()):
        if not target.startswith("http"):
            assert (DOCS / target).exists(), target
    # And the index knows the page.
    assert page == "README.md" or f"({page})" in (DOCS / "README.md").read_text()


def test_keys_in_the_documents_exist():
    known = set(re.findall(r'\("(?:\w+)", "(\w+)", ".*"\)', (ROOT / "src/config/keys.rs").read_text()))
    for page in DOCS.glob("*.md"):
        if page.name != "reference.md":
            for block in re.findall(r"^```ini\n(.*?)^```", page.read_text(), re.M | re.S):
                assert set(re.findall(r"^#?(\w+) =", block, re.M)) <= known, page.name


def test_the_reference_is_the_manual_page(binary):
    from cli import run
    made = run(["mandoc", "-T", "markdown", ROOT / "packaging/autoscaler.1"]).stdout
    assert (DOCS / "reference.md").read_text() == made, "run: make reference"
