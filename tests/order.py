"""Finds the functions that a daemon runs until it is at rest, and writes them to resident.order. Run by `make order`.

What they are is seen under qemu, which logs all code that it translates; whose it is, the linker's map tells."""

import bisect
import contextlib
import re
import signal
import subprocess
import sys
import tempfile
from pathlib import Path

from bench import Bench
from bench_tools import Daemon
from screen import Screen

ROOT = Path(__file__).resolve().parents[1]
ORDER, TARGET, EMULATOR = ROOT / "resident.order", "x86_64-unknown-linux-musl", "qemu-x86_64"
HEAD = """\
# The functions that a daemon runs until it is at rest, which build.rs puts side by side; written by `make order`. An
# asterisk stands for what each compiler names in its own way. One that is missing costs some memory and nothing else.
"""
# As long as it takes to look for new masters no more often than it ever does.
SECONDS = 60


def build(scratch):
    """The program, and the linker's map of it."""
    layout = scratch / "map"
    subprocess.run(["cargo", "rustc", "--release", "--locked", "--target", TARGET, "--target-dir", ROOT / "target/order",
                    "--bin", "autoscaler", "--", "-C", f"link-arg=-Wl,-Map={layout}"], cwd=ROOT, check=True)
    return ROOT / "target/order" / TARGET / "release/autoscaler", layout.read_text()


def sections(layout):
    """Where each function's section begins, its length and its name; of functions that are in the program."""
    found = re.findall(r"^ \.text\.(\S+)\s+0x([0-9a-f]{16})\s+0x([0-9a-f]+) ", layout, re.M)
    return sorted((int(start, 16), int(length, 16), name) for name, start, length in found if int(start, 16))


def executed(binary, scratch, screen):
    """The addresses of all code that runs in daemons with and without a master, as the file has them."""
    bench = Bench(binary, scratch, screen)
    commands, logs = bench.at_rest(), [scratch / name for name in ("with", "without")]
    with contextlib.ExitStack() as stack:
        stack.callback(bench.recorder.close)
        stack.enter_context(bench.master(commands[0]))
        daemons = [stack.enter_context(Daemon([EMULATOR, "-d", "in_asm", "-D", f"{log}.code", *command, "daemon"], log))
                   for command, log in zip(commands, logs)]
        daemons[0].wait_line("connected", 60)
        screen.pause(SECONDS, "daemons at rest")
        # The program lies in the emulated processor's memory as in the emulator's.
        bases = [int(re.search(rf"^([0-9a-f]+)-.* {re.escape(str(binary))}$",
                               Path(f"/proc/{daemon.pid}/maps").read_text(), re.M)[1], 16) for daemon in daemons]
    for log, base in zip(logs, bases):
        for address in re.findall(r"^0x([0-9a-f]+):", Path(f"{log}.code").read_text(), re.M):
            yield int(address, 16) - base


def main():
    """Finds and writes them."""
    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.default_int_handler)
    with tempfile.TemporaryDirectory() as scratch:
        binary, layout = build(Path(scratch))
        functions = sections(layout)
        starts, names = [start for start, _, _ in functions], set()
        for address in executed(binary, Path(scratch), Screen()):
            at = bisect.bisect(starts, address) - 1
            start, length, name = functions[at] if at >= 0 else (0, 0, "")
            if start <= address < start + length:
                # Hashes of crates and of symbols, and the numbers of local names.
                name = re.sub(r"(Cs)[0-9A-Za-z]+(_)|(17h)[0-9a-f]{16}(E)", r"\1\3*\2\4", name)
                names.add(re.sub(r"(\.llvm)?\.\d+$", "", name))
    if "main" not in names:
        sys.exit(f"order: found no main among {len(names)} functions: has the linker's map another form, or qemu's log?")
    ORDER.write_text(HEAD + "".join(f"{name}\n" for name in sorted(names)))
    print(f"{len(names)} functions in {ORDER.name}")


main()
