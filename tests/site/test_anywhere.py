"""App servers with next to nothing on them: busybox, Dropbear, and the binary."""

import re
import shutil
import subprocess

import pytest
from cli import CHECK
from conftest import ROOT as PROJECT
from lab import Ec2Endpoint, missing, wait_until
from site_lab import Site

needs = missing("sshd", "haproxy", "dropbear", "busybox", "strace")
# Its app servers have no emulator.
pytestmark = [pytest.mark.skipif(needs is not None, reason=str(needs)), pytest.mark.native]

ROOT = "/var/lib/tiny"
DOCUMENT = (PROJECT / "docs/busybox.md").read_text()
[HOST_KEY] = re.findall(r"^dropbearkey .*$", DOCUMENT, re.M)
# The master may open its tunnel and nothing else; Dropbear can't be told on which port.
[KEY_OPTIONS] = re.findall(r"^(no-pty,.*) ssh-ed25519 ", DOCUMENT, re.M)
# System calls that came with Linux 3.3 and later, as far as a program of std's may make them. rseq and the like of
# glibc are no affair of musl's.
LATER_THAN_3_2 = ("process_vm_readv,kcmp,finit_module,sched_setattr,renameat2,seccomp,getrandom,memfd_create,bpf,execveat,"
                  "membarrier,copy_file_range,preadv2,pwritev2,statx,io_uring_setup,pidfd_open,pidfd_send_signal,clone3,"
                  "close_range,openat2,faccessat2,epoll_pwait2,rseq")


def libraries(program):
    """The files that a dynamic program needs."""
    words = subprocess.run(["ldd", program], check=True, capture_output=True, text=True).stdout.split()
    return [word for word in words if word.startswith("/")]


class TinySite(Site):
    """A site whose app servers run in a root directory with busybox, Dropbear, and nothing else."""

    proc = f"{ROOT}/var/lib/proc"

    def configure(self, host):
        if host in self.balancers:
            return super().configure(host)
        root = host.path(ROOT)
        for directory in ("bin", "dev", "proc", "tmp", "root/.ssh", "etc/autoscaler", "etc/dropbear", "var/lib/proc",
                          "www"):
            (root / directory).mkdir(parents=True)
        for program in ("busybox", "dropbear", "dbclient", "dropbearkey", "dropbearconvert"):
            path = shutil.which(program, path="/usr/sbin:/usr/bin:/bin:/usr/lib/dropbear")
            shutil.copy(path, root / "bin" / program)
            for library in libraries(path) if program.startswith("d") else ():
                (root / library.lstrip("/")).parent.mkdir(parents=True, exist_ok=True)
                shutil.copy(library, root / library.lstrip("/"))
        for applet in ("sh", "cat", "httpd", "hostname"):
            (root / "bin" / applet).symlink_to("busybox")
        shutil.copy(self.binary, root / "bin/autoscaler")
        (root / "etc/passwd").write_text("root:x:0:0:root:/root:/bin/sh\n")
        (root / "etc/shadow").write_text("root:*:19000::::::\n")
        (root / "etc/group").write_text("root:x:0:\n")
        shutil.copy(host.path("/etc/hosts"), root / "etc/hosts")  # and no resolv.conf, services or certificates
        ini = root / "etc/autoscaler/autoscaler.ini"
        ini.write_text(self.ini().replace("[haproxy]\n", "[haproxy]\nssh_command = dbclient\n"
                                          "ssh_params = -i /root/.ssh/id_dropbear\n"))
        ini.chmod(0o600)
        key = self.net.ssh_key
        (root / "root/.ssh/authorized_keys").write_text(f"{KEY_OPTIONS} {key.with_suffix('.pub').read_text()}")
        subprocess.run(["mknod", root / "dev/null", "c", "1", "3"], check=True)
        subprocess.run(["mknod", root / "dev/urandom", "c", "1", "9"], check=True)
        for directory in (root / "root", root / "root/.ssh"):
            directory.chmod(0o700)
        shutil.copy(key, root / "root/.ssh/id_openssh")
        host.run(["mount", "-t", "proc", "proc", f"{ROOT}/proc"])
        self.inside(host, "dropbearconvert", "openssh", "dropbear", "/root/.ssh/id_openssh", "/root/.ssh/id_dropbear")
        self.inside(host, *HOST_KEY.split())
        host.popen(["/usr/sbin/chroot", ROOT, "/bin/dropbear", "-F", "-E", "-r", "/etc/dropbear/dropbear_ed25519_host_key"],
                   log="dropbear.log")
        host.wait_port(22)
        (root / "www/index.html").write_text(f"{host.name}\n")
        host.popen(["/usr/sbin/chroot", ROOT, "/bin/httpd", "-f", "-p", "80", "-h", "/www"], log="httpd.log")
        host.wait_port(80)

    def inside(self, host, *argv):
        """Runs a command in the tiny root."""
        return host.run(["/usr/sbin/chroot", ROOT, f"/bin/{argv[0]}", *argv[1:]], env={"PATH": "/bin"})

    def start_daemon(self, host):
        self.daemons[host.name] = host.popen(["/usr/sbin/chroot", ROOT, "/bin/autoscaler", "daemon"], log="daemon.log",
                                             env={"PATH": "/bin"})
        self.daemons[host.name].wait_line("watching the CPU")

    def start_web(self, host):
        pass  # configure() has


