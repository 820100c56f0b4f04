"""Making namespaces with util-linux: an init that holds them, and `ip` and `bridge` run inside.

An init is `cat` on a pipe that only this Python process holds. When Python ends, however it ends, it reads
end-of-file, and the kernel ends all that lived under it.
"""

import ctypes
import os
import shutil
import socket
import subprocess
import sys
import threading
from pathlib import Path

from .support import CLONE_NEWNET, CLONE_NEWNS, Unavailable, children_of, libc

# In the place of /etc/resolv.conf, in a network of its own.
RESOLVER = Path(__file__).with_name("resolv.conf")
SBIN = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"

# Arguments: SOURCE TARGET ro|rw (each to be bound) … -- NAME. SIGCHLD is ignored for good, so that the kernel
# reaps orphans: `cat` would leave zombies.
_INIT = """set -e
while [ "$1" != -- ]; do
    mount --rbind "$1" "$2"
    if [ "$3" = ro ]; then mount -o remount,bind,ro "$2"; fi
    shift 3
done
echo "$2" >/proc/sys/kernel/hostname
echo ready
exec env --ignore-signal=CHLD cat >/dev/null
"""


def missing(*programs):
    """What keeps the lab (and `programs`, such as "haproxy") from running here, as a text; None if nothing."""
    if sys.platform != "linux" or os.geteuid() != 0:
        return "the lab needs Linux and root"
    for program in ("unshare", "nsenter", "ip", "bridge", *programs):
        if not shutil.which(program, path=f"{os.environ.get('PATH', '')}:{SBIN}"):
            return f"{program} is not installed"
    probe = subprocess.run(["unshare", "--net", "--mount", "--uts", "--pid", "--fork", "--mount-proc", "true"],
                           capture_output=True, text=True)
    return None if probe.returncode == 0 else f"no namespaces here: {probe.stderr.strip()}"


def own_loopback():
    """Gives this process a network with nothing but a loopback, where no port is another's, and no name known.

    Needs root. It holds for the calling thread and for what it starts from now on.
    """
    if libc.unshare(CLONE_NEWNET | CLONE_NEWNS):
        code = ctypes.get_errno()
        raise Unavailable(f"no network of its own: {os.strerror(code)}")
    for command in ("ip link set lo up", "mount --make-rprivate /", f"mount --bind {RESOLVER} /etc/resolv.conf"):
        subprocess.run(command.split(), check=True, env={"PATH": SBIN})
    server = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    server.bind(("127.0.0.1", 53))
    threading.Thread(target=_know_no_name, args=[server], daemon=True).start()


def _know_no_name(server):
    """Answers each query at once with NXDOMAIN, as without a name server each look-up would take seconds."""
    while True:
        query, peer = server.recvfrom(512)
        server.sendto(query[:2] + b"\x81\x83" + query[4:], peer)


def start_init(arguments, script_arguments):
    """Starts unshare with `arguments`; returns (its Popen, the pid of the init in it) once it is ready."""
    unshare = subprocess.Popen(
        ["unshare", *arguments, "/bin/sh", "-c", _INIT, "init", *script_arguments],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True)
    if unshare.stdout.readline() != "ready\n":
        raise Unavailable(f"cannot make a host: {unshare.communicate()[1].strip()}")
    return unshare, (children_of(unshare.pid)[0] if "--fork" in arguments else unshare.pid)


def batch(pid, program, commands, check=True):
    """Runs lines of `ip` or `bridge` in the network namespace of process `pid`; `check`: raise on failure."""
    done = subprocess.run(["nsenter", "--target", str(pid), "--net", "--", program, "-batch", "-"],
                          input="\n".join(commands) + "\n", capture_output=True, text=True)
    if check and done.returncode:
        raise RuntimeError(f"{program} {'; '.join(commands)}: {done.stderr.strip()}")


def reap(popen):
    """Waits for an unshare that is ending, and closes its pipes."""
    popen.wait(10)
    for pipe in (popen.stdin, popen.stdout, popen.stderr):
        pipe.close()
