"""Small things that every part of the lab uses: waiting, entering a network namespace, a throw-away CA."""

import contextlib
import ctypes
import os
import random
import socket
import ssl
import subprocess
import threading
import time

CLONE_NEWNET, CLONE_NEWNS = 0x40000000, 0x00020000
libc = ctypes.CDLL(None, use_errno=True)


class Unavailable(RuntimeError):
    """This kernel or machine lacks something that the lab was asked for; a test may skip on it."""


def free_ports(count=1):
    """The first of `count` ports in a row that nobody uses on loopback; the kernel gives them to no connection of its own."""
    while True:
        first = random.randrange(20000, 30000)
        with contextlib.ExitStack() as stack, contextlib.suppress(OSError):
            for port in range(first, first + count):
                stack.enter_context(socket.create_server(("127.0.0.1", port)))
            return first


def wait_until(condition, timeout=10.0, what="the condition", every=0.01):
    """Calls `condition` until it returns something true, and returns that.

    `timeout` in seconds; then AssertionError naming `what` (a text, or a function that makes one).
    """
    began = time.monotonic()
    while True:
        asked = time.monotonic()
        result = condition()
        if result:
            return result
        now = time.monotonic()
        if now >= began + timeout:
            raise AssertionError(f"after {timeout} s still not: {what() if callable(what) else what}")
        time.sleep(max(every, pause(now - began, now - asked)))


def pause(waited, took=0.0):
    """Seconds until it is looked again, `waited` seconds after the first look, of which each takes `took`: what takes
    long is looked at less often, and the processors are left to those who are waited for."""
    return min(max(0.01, waited / 100, 4 * took), 0.25)


def in_netns(pid, action):
    """Runs `action()` in the network namespace of process `pid` and returns its result.

    A namespace belongs to a thread, so a fresh thread enters it and ends. A socket that is made
    there stays in that namespace and may be used from any thread.
    """
    outcome = {}

    def enter():
        try:
            fd = os.open(f"/proc/{pid}/ns/net", os.O_RDONLY | os.O_CLOEXEC)
            try:
                if libc.setns(fd, CLONE_NEWNET):
                    code = ctypes.get_errno()
                    raise OSError(code, f"setns: {os.strerror(code)}")
            finally:
                os.close(fd)
            outcome["result"] = action()
        except BaseException as error:  # handed to the caller, whatever it is
            outcome["error"] = error

    thread = threading.Thread(target=enter)
    thread.start()
    thread.join()
    if "error" in outcome:
        raise outcome["error"]
    return outcome["result"]


def children_of(pid):
    """The process ids of the direct children of `pid`."""
    try:
        with open(f"/proc/{pid}/task/{pid}/children") as file:
            return [int(word) for word in file.read().split()]
    except FileNotFoundError:
        pass  # a kernel without that file, or the process is gone: look at everybody's parent
    found = []
    for name in os.listdir("/proc"):
        if name.isdigit():
            try:
                with open(f"/proc/{name}/stat") as file:
                    parent = int(file.read().rpartition(")")[2].split()[1])
            except (FileNotFoundError, ProcessLookupError):
                continue
            if parent == pid:
                found.append(int(name))
    return found


def make_certificate(directory, address, names=()):
    """Makes a throw-away CA and a server certificate for `address` and `names` with openssl, in `directory`.

    Returns (path of the CA's PEM, for `ca_bundle`; a server-side ssl.SSLContext).
    """
    def openssl(*arguments):
        try:
            subprocess.run(["openssl", *arguments], cwd=directory, check=True, capture_output=True, text=True)
        except FileNotFoundError:
            raise Unavailable("openssl is not installed") from None

    curve = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes"]
    openssl("req", "-x509", *curve, "-keyout", "ca.key", "-out", "ca.pem", "-days", "2", "-subj", "/CN=lab CA",
            "-addext", "keyUsage=critical,keyCertSign")
    openssl("req", *curve, "-keyout", "server.key", "-out", "server.csr", "-subj", "/CN=lab server")
    (directory / "server.ext").write_text(f"subjectAltName={','.join([f'IP:{address}', *(f'DNS:{name}' for name in names)])}\nbasicConstraints=CA:FALSE\n")
    openssl("x509", "-req", "-in", "server.csr", "-CA", "ca.pem", "-CAkey", "ca.key", "-CAcreateserial",
            "-days", "2", "-extfile", "server.ext", "-out", "server.pem")
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(directory / "server.pem", directory / "server.key")
    return directory / "ca.pem", context
