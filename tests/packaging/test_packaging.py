"""make install, the tarball and the Debian package: what is in them, where it goes, and that it is always the same."""

import os
import re
import shutil
import subprocess

import pytest
from conftest import ROOT

pytestmark = pytest.mark.native
PACKAGING = ROOT / "packaging"
VERSION = re.search(r'^version = "(.*)"', (ROOT / "Cargo.toml").read_text(), re.M)[1]
TARGET = "x86_64-unknown-linux-musl"


def files(root):
    """{path from `root`: mode} of all files."""
    return {str(path.relative_to(root)): oct(path.stat().st_mode & 0o7777) for path in root.rglob("*")
            if path.is_file()}


def pack(form, binary, out, **environment):
    """Runs packaging/dist; returns the file that it made."""
    subprocess.run([PACKAGING / "dist", form, TARGET, binary, out], check=True, env={**os.environ, **environment})
    [made] = out.glob("*.tar.gz" if form == "tar" else f"*.{form}")
    return made


def anchors(page):
    """What a link to one of the page's headings has after its #, as GitHub makes it."""
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-")
            for heading in re.findall(r"^#+ (.*)$", page.read_text(), re.M)}


def dead_links(directory):
    """[(page, target)] of the links between the README, docs/ and what is beside them that lead nowhere."""
    pages = [directory / "README.md", *sorted((directory / "docs").glob("*.md"))]
    assert re.match("# autoscaler\n", pages[0].read_text()) and len(pages) > 10
    links = [(page, *re.fullmatch("(.*?)(?:#(.*))?", target).groups()) for page in pages
             for target in re.findall(r"\]\((?!https?:)([^)\s]+)\)", page.read_text())]
    assert len(links) > 30
    return [(page.name, path, anchor) for page, path, anchor in links
            for target in [page.parent / path if path else page]
            if not target.exists() or anchor and anchor not in anchors(target)]


def make(root, target, binary, prefix="/usr/local"):
    """make `target` (install, uninstall), as in the system under `root`."""
    subprocess.run(["make", "-s", "-C", ROOT, f"BINARY={binary}", f"DESTDIR={root}", f"PREFIX={prefix}", target],
                   check=True, umask=0o077)


def test_install_and_uninstall(tmp_path, binary):
    root = tmp_path / "root"
    make(root, "install", binary, "/opt/autoscaler")
    prefix = root / "opt/autoscaler"
    found = files(prefix)
    assert files(root).keys() == {f"opt/autoscaler/{name}" for name in found}
    assert found.pop("bin/autoscaler") == "0o755"
    for name in ("share/man/man1/autoscaler.1", "share/bash-completion/completions/autoscaler", "share/doc/autoscaler/LICENSE",
                 "share/zsh/site-functions/_autoscaler", "share/fish/vendor_completions.d/autoscaler.fish",
                 "lib/systemd/system/autoscaler-daemon.service", "share/doc/autoscaler/packaging/iam-policy.json"):
        assert found[name] == "0o644", name
    for name in ("runit/master/run", "openrc/autoscaler-daemon", "ami/prepare"):
        assert found[f"share/doc/autoscaler/packaging/{name}"] == "0o755", name
    assert dead_links(prefix / "share/doc/autoscaler") == []
    assert set(found.values()) == {"0o644", "0o755"}
    # Everything finds the binary where it is.
    texts = {name: (prefix / name).read_text() for name in found}
    assert not [name for name, text in texts.items() if re.search("/usr/local/(bin|lib|share)/", text)]
    assert "ExecStart=/opt/autoscaler/bin/autoscaler daemon" in texts["lib/systemd/system/autoscaler-daemon.service"]

    # The neighbours stay.
    (prefix / "bin/other").write_text("")
    (prefix / "share/doc/autoscaler/mine").write_text("")
    make(root, "uninstall", binary, "/opt/autoscaler")
    assert files(root).keys() == {"opt/autoscaler/bin/other", "opt/autoscaler/share/doc/autoscaler/mine"}


def test_install_without_a_binary(tmp_path):
    done = subprocess.run(["make", "-s", "-C", ROOT, f"BINARY={tmp_path}/none", f"DESTDIR={tmp_path}/root", "install"],
                          capture_output=True, text=True)
    assert done.returncode and "run make first" in done.stderr
    assert not (tmp_path / "root").exists()


