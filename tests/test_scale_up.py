"""The main job, end to end: real HAProxy, real sshd, an EC2 endpoint that checks every signature."""

import pytest
from lab import missing, wait_until
from site_lab import Site

pytestmark = pytest.mark.skipif(missing("sshd", "haproxy") is not None, reason=str(missing("sshd", "haproxy")))


def test_three_busy_servers_launch_one_machine(tmp_path, binary):
    with Site(tmp_path, binary, balancers=2, apps=3) as site:
        site.start()
        for app in site.apps:
            site.load[app.name].load = 90
        for haproxy in site.haproxies.values():
            haproxy.wait_servers(4, timeout=30)
        [new] = site.ec2.launched
        for lb in site.balancers:
            wait_until(lambda lb=lb: new in site.get(lb), 10, f"{new} answers through {lb.name}")
            listing = lb.run(["autoscaler", "list-hosts"]).stdout
            assert f"{new} {site.net.hosts[new].address} 80 {new}\n" in listing
        # It joins, and nobody launches another one while the cooldown lasts.
        site.daemons[new].wait_line("master lb1: connected")
        site.daemons[new].wait_line("master lb2: connected")
        assert len(site.ec2.calls("RunInstances")) == 1
        assert all(call.verdict == "ok" for call in site.ec2.requests)
