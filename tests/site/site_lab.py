"""A whole site in the lab: HAProxy hosts and app servers with the real binary, and EC2.

Each app server and each machine that EC2 "boots" is set up in the same way, as from one image:
sshd, an app on port 80, the INI, the binary, and its daemon.
"""

import contextlib
import json
import secrets

from lab import Ec2Endpoint, Network, ProcStat, wait_until

TEMPLATE = """\
global
    stats socket /run/haproxy/admin.sock mode 660 level admin
    hard-stop-after 5m
defaults
    mode http
    timeout connect 2s
    timeout client 30s
    timeout server 30s
frontend web
    bind :80
    default_backend servers
backend servers
    balance roundrobin
    default-server inter 200ms rise 1 fall 2
    $SERVERS
"""

TAG = {"autoscaler:cluster": "test"}
COMMAND = ("aws ec2 run-instances --image-id {image} --count 1 --instance-type t3.small --subnet-id {subnet}"
           " --user-data 'hello world'")


def loads(host):
    """{node: CPU percent} as `status` shows it on `host`; empty while no master answers."""
    told = host.run(["autoscaler", "status", "--json"], check=False).stdout or '{"masters": []}'
    return {node["name"].partition("/")[0]: node["cpu_percent"] for master in json.loads(told)["masters"] for node in master["nodes"]}


