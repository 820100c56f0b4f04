"""Processes inside a host, run with nsenter, with their output in a log file that can be waited on."""

import os
import re
import signal
import subprocess
import time

from .support import children_of, pause, wait_until


def nsenter(init, argv, cwd=None):
    """The argv that runs `argv` in the namespaces of process `init`, in directory `cwd` (default /)."""
    if cwd is not None:
        argv = ["/bin/sh", "-c", 'cd "$0" && exec "$@"', str(cwd), *argv]
    return ["nsenter", "--target", str(init), "--net", "--mount", "--uts", "--pid", "--", *map(str, argv)]


def run(argv, *, env, timeout, check, input):
    """Runs an nsenter argv to its end; returns subprocess.CompletedProcess with text.

    When `timeout` passes, it and all it started is killed, and TimeoutExpired raised with what it had
    said. `check`: a non-zero exit is an AssertionError that shows both outputs.
    """
    # Its own process group, so that a time-out reaches the command behind nsenter as well.
    process = subprocess.Popen(argv, env=env, stdin=subprocess.DEVNULL if input is None else subprocess.PIPE,
                               stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True)
    try:
        out, err = process.communicate(input, timeout=timeout)
    except BaseException as error:
        os.killpg(process.pid, signal.SIGKILL)
        out, err = process.communicate()
        if isinstance(error, subprocess.TimeoutExpired):
            raise subprocess.TimeoutExpired(argv, timeout, out, err) from None
        raise
    if check and process.returncode:
        raise AssertionError(f"{_command(argv)}: exit {process.returncode}\nstdout:\n{out}\nstderr:\n{err}")
    return subprocess.CompletedProcess(argv, process.returncode, out, err)


def _command(argv):
    return " ".join(argv[argv.index("--") + 1:]) if "--" in argv else " ".join(argv)


# What tells machines of one name apart: the instance id, or digits of the machine's id.
_MACHINE = re.compile(r"(?<=[\w-])/(?:i-[0-9a-f]+|[0-9a-f]{12})(?=:| has| by| for|$)", re.MULTILINE)


class Process:
    """A running command in a host. `log` is the outside path of its stdout and stderr, together.

    `name` is only for messages. Made by Host.popen.
    """

    def __init__(self, argv, log, env, name):
        self.argv, self.log, self.name = argv, log, name
        self._start = log.stat().st_size if log.exists() else 0
        with open(log, "ab") as file:
            self._popen = subprocess.Popen(argv, env=env, stdin=subprocess.DEVNULL, stdout=file, stderr=file,
                                           start_new_session=True)
        # nsenter forks to enter the PID namespace; the command is that child.
        children = wait_until(lambda: children_of(self._popen.pid) or self._popen.poll() is not None,
                              5, f"{name} forked by nsenter", every=0.001)
        self.pid = children[0] if isinstance(children, list) else None

    @property
    def alive(self):
        """Whether the command still runs."""
        return self._popen.poll() is None

    @property
    def returncode(self):
        """Exit status (negative: died by that signal), or None while it runs."""
        return self._popen.poll()

    @property
    def inner_pid(self):
        """Its process id as seen inside the host (`pid` is the one seen outside)."""
        with open(f"/proc/{self.pid}/status") as status:
            return int(re.search(r"^NSpid:.*\s(\d+)$", status.read(), re.M)[1])

    def text(self, after=0):
        """What it has written so far, from offset `after` (see mark). Nodes go by their host's name alone, which is
        another one for each in the lab."""
        with open(self.log, "rb") as file:
            file.seek(self._start + after)
            return _MACHINE.sub("", file.read().decode(errors="replace"))

    def mark(self):
        """The present end of the log, to wait for what comes after it: wait_line(..., after=mark)."""
        return self.log.stat().st_size - self._start

    def wait_line(self, regex, timeout=10.0, after=0):
        """Waits until a line of the log matches `regex` (re.search); returns the match.

        Fails with the whole log when `timeout` passes or the process ends without such a line.
        """
        pattern = re.compile(regex)
        began = time.monotonic()
        while True:
            ended = not self.alive  # asked before reading, so that its last words are read as well
            text = self.text(after)
            complete = text if ended else text[:text.rfind("\n") + 1]
            for line in complete.splitlines():
                if match := pattern.search(line):
                    return match
            waited = time.monotonic() - began
            if ended or waited >= timeout:
                why = f"it ended with {self.returncode}" if ended else f"not within {timeout} s"
                raise AssertionError(f"{self.name}: no line matches {regex!r} ({why}); its log:\n{self.text()}")
            time.sleep(pause(waited))

    def kill(self, sig=signal.SIGKILL):
        """Sends `sig` to the command alone, as kill(1) would; its children are its own affair."""
        if self.alive and self.pid is not None:
            try:
                os.kill(self.pid, sig)
            except ProcessLookupError:
                pass
            if sig in (signal.SIGCONT, signal.SIGKILL):
                self._popen.send_signal(signal.SIGCONT)  # nsenter stops when its child is stopped

    def wait(self, timeout=10.0):
        """Waits for its end; returns the exit status (negative: a signal)."""
        try:
            return self._popen.wait(timeout)
        except subprocess.TimeoutExpired:
            raise AssertionError(f"{self.name}: still running after {timeout} s; its log:\n{self.text()}") from None

    def reap(self):
        """Takes note of its end after the whole host was powered off."""
        self._popen.send_signal(signal.SIGCONT)
        self._popen.wait(10)

    def stop(self, timeout=10.0):
        """SIGTERM and wait; returns the exit status."""
        self.kill(signal.SIGTERM)
        return self.wait(timeout)
