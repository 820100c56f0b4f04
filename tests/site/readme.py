"""The set-up as the README and docs/without-root.md have it, for tests that follow their words."""

import re

from conftest import ROOT

README = (ROOT / "README.md").read_text()
WITHOUT_ROOT = (ROOT / "docs/without-root.md").read_text()

# An ordinary user's PATH on Debian, in a shell and by sshd.
USERS_PATH = "/usr/local/bin:/usr/bin:/bin:/usr/games"


def step(number):
    """The text of one of the README's ten steps."""
    return re.search(rf"^\*\*{number}\. .*?(?=^\*\*\d+\. |^### )", README, re.M | re.S)[0]


def part(heading):
    """The text under a heading of docs/without-root.md."""
    return re.search(rf"^## {heading}\n(.*?)(?=^## |\Z)", WITHOUT_ROOT, re.M | re.S)[1]


def block(text, language=""):
    """The first fenced block of `language`."""
    return re.search(rf"^```{language}\n(.*?)^```", text, re.M | re.S)[1]


def commands(text):
    """The lines of the shell blocks, without their comments."""
    lines = "".join(re.findall(r"^```sh\n(.*?)^```", text, re.M | re.S)).splitlines()
    return [line.partition("#")[0].strip() for line in lines]


def on_every_host_after(number):
    """The commands of docs/without-root.md on every host that it gives after this one of the ten steps."""
    parts = re.findall(r"\bafter steps? ([^:]*):\n\n```sh\n(.*?)^```", part("On every host"), re.M | re.S | re.I)
    assert len(parts) == len(re.findall("^```sh$", part("On every host"), re.M))
    # Where several steps are named, after the last one.
    return [line for steps, lines in parts if max(re.findall(r"\d+", steps)) == str(number) for line in lines.splitlines()]


def authorized_keys(public_keys, sudo=False):
    """[the line for the HAProxy hosts, the line for the app servers] with these [app, HAProxy] keys in them."""
    lines = re.findall(r"^restrict,.*$", step(4), re.M)
    assert len(lines) == 2
    if sudo:
        [lines[0]] = re.findall(r"^restrict,.*$", part("With sudo"), re.M)
    return [re.sub(r"ssh-ed25519 <.*>$", key.strip(), line) for line, key in zip(lines, public_keys)]


def sshd_settings():
    """sshd_config's lines in the image of the app servers, of steps 4 and 7."""
    lines = re.findall(r"`((?:Allow|Client)[A-Za-z]+ \w+)`", step(4) + step(7))
    assert len(lines) == 2
    return "\n".join(lines)
