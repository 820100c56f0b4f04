"""The program as a user at a shell has it: a directory of its own with an INI, and one call after the other."""

import os
import subprocess

# Valid for HAProxy as it stands, with and without servers.
TEMPLATE = """\
defaults
    mode http
    timeout connect 1s
    timeout client 1s
    timeout server 1s
frontend web
    bind 127.0.0.1:8080
    default_backend servers
backend servers
    $SERVERS
# the end
"""

# What the default server_line ends with.
CHECK = "check fastinter 200ms downinter 200ms"

PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"


class Cli:
    """`cli("add-host", "10.0.0.1", 80)` runs the binary with `-c <dir>/autoscaler.ini`.

    `dir` is the INI's directory; `installed` the path that `settings(...)` names as [haproxy] config.
    """

    def __init__(self, binary, directory):
        self.binary, self.dir = binary, directory
        self.ini, self.template = directory / "autoscaler.ini", directory / "haproxy.cfg"
        self.hosts, self.installed = directory / "hosts.d", directory / "installed.cfg"
        self.reloads = directory / "reloads"
        self.hosts.mkdir(parents=True)
        self.write("")
        self.template.write_text(TEMPLATE)

    def write(self, ini, mode=0o600):
        """Writes the INI."""
        self.ini.write_text(ini)
        self.ini.chmod(mode)

    def settings(self, **haproxy):
        """An INI that installs to `installed`; a reload leaves a line in `reloads`."""
        haproxy = {"config": self.installed, "reload_command": f"echo reloaded >>{self.reloads}", **haproxy}
        self.write("[haproxy]\n" + "".join(f"{key} = {value}\n" for key, value in haproxy.items()))

    def reload_count(self):
        """How often HAProxy has been told to reload."""
        return len(self.reloads.read_text().splitlines()) if self.reloads.exists() else 0

    def argv(self, *arguments):
        """The command line."""
        return [str(self.binary), "-c", str(self.ini), *map(str, arguments)]

    def start(self, *arguments, **options):
        """Starts it; returns the Popen, with both outputs piped."""
        return subprocess.Popen(self.argv(*arguments), env=environment(), stdin=subprocess.DEVNULL,
                                stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, **options)

    def call(self, *arguments, **options):
        """Runs it to its end, whatever that is; returns the CompletedProcess."""
        return run(self.argv(*arguments), **options)

    def __call__(self, *arguments):
        """Runs it, which must succeed without a word on stderr; returns stdout."""
        done = self.call(*arguments)
        assert (done.returncode, done.stderr) == (0, ""), done
        return done.stdout

    def remove(self, wanted):
        """remove-host, here without a HAProxy in which it could drain the server: that is said, and no failure."""
        done = self.call("remove-host", wanted)
        assert (done.returncode, done.stdout) == (0, "") and len(done.stderr.splitlines()) <= 1, done
        assert not done.stderr or "without draining" in done.stderr, done

    def refused(self, code, *arguments):
        """Runs it, which must fail with `code`, one line on stderr, nothing on stdout, and nothing changed.

        Returns the line without `autoscaler: `.
        """
        before = self.snapshot()
        complaint = refusal(self.call(*arguments), code)
        assert self.snapshot() == before
        return complaint

    def snapshot(self):
        """Everything under `dir` but the lock, which may come into being at any time."""
        return {str(path.relative_to(self.dir)): _look(path) for path in sorted(self.dir.rglob("*"))
                if path.name != ".lock"}

    def names(self):
        """The files in hosts.d, hidden ones too."""
        return sorted(path.name for path in self.hosts.iterdir())


def environment(**extra):
    """Nothing of the caller's own but what is named."""
    return {"PATH": PATH, "HOME": "/nonexistent", "LANG": "C.UTF-8", **extra}


def run(argv, *, env=None, timeout=60, **options):
    """Runs `argv` in a clean environment to its end."""
    options = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "stdin": subprocess.DEVNULL, **options}
    done = subprocess.run(argv, env=environment(**(env or {})), timeout=timeout, **options)
    # Not as "text", which would turn every line end into a line feed.
    done.stdout, done.stderr = (stream if stream is None else stream.decode() for stream in (done.stdout, done.stderr))
    return done


def refusal(done, code):
    """The one line of an error with exit `code`, without `autoscaler: `."""
    assert done.returncode == code, done
    assert not done.stdout, done
    assert done.stderr.startswith("autoscaler: ") and done.stderr.endswith("\n"), done
    [line] = done.stderr[:-1].split("\n")
    assert line.isprintable(), done
    return line.removeprefix("autoscaler: ")


def _look(path):
    status = path.lstat()
    if path.is_symlink():
        content = os.readlink(path)
    else:
        content = path.read_bytes() if path.is_file() else None
    # A directory's own time changes with every temporary file.
    return status.st_mode, status.st_uid, status.st_gid, content, status.st_mtime_ns if content is not None else 0
