"""docs/two-apps.md followed to the letter: two clusters behind one HAProxy and in one account of EC2."""

import json
import re
import shutil

import pytest
from conftest import ROOT
from lab import Ec2Endpoint, Network, ProcStat, missing, wait_until
from readme import block
from supervisors import Log

pytestmark = [pytest.mark.native, pytest.mark.skipif(missing("sshd", "haproxy", "runsvdir") is not None,
                                                     reason=str(missing("sshd", "haproxy", "runsvdir")))]
PAGE = (ROOT / "docs/two-apps.md").read_text()
COLUMNS = re.findall(r"^\|[^|]*\| `([^`]*)` \| `([^`]*)` \|$", PAGE, re.M)
KEY = "-i /etc/autoscaler/id_ed25519 -o IdentitiesOnly=yes"


def of(app, text):
    """What the page says of shop, for `app`."""
    if app == "shop":
        return text
    text = re.sub("shop|blog", lambda found: {"shop": "blog", "blog": "shop"}[found[0]], text)
    return text.replace("65432-65439", "65442-65449").replace("127.0.0.1:65432", "127.0.0.1:65442")


def part(heading):
    return re.search(rf"^\*\*{heading}.*?(?=^\*\*\d\.|^## )", PAGE, re.M | re.S)[0]


def ini_of(app):
    return f"/etc/autoscaler/{app}/autoscaler.ini"


def keys(text):
    """[(SECTION.KEY, value)] of the lines of an INI."""
    section, found = None, []
    for line in text.splitlines():
        if line.startswith("["):
            section = line.strip("[]")
        elif line:
            key, _, value = line.partition(" = ")
            found.append((f"{section}.{key}", value))
    return found


class Balancer:
    """The HAProxy host, set up by the page; `first`: {app: its first machine}."""

    def __init__(self, net, binary, ec2):
        self.net, self.ec2 = net, ec2
        self.host = net.host("lb1")
        self.prepare(self.host, binary)
        self.first = {"shop": net.host("shop1", "10.77.0.21"), "blog": net.host("blog1", "10.77.0.31")}
        self.load, self.daemons = {}, {}
        self.files = re.findall(r"-f (\S+)", re.search('^EXTRAOPTS="(.*)"$', part("1"), re.M)[1])
        self.host.path("/etc/haproxy/haproxy.cfg").write_text(block(part("1"), "haproxy"))
        for app, host in self.first.items():
            self.directory(app)
            self.prepare(host, binary)
            shutil.copy(self.host.path(ini_of(app)), host.path("/etc/autoscaler/autoscaler.ini"))
            host.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", "/etc/autoscaler/id_ed25519"])

    @staticmethod
    def prepare(host, binary):
        host.run(["mount", "--bind", "/etc/lab/bin", "/usr/local/bin"])
        host.install(binary, "autoscaler")

    def directory(self, app):
        """Step 2, and what the lab needs beside the keys of the page."""
        self.host.run(of(app, re.search("`(autoscaler [^`]* init)`", part("2"))[1]).split())
        subnet = next(iter(self.ec2.subnets.values()))
        lab = self.ec2.ini() + (
            f"[machine]\nscale_up_command = aws ec2 run-instances --image-id {self.ec2.image} --subnet-id {subnet}\n"
            "[scaling]\nprocfs = /var/lib/proc\nsample_interval = 100ms\nwindow = 500ms\ncooldown = 1s\n"
            f"[master]\nlease = 4s\n[haproxy]\nservers = lb1\nssh_user = root\nssh_params = {KEY}\n")
        for key, value in keys(of(app, block(part("2"), "ini"))) + keys(lab):
            self.host.run(["autoscaler", "-c", ini_of(app), "set", key, "-"], input=value)
        template = [each for each in re.findall(r"^```haproxy\n(.*?)^```", PAGE, re.M | re.S) if "$SERVERS" in each]
        assert len(template) == 1
        self.host.path(f"/etc/autoscaler/{app}/haproxy.cfg").write_text(of(app, template[0]))

    def let_in(self):
        """Step 4."""
        [line] = re.findall("^restrict,.*$", part("4"), re.M)
        lines = [re.sub("ssh-ed25519 <.*>$", host.path("/etc/autoscaler/id_ed25519.pub").read_text().strip(), of(app, line))
                 for app, host in self.first.items()]
        self.host.start_sshd(authorized_keys="\n".join(lines) + "\n")
        shutil.copy(self.host.path("/root/.ssh/id_ed25519"), self.host.path("/etc/autoscaler/id_ed25519"))

    def start(self):
        """Steps 3 and 5; returns HAProxy."""
        for line in block(part("3"), "sh").splitlines():
            if line.startswith("systemctl"):
                haproxy = self.host.start_haproxy("/etc/haproxy/haproxy.cfg", *self.files)
            else:
                self.host.run(["sh", "-ec", line.replace("10.0.0.", "10.77.0.")])
        self.host.path("/var/lib/log").mkdir()
        self.host.run(["mount", "--bind", "/var/lib/log", "/var/log"])
        self.host.path("/etc/sv").mkdir()
        self.host.path("/etc/service").mkdir()
        [service] = re.findall(r"^\| runit \| `(.*)` \|$", part("5"), re.M)
        for app in self.first:
            self.host.run(["sh", "-ec", of(app, service).replace("packaging/", f"{ROOT}/packaging/")])
        self.host.popen(["runsvdir", "-P", "/etc/service"])
        return haproxy

    def log(self, app):
        """Its master's."""
        return Log(self.host.path(f"/var/lib/log/autoscaler-master@{app}/current"))

    def serve(self, host, load=10):
        """What a machine does when it boots."""
        host.start_sshd()
        host.start_app(80)
        self.load[host.name] = ProcStat(host.path("/var/lib/proc"), load=load)
        host.on_kill(self.load[host.name].close)
        self.daemons[host.name] = host.popen(["autoscaler", "daemon"], log="daemon.log")

    def boot(self, binary, instance, address, params):
        """A machine of the app in whose name it was launched."""
        [app] = [app for app in self.first if self.cluster(app) in params.values()]
        host = self.net.host(instance, address)
        self.prepare(host, binary)
        for name in ("autoscaler.ini", "id_ed25519"):
            shutil.copy(self.first[app].path(f"/etc/autoscaler/{name}"), host.path(f"/etc/autoscaler/{name}"))
        self.serve(host)

    def cluster(self, app):
        return re.search("^name = (.*)$", self.host.path(ini_of(app)).read_text(), re.M)[1]

    def autoscaler(self, app, *arguments):
        return self.host.run(["autoscaler", "-c", ini_of(app), *arguments])

    def nodes(self, app):
        """The nodes of each master that answers for the app."""
        told = json.loads(self.autoscaler(app, "status", "--json").stdout)
        return [{node["name"].partition("/")[0] for node in master["nodes"]} for master in told["masters"]]

    def get(self, site):
        """Who answers."""
        with self.host.connect(80) as connection:
            connection.sendall(f"GET / HTTP/1.0\r\nHost: {site}.example.com\r\n\r\n".encode())
            return b"".join(iter(lambda: connection.recv(4096), b"")).decode().rpartition("\r\n\r\n")[2].strip()


