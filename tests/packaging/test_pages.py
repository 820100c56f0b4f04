"""Pages of docs/ for those who run it for months, followed by their own words."""

import json
import os
import re
import shutil
import subprocess

import pytest
from conftest import ROOT
from lab import Network, missing, wait_until
from test_packaging import pack

pytestmark = pytest.mark.native
INI = "/etc/autoscaler/autoscaler.ini"


def blocks(page, language="sh"):
    """The fenced blocks of a page, without the indentation of the list that they stand in."""
    text = (ROOT / "docs" / page).read_text()
    found = re.findall(r"^( *)```(\w*)\n(.*?)^\1```", text, re.M | re.S)
    return [re.sub(f"^{indentation}", "", block, flags=re.M) for indentation, its, block in found if its == language]


@pytest.fixture
def host(tmp_path, binary):
    """A HAProxy host after `autoscaler init`."""
    if reason := missing():
        pytest.skip(str(reason))
    with Network(tmp_path) as net:
        lb = net.host("lb1")
        lb.install(binary, "autoscaler")
        lb.run(["autoscaler", "init"])
        yield lb


def value(host, key):
    return re.search(rf"^{key} = (.*)$", host.path(INI).read_text(), re.M)[1]


def test_rotate_the_secret(host):
    make, both, alone = blocks("rotate-the-secret.md")
    old = value(host, "secret")
    host.run(["sh", "-ec", make])
    new = host.path("/root/new-secret").read_text()
    assert re.fullmatch("[0-9a-f]{64}", new) and host.path("/root/new-secret").stat().st_mode & 0o777 == 0o600
    done = host.run(["sh", "-ec", both])
    assert (done.stdout, done.stderr) == ("", "")
    # Two words of more than 16 characters: two secrets.
    assert value(host, "secret") == f"{new} {old}"
    host.run(["sh", "-ec", alone])
    assert value(host, "secret") == new and host.path(INI).stat().st_mode & 0o777 == 0o600


def test_no_node_is_locked_out_while_the_secret_is_rotated(host):
    """The page with a running master, and a node that connects anew with what it has at each step."""
    make, both, alone = blocks("rotate-the-secret.md")
    ini, node_ini = host.path(INI), host.path("/root/node/autoscaler.ini")
    for key, wanted in (("machine.scale_up_command", "echo 127.0.0.1"), ("haproxy.servers", "lb1")):
        host.run(["autoscaler", "set", key, wanted])
    node_ini.parent.mkdir()
    shutil.copy2(ini, node_ini)
    master = host.popen(["autoscaler", "master"], log="master.log")
    master.wait_line("serving on")

    def connects(number):
        node = host.popen(["autoscaler", "-c", "/root/node/autoscaler.ini", "daemon"], log=f"daemon{number}.log")
        try:
            node.wait_line("master lb1: connected")
        finally:
            node.kill()

    def taken(times):
        log = host.dir / "master.log"
        wait_until(lambda: len(re.findall("has changed: secret$", log.read_text(), re.M)) == times, 10, "the master takes it")

    connects(1)
    host.run(["sh", "-ec", make])
    host.run(["sh", "-ec", both])
    taken(1)
    connects(2)
    host.run(["sh", "-ec", alone.replace("autoscaler set", "autoscaler -c /root/node/autoscaler.ini set")])
    connects(3)
    host.run(["sh", "-ec", alone])
    taken(2)
    connects(4)
    # One that was forgotten.
    node_ini.write_text(node_ini.read_text().replace(value(host, "secret"), "0123456789abcdef"))
    node = host.popen(["autoscaler", "-c", "/root/node/autoscaler.ini", "daemon"], log="forgotten.log")
    node.wait_line("not a master to go by")
    wait_until(lambda: "lb1" in str(json.loads(host.run(["autoscaler", "status", "--json"]).stdout)["masters"][0]["refused"]),
               20, "status names it")


def test_cap_the_cost(host):
    caps, simulate = blocks("cost.md")
    host.run(["sh", "-ec", caps])
    assert [value(host, key) for key in ("max_hosts", "max_launches_per_day", "scale_down_threshold")] == ["10", "60", "20"]
    told = host.run(["sh", "-ec", simulate], cwd=ROOT).stdout
    assert len(re.findall(r"^threshold (?:40|50|60)%", told, re.M)) >= 6 and "machine-hours" in told


def test_a_new_haproxy_host_becomes_known(host):
    [order] = [block for block in blocks("haproxy-host.md") if " set " in block]
    host.run(["sh", "-ec", order])
    assert value(host, "servers") == "10.0.0.11, 10.0.0.12, 10.0.0.13"


def test_change_a_setting(host):
    [order] = blocks("change-a-setting.md")
    host.run(["sh", "-ec", order])
    assert value(host, "threshold") == "60"
    for line in blocks("change-a-setting.md", "")[0].splitlines():
        when, command = re.fullmatch(r"((?:\S+ ){5})root (.*)", line).groups()
        assert len(when.split()) == 5
        done = host.run(["sh", "-ec", command])
        assert (done.stdout, done.stderr) == ("", "")
    assert value(host, "min_hosts") == "1"


@pytest.mark.skipif(os.geteuid() != 0, reason="chroot needs root")
def test_alpines_way_with_busybox_alone(tmp_path, binary):
    """What Alpine has at the least: busybox, and OpenRC's directories."""
    busybox, chroot = shutil.which("busybox"), shutil.which("chroot")
    if not busybox:
        pytest.skip("busybox is not installed")
    root = tmp_path / "root"
    for directory in ("bin", "dev", "tmp", "etc/init.d"):
        (root / directory).mkdir(parents=True)
    for device, minor in (("null", "3"), ("urandom", "9")):
        subprocess.run(["mknod", root / "dev" / device, "c", "1", minor], check=True)
    shutil.copy(busybox, root / "bin/busybox")
    subprocess.run([chroot, root, "/bin/busybox", "--install", "-s", "/bin"], check=True)
    shutil.copy(pack("tar", binary, tmp_path / "out"), root / "tmp")
    [block] = [each for each in blocks("install.md") if "rc-service" in each]
    unpack, install, copy, start = block.splitlines()
    assert "rc-update add" in start
    script = "\n".join(["cd /tmp", unpack, install, copy.replace("SERVICE", "master")])
    done = subprocess.run([chroot, root, "/bin/sh", "-ec", script], env={"PATH": "/bin"}, capture_output=True, text=True)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    said = subprocess.run([chroot, root, "/usr/local/bin/autoscaler", "init"], capture_output=True, text=True)
    assert (said.returncode, said.stderr) == (0, "") and (root / "etc/autoscaler/autoscaler.ini").exists()
    service = root / "etc/init.d/autoscaler-master"
    assert os.access(service, os.X_OK) and "\ncommand=/usr/local/bin/autoscaler\n" in service.read_text()
    subprocess.run([chroot, root, "/bin/sh", "-ec", "cd /tmp/autoscaler-*/ && packaging/install --uninstall"], check=True,
                   env={"PATH": "/bin"})
    assert not (root / "usr/local/bin/autoscaler").exists() and not (root / "usr/local/share/doc/autoscaler").exists()
