"""packaging/ami and packaging/cloud-init: what makes an app server out of a stock machine."""

import hashlib
import os
import re
import subprocess
import sys

import pytest
import yaml
from cli import run
from conftest import ROOT
from lab import Network, missing
from readme import sshd_settings
from test_packaging import TARGET, VERSION, deb, make, pack  # deb: the fixture

pytestmark = pytest.mark.native
USER_DATA = ROOT / "packaging/cloud-init/app-server.yaml"
# Unpacked by tests/setup, as it would set this machine up if it were installed.
CLOUD_INIT = ROOT / "target/debian/cloud-init"
SITE = {"autoscaler.ini": "[haproxy]\nservers = 10.0.0.11\n", "id_ed25519": "the key\n",
        "authorized_keys": "restrict ssh-ed25519 AAAA haproxy\n", "known_hosts": "10.0.0.11 ssh-ed25519 BBBB\n"}


@pytest.fixture(scope="module")
def tarball(binary, tmp_path_factory):
    """The tarball, and the directory that it was unpacked to."""
    made = pack("tar", binary, tmp_path_factory.mktemp("tar"))
    subprocess.run(["tar", "xf", made], cwd=made.parent, check=True)
    return made, made.parent / made.name.removesuffix(".tar.gz")


@pytest.fixture
def site(tmp_path):
    """The site's directory."""
    directory = tmp_path / "site"
    directory.mkdir()
    for name, text in SITE.items():
        (directory / name).write_text(text)
    return directory


def prepare(tree, root, *arguments):
    return run([tree / "packaging/ami/prepare", *arguments], env={"ROOT": str(root)})


def test_an_image_is_prepared_and_sealed(tmp_path, tarball, site):
    _, tree = tarball
    root = tmp_path / "root"
    keys = root / "root/.ssh/authorized_keys"
    keys.parent.mkdir(parents=True)
    keys.write_text("ssh-ed25519 CCCC the administrator\n")
    for _ in range(2):  # the second time changes nothing
        done = prepare(tree, root, site)
        assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
        assert keys.read_text() == "ssh-ed25519 CCCC the administrator\n" + SITE["authorized_keys"]
        assert (root / "root/.ssh/known_hosts").read_text() == SITE["known_hosts"]
    for name in ("autoscaler.ini", "id_ed25519"):
        path = root / "etc/autoscaler" / name
        assert (path.read_text(), path.stat().st_mode & 0o777) == (SITE[name], 0o600)
    enabled = root / "etc/systemd/system/multi-user.target.wants/autoscaler-daemon.service"
    assert "autoscaler daemon" in (root / os.readlink(enabled).lstrip("/")).read_text()
    settings = (root / "etc/ssh/sshd_config.d/autoscaler.conf").read_text()
    assert sorted(settings.splitlines()) == sorted(sshd_settings().splitlines())

    (root / "etc/ssh/ssh_host_ed25519_key").write_text("secret")
    (root / "etc/machine-id").write_text("0123456789abcdef0123456789abcdef\n")
    (root / "var/lib/autoscaler/known_hosts").mkdir(parents=True)
    assert prepare(tree, root, "--seal").returncode == 0
    assert not (root / "etc/ssh/ssh_host_ed25519_key").exists()
    assert (root / "etc/machine-id").read_text() == ""
    assert list((root / "var/lib/autoscaler").iterdir()) == []
    assert (root / "etc/autoscaler/autoscaler.ini").exists()


def test_with_runit_the_service_is_runits(tmp_path, tarball, site):
    (tmp_path / "root/etc/runit").mkdir(parents=True)
    assert prepare(tarball[1], tmp_path / "root", site).returncode == 0
    assert os.readlink(tmp_path / "root/etc/service/autoscaler-daemon") == "/etc/sv/autoscaler-daemon"
    assert os.access(tmp_path / "root/etc/sv/autoscaler-daemon/run", os.X_OK)


@pytest.mark.parametrize("runit", [False, True])
def test_from_where_it_is_installed(tmp_path, binary, site, runit):
    """With what is there already, and in no other root."""
    root = tmp_path / "root"
    make(root, "install", binary)
    from_where_it_is(root, root / "usr/local", site, runit)
    other = tmp_path / "other"
    done = prepare(root / "usr/local/share/doc/autoscaler", other, site)
    assert done.returncode == 74 and not other.exists()
    assert done.stderr == (f"prepare: {other}/usr/local/bin/autoscaler is missing: "
                           "run packaging/ami/prepare of the unpacked tarball\n")