def test_the_page(tmp_path, binary):
    assert [of("blog", shop) for shop, _ in COLUMNS] == [blog for _, blog in COLUMNS]
    assert len(COLUMNS) == 6 and all(shop in block(part("2"), "ini") for shop, _ in COLUMNS[1:])
    with Network(tmp_path) as net:
        site = None
        with Ec2Endpoint(host=net.host("aws"), on_terminate=lambda instance: net.hosts[instance].kill(),
                         on_launch=lambda *launched: site.boot(binary, *launched)) as ec2:
            site = Balancer(net, binary, ec2)
            site.let_in()
            haproxy = site.start()
            for app, host in site.first.items():
                site.serve(host)
                haproxy.wait_servers(1, backend=app)
                site.log(app).wait_line("tunnel app1: up")
                site.daemons[host.name].wait_line("master lb1: connected")
            each_scales_for_itself(site, ec2, haproxy)
            the_keys_are_each_apps_own(site)
            what_both_share_is_changed(site, haproxy)


def each_scales_for_itself(site, ec2, haproxy):
    assert site.cluster("shop") != site.cluster("blog")
    machines = {}
    for number, (app, other) in enumerate([("shop", "blog"), ("blog", "shop")]):
        first = site.first[app].name
        site.load[first].load = 90
        haproxy.wait_servers(2, backend=app, timeout=60)
        site.load[first].load = 10
        wait_until(lambda: len(ec2.running) == number + 1, 10, "one machine")
        [machines[app]] = set(ec2.running) - set(machines.values())
        # By commands, and not by a reload that the other would notice.
        assert [reloads for _, reloads in haproxy.workers] == [0]
        assert set(haproxy.servers(app)) == {"app1", machines[app]}
        assert machines[app] not in haproxy.servers(other)
    for app in site.first:
        wait_until(lambda: {site.get(app) for _ in range(4)} == {site.first[app].name, machines[app]}, 10, "both answer")
        wait_until(lambda: site.nodes(app) == [{site.first[app].name, machines[app]}], 20, "its master knows its nodes alone")
        # What cron does: nothing to do, nothing to say.
        [line] = [line for line in re.findall(r"^\* \* \* \* \* root (.*)$", part("5"), re.M) if f"/{app}/" in line]
        done = site.host.run(line.split())
        assert (done.stdout, done.stderr) == ("", "")


def the_keys_are_each_apps_own(site):
    """The shop's machines see the shop's entries, and have no way to the blog's."""
    for app, host in site.first.items():
        ssh = ["ssh", *KEY.split(), "-o", "BatchMode=yes", "root@lb1"]
        assert host.run([*ssh, "autoscaler list-hosts"]).stdout == site.autoscaler(app, "list-hosts").stdout
        assert host.run([*ssh, f"autoscaler -c {ini_of('shop')} list-hosts"], check=False).returncode == 77


def what_both_share_is_changed(site, haproxy):
    """A template that the check refuses, then one that needs a reload: the other app's servers stay as they are."""
    template = site.host.path("/etc/autoscaler/shop/haproxy.cfg")
    right, before = template.read_text(), haproxy.servers("blog")
    template.write_text(right + "    default_backend x\n    frobnicate\n")
    done = site.host.run(["autoscaler", "-c", ini_of("shop"), "generate"], check=False)
    assert done.returncode == 78 and "frobnicate" in done.stderr
    template.write_text(right.replace("roundrobin", "leastconn"))
    site.autoscaler("shop", "generate")
    wait_until(lambda: haproxy.servers("blog") == before, 10, "the blog goes on")
    haproxy.wait_servers(2, backend="shop")