def test_the_tarball_installs_itself(tmp_path, binary):
    made = pack("tar", binary, tmp_path / "out")
    assert made.name == f"autoscaler-{VERSION}-{TARGET}.tar.gz"
    subprocess.run(["sha256sum", "--check", "--quiet", "SHA256SUMS"], cwd=tmp_path / "out", check=True)
    subprocess.run(["tar", "xf", made], cwd=tmp_path, check=True)
    tree = tmp_path / made.name.removesuffix(".tar.gz")
    # The licence of each crate that is in the binary.
    licences = (tree / "LICENSES-of-crates").read_text()
    for crate in ("ureq", "rustls", "ring", "hmac", "sha2", "time", "lexopt", "webpki-roots"):
        assert re.search(rf"^{crate} \d", licences, re.M), crate
    assert dead_links(tree) == []
    # Where there is neither make nor cargo.
    subprocess.run([tree / "packaging/install"], check=True, env={"PATH": "/usr/bin:/bin", "DESTDIR": f"{tmp_path}/root"})
    said = subprocess.run([tmp_path / "root/usr/local/bin/autoscaler", "--version"], check=True, capture_output=True)
    assert said.stdout.decode() == f"autoscaler {VERSION}\n"


@pytest.mark.parametrize("form", ["tar", "deb", "rpm"])
def test_the_same_bytes_twice(tmp_path, binary, form):
    tool = {"tar": "tar", "deb": "dpkg-deb", "rpm": "rpmbuild"}[form]
    if not shutil.which(tool):
        pytest.skip(f"{tool} is not installed")
    # Another checkout, time zone, locale and umask; newer files.
    other = tmp_path / "other"
    other.mkdir()
    for name in ("packaging", "docs", "README.md", "CHANGELOG.md", "LICENSE", "Cargo.toml", "Cargo.lock", "src", ".cargo",
                 "build.rs"):
        subprocess.run(["cp", "-R", ROOT / name, other], check=True)
    first = pack(form, binary, tmp_path / "first", SOURCE_DATE_EPOCH="1700000000")
    subprocess.run([other / "packaging/dist", form, TARGET, binary, tmp_path / "second"], check=True, umask=0o077,
                   env={**os.environ, "SOURCE_DATE_EPOCH": "1700000000", "TZ": "Asia/Tokyo", "LC_ALL": "C.UTF-8"})
    assert first.read_bytes() == (tmp_path / "second" / first.name).read_bytes()


@pytest.fixture(scope="module")
def deb(binary, tmp_path_factory):
    """The Debian package."""
    if not shutil.which("dpkg-deb"):
        pytest.skip("dpkg-deb is not installed")
    return pack("deb", binary, tmp_path_factory.mktemp("deb"))


def test_the_package_has_all_that_its_texts_name(tmp_path, deb):
    subprocess.run(["dpkg-deb", "--extract", deb, tmp_path], check=True)
    doc = tmp_path / "usr/share/doc/autoscaler"
    assert dead_links(doc) == []
    # The line for authorized_keys is one to copy.
    for name in ("README.md", "docs/without-root.md", "docs/install.md", "packaging/ssh/sudoers"):
        assert set(re.findall(r"[\w/]+(?= ssh-gate\b)", (doc / name).read_text())) == {"/usr/bin/autoscaler"}, name


