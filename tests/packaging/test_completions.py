"""The completions of packaging/, in the real shells: what they offer is what --help lists."""

import os
import pty
import re
import select
import shutil
import subprocess
import time

import pytest
from cli import PATH, run
from conftest import ROOT

COMPLETIONS = ROOT / "packaging/completions"
SHELLS = ("bash", "zsh", "fish")

# Each makes a key (M-*) put all completions into the line. bash has one; for zsh it is its manual's.
BASH = f"bind 'set enable-bracketed-paste off'; source {COMPLETIONS}/autoscaler.bash"
ZSH = f"""fpath=({COMPLETIONS} $fpath); autoload -Uz compinit; compinit -D -u
unset zle_bracketed_paste; bindkey -e; setopt no_prompt_sp
zle -C all-matches complete-word _generic; bindkey '\\e*' all-matches
zstyle ':completion:all-matches::::' completer _all_matches _complete
zstyle ':completion:all-matches:*' insert true"""


class Interactive:
    """A shell on a terminal of its own, at its prompt."""

    def __init__(self, argv, setup, environment):
        self.pid, self.terminal = pty.fork()
        if self.pid == 0:
            os.execvpe(argv[0], argv, environment)
        self.text = ""
        self.send(setup.replace("\n", "; ") + "; stty cols 4000; echo RE''ADY\n")
        self.wait("^READY")

    def send(self, keys):
        os.write(self.terminal, keys.encode())

    def wait(self, pattern):
        """Reads until a line matches; returns the match, and forgets what was read."""
        end = time.monotonic() + 30
        while not (match := re.search(rf"{pattern}\r$", self.text, re.M)):
            ready, *_ = select.select([self.terminal], [], [], max(0, end - time.monotonic()))
            assert ready, f"no {pattern!r} in {self.text!r}"
            self.text += os.read(self.terminal, 65536).decode(errors="replace")
        self.text = ""
        return match

    def complete(self, line):
        """The words that this line's last one may become."""
        # C-a, C-e: to the begin and the end of the line; C-u: away with what is on it.
        self.send(f"{line}\x1b*\x01echo '<<' \x05 '>>'\n")
        before, said = line.rpartition(" ")[0], self.wait("^<< (.*) >>")[1].replace("\\", "")
        assert said.startswith(before), said
        return said[len(before):].split()

    def close(self):
        os.close(self.terminal)
        os.waitpid(self.pid, 0)


@pytest.fixture(params=SHELLS)
def complete(request, binary, tmp_path):
    """A function: line → what the shell offers for its last word."""
    shell = request.param
    if not shutil.which(shell):
        pytest.skip(f"{shell} is not installed")
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin/autoscaler").symlink_to(binary.resolve())
    environment = {"PATH": f"{tmp_path}/bin:{PATH}", "HOME": str(tmp_path), "TERM": "dumb", "LANG": "C.UTF-8",
                   "PS1": "$ "}
    if shell == "fish":
        def offer(line):
            command = f"source {COMPLETIONS}/autoscaler.fish; complete -C {line!r}"
            done = subprocess.run(["fish", "--no-config", "-c", command], env=environment, check=True,
                                  capture_output=True, text=True, timeout=60)
            assert not done.stderr, done
            return [word.partition("\t")[0] for word in done.stdout.splitlines()]
        yield offer
        return
    started = (Interactive(["bash", "--norc", "--noprofile", "-i"], BASH, environment) if shell == "bash"
               else Interactive(["zsh", "-f", "-i"], ZSH, environment))
    yield started.complete
    started.close()


@pytest.fixture(scope="module")
def commands(binary):
    """{command: its options}, by --help; `None` is no command."""
    def options(text):
        return set(re.findall(r"^ {2,6}(?:-\w, )?(--[a-z-]+)", text, re.M))
    overview = run([binary, "--help"]).stdout
    listed = re.search(r"^Commands:\n(.*?)\n\n", overview, re.M | re.S)[1]
    names = re.findall(r"^  ([a-z-]+) ", listed, re.M)
    return {None: options(overview), **{name: options(run([binary, name, "--help"]).stdout) for name in names}}


def test_commands_and_options_are_those_of_help(complete, commands):
    names = set(commands) - {None}
    assert len(names) > 10 and {"--config", "--verbose"} < commands[None]
    assert set(complete("autoscaler ")) == names
    assert set(complete("autoscaler -q s")) == {name for name in names if name.startswith("s")}
    for name, options in commands.items():
        assert set(complete(f"autoscaler {name or ''} --")) == options, name


def test_values(complete, tmp_path, cli):
    cli("add-host", "10.0.0.1", 80, "--name", "web1")
    cli("add-host", "10.0.0.2", 80, "--name", "web2")
    assert set(complete(f"autoscaler -c {cli.ini} remove-host ")) == {"web1", "web2"}
    assert complete(f"autoscaler --config {cli.ini} remove-host --apply web2") == ["web2"]
    # A file after -c, which is not the command.
    assert complete(f"autoscaler -c {tmp_path}/etc/auto") == [str(cli.ini)]
    assert complete(f"autoscaler -c {cli.ini} gen") == ["generate"]
    # A name is for the user to make up.
    assert complete("autoscaler add-host --name gen") in ([], ["gen"])