class Site(contextlib.ExitStack):
    """`balancers` HAProxy hosts lb1, lb2, … and `apps` app servers app1, app2, …; everything ends
    with the `with` block. `settings`: more lines for the INI, by section; `sections["scaling"]`. `instances`: the app
    servers are instances of the cluster, launched an hour ago; `ids` has them by name."""

    proc = "/var/lib/proc"  # where its hosts have the directory that daemons watch

    def __init__(self, scratch, binary, balancers=1, apps=1, settings=None, instances=False, **endpoint):
        super().__init__()
        self.binary, self.secret = binary, secrets.token_hex(16)
        self.net = self.enter_context(Network(scratch))
        aws = self.net.host("aws")
        self.balancers = [self.net.host(f"lb{n + 1}") for n in range(balancers)]
        self.apps = [self.net.host(f"app{n + 1}") for n in range(apps)]
        self.ec2 = self.enter_context(Ec2Endpoint(host=aws, on_launch=self._boot, on_terminate=self._off, **endpoint))
        self.settings = settings or {}
        self.load, self.masters, self.daemons, self.haproxies, self.webs = {}, {}, {}, {}, {}
        self.ids = {app.name: self.ec2.seed(app.address, TAG) for app in self.apps} if instances else {}
        self.boots = True  # False: what EC2 launches never serves
        self.boot_load = 10  # of what EC2 launches

    def ini(self):
        """The INI, the same on every node."""
        command = COMMAND.format(image=self.ec2.image, subnet=next(iter(self.ec2.subnets.values())))
        sections = {
            "machine": {"scale_up_command": command, "boot_timeout": "20s"},
            "scaling": {"procfs": "/var/lib/proc", "sample_interval": "100ms", "window": "500ms", "cooldown": "30s"},
            "master": {"lease": "4s"},
            "cluster": {"name": "test", "secret": self.secret},
            "haproxy": {"servers": ", ".join(lb.name for lb in self.balancers), "ssh_user": "root",
                        "config": "/etc/haproxy/haproxy.cfg"},
        }
        for section, keys in self.settings.items():
            sections.setdefault(section, {}).update(keys)
        text = self.ec2.ini()
        for section, keys in sections.items():
            text += f"[{section}]\n" + "".join(f"{key} = {value}\n" for key, value in keys.items())
        return text

    def configure(self, host):
        """The binary, the INI and sshd, on any host."""
        host.install(self.binary, "autoscaler")
        ini = host.path("/etc/autoscaler/autoscaler.ini")
        ini.write_text(self.ini())
        ini.chmod(0o600)
        host.start_sshd()

    def start(self, daemons=True):
        """Brings everything up: HAProxy with the app servers behind it, masters, tunnels, daemons."""
        for app in self.apps:
            self.configure(app)
            self.start_web(app)
        for lb in self.balancers:
            self.configure(lb)
            lb.path("/etc/autoscaler/haproxy.cfg").write_text(TEMPLATE)
            lb.path("/etc/autoscaler/hosts.d").mkdir(exist_ok=True)
            for app in self.apps:
                known = ["--id", self.ids[app.name]] if self.ids else []
                lb.run(["autoscaler", "add-host", app.address, "80", "--name", app.name, *known])
            lb.path("/etc/haproxy/haproxy.cfg").write_text(
                lb.run(["autoscaler", "generate", "--stdout"]).stdout)
            self.haproxies[lb.name] = lb.start_haproxy()
        for lb in self.balancers:
            self.haproxies[lb.name].wait_servers(len(self.apps))
            self.start_master(lb)
        for lb in self.balancers:
            for app in self.apps:
                self.masters[lb.name].wait_line(f"tunnel {app.name}: up")
        for app in self.apps:
            self.watch(app)
            if daemons:
                self.start_daemon(app)
        if daemons:
            for app in self.apps:
                for lb in self.balancers:
                    self.daemons[app.name].wait_line(f"master {lb.name}: connected")
        return self

    def split(self):
        """Brings up two of each, where app1 and its daemon see lb1 alone and app2 sees lb2 alone."""
        self.start(daemons=False)
        (lb1, lb2), (app1, app2) = self.balancers, self.apps
        for lb, other, own in ((lb1, app2, app1), (lb2, app1, app2)):
            lb.run(["autoscaler", "remove-host", other.name])
            self.masters[lb.name].wait_line(f"tunnel {other.name}: entry removed")
            self.masters[lb.name].wait_line(f"tunnel {own.name}: up")
        for lb, app in ((lb1, app1), (lb2, app2)):
            self.start_daemon(app)
            self.daemons[app.name].wait_line(f"master {lb.name}: connected")

    def start_master(self, lb):
        """`autoscaler master`, until it serves."""
        self.masters[lb.name] = lb.popen(["autoscaler", "master"], log="master.log")
        self.masters[lb.name].wait_line("serving on")

    def start_web(self, host):
        """The app itself."""
        self.webs[host.name] = host.start_app(80)

    def watch(self, host, load=10):
        """A /proc/stat of the host's own, for the daemon to watch."""
        self.load[host.name] = self.enter_context(ProcStat(host.path(self.proc), load=load))

    def start_daemon(self, host):
        """`autoscaler daemon`."""
        self.daemons[host.name] = host.popen(["autoscaler", "daemon"], log="daemon.log")
        self.daemons[host.name].wait_line("watching the CPU")

    def _boot(self, instance_id, address, params):
        host = self.net.host(instance_id, address)
        if self.boots:
            self.configure(host)
            self.watch(host, self.boot_load)
            self.start_web(host)
            self.start_daemon(host)

    def _off(self, instance_id):
        names = {known: name for name, known in self.ids.items()}
        host = self.net.hosts.get(names.get(instance_id, instance_id))
        if host:  # a seeded one may have no machine
            host.kill()

    def listed(self, lb):
        """{name: instance} of the entries on this HAProxy host."""
        rows = [line.split() for line in lb.run(["autoscaler", "list-hosts"]).stdout.splitlines()]
        return {row[0]: row[3] for row in rows}

    def terminated(self):
        """Ids that somebody asked EC2 to terminate, dry runs aside, in order."""
        return [call.params["InstanceId.1"] for call in self.ec2.calls("TerminateInstances", "ok")
                if call.params.get("DryRun") != "true"]

    def surveys(self):
        """How many times EC2 has been asked what there is: each look and each decision begins with it."""
        return sum("InstanceId.1" not in call.params for call in self.ec2.calls("DescribeInstances"))

    def looked(self, times=2, timeout=150):
        """Waits until EC2 has been asked what there is so many times more."""
        before = self.surveys()
        wait_until(lambda: self.surveys() >= before + times, timeout, f"{times} more looks")

    def scale_up(self, app, *options, timeout=60):
        """`autoscaler scale-up` by hand; returns the CompletedProcess."""
        return app.run(["autoscaler", "scale-up", *options], check=False, timeout=timeout)

    def get(self, lb, count=1):
        """Who answers `count` requests through HAProxy: the hosts' names, in order; "" for an error."""
        names = []
        for _ in range(count):
            with lb.connect(80) as connection:
                connection.sendall(b"GET / HTTP/1.0\r\nHost: site\r\n\r\n")
                answer = b"".join(iter(lambda: connection.recv(4096), b"")).decode()
            head, _, body = answer.partition("\r\n\r\n")
            names.append(body.strip() if " 200 " in head.split("\r\n")[0] else "")
        return names