def test_the_main_job_with_busybox_and_dropbear(tmp_path, binary):
    settings = {"scaling": {"scale_down_threshold": "20", "scale_down_window": "1s", "scale_down_cooldown": "1s",
                            "cooldown": "3s"}}
    with TinySite(tmp_path, binary, balancers=2, settings=settings) as site:
        site.start()
        site.load["app1"].load = 90
        for haproxy in site.haproxies.values():
            haproxy.wait_servers(2, timeout=40)
        [new] = site.ec2.launched
        for lb in site.balancers:
            wait_until(lambda lb=lb: new in site.get(lb), 10, f"{new} answers through {lb.name}")
            site.daemons[new].wait_line(f"master {lb.name}: connected", timeout=20)
        # And back: it leaves by itself.
        site.load["app1"].load = 5
        for haproxy in site.haproxies.values():
            haproxy.wait_servers(1, timeout=60)
        wait_until(lambda: site.ec2.running == [], 20, "the machine is terminated")


def test_an_old_kernel_will_do(tmp_path, binary):
    """Whatever came after Linux 3.2 is answered with ENOSYS."""
    old = ["strace", "-f", "-qq", "-e", f"trace=execve,{LATER_THAN_3_2}", "-e", "signal=none", "-e",
           f"inject={LATER_THAN_3_2}:error=ENOSYS", "-A", "-o", str(tmp_path / "trace")]
    with Ec2Endpoint(tls=True) as ec2:
        def run(*words):
            done = subprocess.run([*old, str(binary), "-c", str(tmp_path / "conf/autoscaler.ini"), *words],
                                  capture_output=True, text=True, timeout=60)
            assert done.returncode == 0, done
            return done.stdout

        run("init")
        run("add-host", "localhost", "80", "--name", "app1")
        assert f"server app1 127.0.0.1:80 {CHECK}" in run("generate", "--stdout").replace("[::1]", "127.0.0.1")
        ini = tmp_path / "conf/autoscaler.ini"
        ini.write_text(f"{ec2.ini()}[machine]\nscale_up_command = aws ec2 run-instances --image-id {ec2.image}\n")
        assert "RunInstances" in run("scale-up", "--dry-run")
        run("add-host", "127.0.0.2", "80", "--id", ec2.seed("127.0.0.2", {"autoscaler:cluster": "default"}))
        run("prune")  # over the network, with nothing to remove
        assert [call.verdict for call in ec2.calls("DescribeInstances")] == ["ok"]
    traced = (tmp_path / "trace").read_text()
    assert traced.count("execve(") == 6 and "getrandom(" in traced and "(INJECTED)" in traced