def dpkg(root, *arguments):
    """dpkg on a system of its own under `root`; returns what it said."""
    (root / "var/lib/dpkg/info").mkdir(parents=True, exist_ok=True)
    (root / "var/lib/dpkg/status").touch()
    (root / "var/lib/dpkg/updates").mkdir(exist_ok=True)
    done = subprocess.run(["dpkg", f"--root={root}", "--force-not-root", "--force-bad-path", *arguments], check=True,
                          stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    return done.stdout


def with_tools(root):
    """What the package's scripts run, and a systemctl that keeps a list of what it was asked for."""
    busybox = shutil.which("busybox")
    if not busybox:
        pytest.skip("busybox is not installed")
    for directory in ("bin", "run/systemd/system", "etc/autoscaler", "var/lib/autoscaler"):
        (root / directory).mkdir(parents=True)
    (root / "dev").mkdir()
    subprocess.run(["mknod", root / "dev/null", "c", "1", "3"], check=True)
    shutil.copy(busybox, root / "bin/busybox")
    for name in ("sh", "rm", "echo"):
        (root / "bin" / name).symlink_to("busybox")
    for name in ("systemctl", "deb-systemd-invoke"):
        (root / "bin" / name).write_text(f'#!/bin/sh\necho {name} "$@" >>/calls\n')
        (root / "bin" / name).chmod(0o755)
    (root / "etc/autoscaler/autoscaler.ini").write_text("[cluster]\n")
    (root / "calls").touch()


@pytest.mark.skipif(os.geteuid() != 0, reason="dpkg --root needs root")
def test_the_package_starts_nothing_and_takes_away_what_it_brought(tmp_path, deb):
    root = tmp_path / "root"
    with_tools(root)
    before = files(root)
    dpkg(root, "--install", deb)
    said = subprocess.run(["chroot", root, "/usr/bin/autoscaler", "--version"], check=True, capture_output=True)
    assert said.stdout.decode() == f"autoscaler {VERSION}\n"
    assert (root / "calls").read_text() == ""
    assert os.access(root / "etc/sv/autoscaler-master/run", os.X_OK)
    assert not list((root / "etc").rglob("cron*")) and not (root / "etc/systemd").exists()

    # What the administrator has changed outlives an upgrade; what runs is started again.
    run = root / "etc/sv/autoscaler-daemon/run"
    run.write_text(f"{run.read_text()}# mine\n")
    dpkg(root, "--install", deb)
    assert run.read_text().endswith("# mine\n")
    assert re.findall(r"^deb-systemd-invoke (\S+)", (root / "calls").read_text(), re.M) == ["try-restart"]

    dpkg(root, "--remove", "autoscaler")
    assert run.exists() and not (root / "usr/bin/autoscaler").exists()
    assert "deb-systemd-invoke stop autoscaler-master.service" in (root / "calls").read_text()
    dpkg(root, "--purge", "autoscaler")
    # The INI is not the package's.
    left = {name for name in files(root) if not name.startswith("var/l")}
    assert left == {name for name in before if not name.startswith("var/l")}
    assert not (root / "var/lib/autoscaler").exists()


@pytest.fixture(scope="module")
def rpm(binary, tmp_path_factory):
    """The RPM."""
    if not shutil.which("rpmbuild"):
        pytest.skip("rpm is not installed")
    return pack("rpm", binary, tmp_path_factory.mktemp("rpm"))


def test_the_rpm_has_what_its_texts_name_and_asks_for_no_library(tmp_path, rpm):
    with (tmp_path / "archive").open("wb") as archive:
        subprocess.run(["rpm2cpio", rpm], check=True, stdout=archive)
    with (tmp_path / "archive").open("rb") as archive:
        subprocess.run([shutil.which("busybox"), "cpio", "-id"], cwd=tmp_path, check=True, stdin=archive, capture_output=True)
    assert dead_links(tmp_path / "usr/share/doc/autoscaler") == []
    asked = subprocess.run(["rpm", "-qp", "--requires", rpm], check=True, capture_output=True, text=True).stdout
    assert {line.split()[0] for line in asked.splitlines() if not line.startswith("rpmlib(")} == {"/bin/sh"}
    # What other packages have as well stays theirs.
    listed = subprocess.run(["rpm", "-qp", "--list", rpm], check=True, capture_output=True, text=True).stdout.split()
    assert "/usr/bin" not in listed and "/usr/share/doc/autoscaler" in listed
    assert "/usr/lib/systemd/system/autoscaler-master@.service" in listed


@pytest.mark.skipif(os.geteuid() != 0, reason="rpm --root needs root")
def test_the_rpm_starts_nothing_and_takes_away_what_it_brought(tmp_path, rpm):
    root = tmp_path / "root"
    with_tools(root)
    before = files(root)

    def manage(*arguments):
        done = subprocess.run(["rpm", "--force-debian", "--root", root, "--nodeps", *arguments], capture_output=True, text=True)
        assert (done.returncode, done.stderr) == (0, ""), done

    def called():
        return re.findall("^systemctl --system (.*)$", (root / "calls").read_text(), re.M)

    manage("--install", rpm)
    said = subprocess.run(["chroot", root, "/usr/bin/autoscaler", "--version"], check=True, capture_output=True)
    assert said.stdout.decode() == f"autoscaler {VERSION}\n"
    assert called() == ["daemon-reload"] and not (root / "etc/systemd").exists()
    manage("--verify", "autoscaler")
    # An upgrade has what runs go on with the new binary, and stops nothing.
    (root / "calls").write_text("")
    manage("--upgrade", "--replacepkgs", "--replacefiles", rpm)
    assert "stop" not in " ".join(called())
    assert "try-restart autoscaler-master.service autoscaler-daemon.service autoscaler-master@*.service" in called()
    (root / "calls").write_text("")
    manage("--erase", "autoscaler")
    assert "stop autoscaler-master.service autoscaler-daemon.service autoscaler-master@*.service" in called()
    left = {name for name in files(root) if not name.startswith(("root/.rpmdb/", "var/lib/rpm/"))}
    assert left == set(before) and (root / "etc/autoscaler/autoscaler.ini").exists()


def test_lintian_has_nothing_to_say(deb):
    if not shutil.which("lintian"):
        pytest.skip("lintian is not installed, as it needs a hundred packages")
    done = subprocess.run(["lintian", "--allow-root", deb], capture_output=True, text=True)
    assert (done.returncode, done.stdout) == (0, "")
