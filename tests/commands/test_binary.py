"""The binary itself: static, small, at home in an empty directory, and at rest nearly nothing."""

import os
import shutil
import subprocess
import time

import pytest
from cli import CHECK, TEMPLATE, environment, run
from lab import ProcStat, missing, wait_until

LARGEST = 2_900_000
# Bytes and descriptors of a daemon at rest.
MEMORY, FILES = 2_500_000, 16


@pytest.mark.native
def test_it_is_static_and_stripped(binary):
    what = run(["file", "-L", binary]).stdout
    assert "ELF 64-bit" in what and ("statically linked" in what or "static-pie linked" in what), what
    assert ", stripped" in what
    told = run(["ldd", binary])
    assert "statically linked" in told.stdout or "not a dynamic executable" in told.stderr, told
    headers = run(["readelf", "--program-headers", "--dynamic", binary])
    assert headers.returncode == 0
    assert "INTERP" not in headers.stdout and "(NEEDED)" not in headers.stdout
    sections = run(["readelf", "--section-headers", "--wide", binary]).stdout
    assert ".text" in sections and ".symtab" not in sections and ".debug" not in sections


@pytest.mark.native
def test_it_is_small(binary):
    assert os.stat(binary).st_size <= LARGEST


@pytest.mark.skipif(missing() is not None, reason=str(missing()))
@pytest.mark.native
def test_it_runs_in_a_directory_with_nothing_else(binary, tmp_path):
    root = tmp_path / "root"
    root.mkdir()
    # /dev/urandom for the secret; without /proc, /etc, /bin and libraries.
    (root / "dev").mkdir()
    subprocess.run(["mknod", root / "dev/urandom", "c", "1", "9"], check=True)
    shutil.copy(binary, root / "autoscaler")

    def inside(*arguments):
        done = run(["chroot", root, "/autoscaler", "-c", "/conf/autoscaler.ini", *arguments])
        assert (done.returncode, done.stderr) == (0, ""), done
        return done.stdout

    assert inside("--version").startswith("autoscaler ")
    assert "Usage" in inside("--help")
    inside("init")
    inside("add-host", "10.0.0.5", "8080")
    inside("add-host", "2001:db8::5", "80")
    assert "app1 10.0.0.5 8080 -\n" in inside("list-hosts")
    rendered = inside("generate", "--stdout")
    assert f"    server app1 10.0.0.5:8080 {CHECK}\n    server app2 [2001:db8::5]:80 {CHECK}\n" in rendered
    assert sorted(path.name for path in root.iterdir()) == ["autoscaler", "conf", "dev"]


@pytest.fixture
def daemon(cli, tmp_path):
    """A daemon that has looked around and has nothing to do."""
    ports = "64990-64997"  # where no master listens
    with ProcStat(tmp_path / "proc", load=10) as stat:
        cli.write("[aws]\naws_access_key = AKIA\naws_secret_key = s\naws_default_region = us-east-1\n"
                  "endpoint_url = https://127.0.0.1:1\n[machine]\n"
                  "scale_up_command = aws ec2 run-instances --image-id ami-12345678 --instance-type t3.small\n"
                  f"[scaling]\nprocfs = {stat.path}\nsample_interval = 100ms\nwindow = 1s\n"
                  f"[master]\ntunnel_ports = {ports}\n[haproxy]\nservers = lb1\n")
        with subprocess.Popen(cli.argv("daemon"), env=environment(), stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                              stderr=subprocess.PIPE, text=True) as process:
            try:
                assert "watching the CPU" in process.stderr.readline()
                begin = stat.steps
                # Two windows, and a look at all the ports or two.
                wait_until(lambda: stat.steps >= begin + 25, 10, "it has been at rest for a while")
                yield process
            finally:
                process.kill()


def status_of(process, field):
    """A number of /proc/<pid>/status."""
    with open(f"/proc/{process.pid}/status") as status:
        return next(int(line.split()[1]) for line in status if line.startswith(f"{field}:"))


@pytest.mark.native
def test_the_daemon_at_rest_is_small(daemon):
    assert status_of(daemon, "VmRSS") * 1024 < MEMORY
    assert len(os.listdir(f"/proc/{daemon.pid}/fd")) <= FILES
    with open(f"/proc/{daemon.pid}/maps") as maps:
        mapped = {line.split()[5] for line in maps if len(line.split()) > 5 and line.split()[5].startswith("/")}
    # Nothing shared with anybody: no library, no locale, no shared memory.
    assert len(mapped) == 1 and next(iter(mapped)).endswith("autoscaler"), mapped


@pytest.mark.native
def test_the_daemon_at_rest_neither_grows_nor_leaks(daemon):
    files, memory = len(os.listdir(f"/proc/{daemon.pid}/fd")), status_of(daemon, "VmRSS")
    switches = status_of(daemon, "voluntary_ctxt_switches")
    # A hundred samples more, told by how often its main thread has slept.
    wait_until(lambda: status_of(daemon, "voluntary_ctxt_switches") >= switches + 50, 20, "fifty samples more")
    assert len(os.listdir(f"/proc/{daemon.pid}/fd")) <= files + 1  # it may just be reading
    assert status_of(daemon, "VmRSS") <= memory + 64
    assert daemon.poll() is None


@pytest.mark.native
def test_it_starts_at_once(cli):
    # TEMPLATE and one entry: what `generate --stdout` costs is mostly the start.
    cli("add-host", "10.0.0.1", 80)
    times = []
    for _ in range(10):
        begin = time.monotonic()
        assert cli("generate", "--stdout") == TEMPLATE.replace("$SERVERS", f"server app1 10.0.0.1:80 {CHECK}")
        times.append(time.monotonic() - begin)
    assert min(times) < 0.05, times