@pytest.mark.parametrize("runit", [False, True])
def test_from_the_debian_package(tmp_path, deb, site, runit):
    subprocess.run(["dpkg-deb", "--extract", deb, tmp_path / "root"], check=True)
    from_where_it_is(tmp_path / "root", tmp_path / "root/usr", site, runit)


def from_where_it_is(root, prefix, site, runit):
    """Sets up `root`, where autoscaler is installed under `prefix`, by its own copy of the script."""
    if runit:
        (root / "etc/runit").mkdir(parents=True)
    for _ in range(2):
        done = prepare(prefix / "share/doc/autoscaler", root, site)
        assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    assert (root / "etc/autoscaler/id_ed25519").read_text() == SITE["id_ed25519"]
    if runit:
        service = root / "etc/sv/autoscaler-daemon"
        assert sorted(path.name for path in service.iterdir()) == ["finish", "log", "run"]
    else:
        unit = root / os.readlink(root / "etc/systemd/system/multi-user.target.wants/autoscaler-daemon.service").lstrip("/")
        assert f"ExecStart=/{prefix.relative_to(root)}/bin/autoscaler daemon\n" in unit.read_text()


def test_what_is_not_right_is_said(tmp_path, tarball, site):
    (site / "autoscaler.ini").write_text("[haproxy]\nnonsense = 1\n")
    done = prepare(tarball[1], tmp_path / "root", site)
    assert done.returncode == 78 and "autoscaler.ini:2: " in done.stderr
    (site / "known_hosts").unlink()
    done = prepare(tarball[1], tmp_path / "root", site)
    assert done.returncode == 78 and "known_hosts is missing" in done.stderr
    assert prepare(tarball[1], tmp_path / "root").returncode == 64


def test_the_user_data_by_cloud_inits_schema(tmp_path):
    if not (CLOUD_INIT / ".unpacked").exists():
        pytest.skip("cloud-init is not unpacked: run tests/setup")

    def check(path):
        return subprocess.run([sys.executable, "-m", "cloudinit.cmd.main", "schema", "--config-file", path],
                              env={**os.environ, "PYTHONPATH": str(CLOUD_INIT / "usr/lib/python3/dist-packages")},
                              cwd=tmp_path, capture_output=True, text=True)
    done = check(USER_DATA)
    assert done.returncode == 0 and "Valid" in done.stdout, done
    # It can say no.
    (tmp_path / "wrong.yaml").write_text(USER_DATA.read_text().replace("runcmd:", "runcmd: 5\nother:"))
    assert check(tmp_path / "wrong.yaml").returncode


@pytest.mark.skipif(missing() is not None, reason=str(missing()))
def test_the_user_data_carried_out(tmp_path, tarball, site):
    """Its script and its commands, on a host of the lab, with a directory in the place of the bucket."""
    made, _ = tarball
    data = yaml.safe_load(USER_DATA.read_text())
    [script] = data["write_files"]
    text = script["content"]
    name = re.search(r"^name=(.*)$", text, re.M)[1]
    assert name == f"autoscaler-{VERSION}-{TARGET}"
    with Network(tmp_path / "net") as net:
        host = net.host("app1")
        bucket = host.path("/var/lib/bucket")
        bucket.mkdir()
        subprocess.run(["cp", "-R", made, site, bucket], check=True)
        host.script("aws", """#!/bin/sh
while case "$1" in s3 | cp | --*) true ;; *) false ;; esac; do shift; done
exec cp -R "/var/lib/bucket/${1#s3://my-bucket/autoscaler/}" "$2"
""")
        host.script("systemctl", '#!/bin/sh\necho "$@" >>/var/lib/systemctl\n')
        host.path("/var/lib/local").mkdir()
        host.run(["mount", "--bind", "/var/lib/local", "/usr/local"])
        place = host.path("/var/lib/local") / "sbin/install-autoscaler"
        place.parent.mkdir()

        # The checksum is not the tarball's: nothing is installed.
        place.write_text(text)
        place.chmod(int(script["permissions"], 8))
        first, *others = data["runcmd"]
        assert first == script["path"]
        done = host.run([first], check=False)
        assert done.returncode and not host.path("/etc/autoscaler/id_ed25519").exists()

        place.write_text(text.replace("0" * 64, hashlib.sha256(made.read_bytes()).hexdigest()))
        for command in data["runcmd"]:
            host.run(["sh", "-c", command])
        assert host.path("/etc/autoscaler/autoscaler.ini").read_text() == SITE["autoscaler.ini"]
        assert host.run(["autoscaler", "--version"]).stdout == f"autoscaler {VERSION}\n"
        assert host.path("/var/lib/systemctl").read_text().splitlines()[-1] == "start autoscaler-daemon"
        assert list(host.path("/tmp").glob("tmp.*")) == []
