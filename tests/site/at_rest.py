"""What is amiss on a site at rest, and how it is put right without load: for tests/site/test_survey.py, and for the table
that tests/site/faults.py makes.

Each scenario takes a directory for its site and the binary, fails by AssertionError, and returns the Visitor of the
site, who saw no request fail and whose stop-watch ran from the harm until all was well.
"""

import contextlib

from fault_site import Visitor
from lab import wait_until
from site_lab import TEMPLATE, Site, loads
from test_credentials import policy
from test_scale_down import CALM

# The next look comes within a minute, and EC2 and HAProxy have to be asked then.
LOOKS = 100


@contextlib.contextmanager
def a_site(scratch, binary, balancers=1, apps=2, machine=None, start=True, **scaling):
    """A site whose app servers are instances of the cluster."""
    settings = {"scaling": {"cooldown": "1s", "scale_down_threshold": "0", **scaling},
                "machine": {"boot_timeout": "20s", **(machine or {})}}
    with Site(scratch, binary, balancers=balancers, apps=apps, settings=settings, instances=True) as site:
        if start:
            site.start()
        yield site


def down(site, *names):
    """The apps on these end, their machines and daemons live on; every HAProxy has them DOWN."""
    for name in names:
        site.webs[name].kill()
    for haproxy in site.haproxies.values():
        wait_until(lambda haproxy=haproxy: all(haproxy.servers()[name] == "DOWN" for name in names), 10, "they are DOWN")


def nobody_noticed(visitor):
    """Every HAProxy answered all along; returns the Visitor."""
    assert not any(visitor.failed.values()) and all(count > 20 for count in visitor.answered.values()), vars(visitor)
    return visitor


def the_last_that_serves_stays(scratch, binary):
    """And the one that does not is the one to go."""
    with a_site(scratch, binary, **{**CALM["scaling"], "replace_after": "5s"}) as site:
        (app1, app2), [lb] = site.apps, site.balancers
        site.load["app1"].load = site.load["app2"].load = 30
        down(site, "app1")
        with Visitor(site) as visitor:
            site.load["app2"].load = 0
            site.daemons["app2"].wait_line("nobody else is UP", timeout=30)
            for refused in (app2.run(["autoscaler", "scale-down"], check=False),
                            lb.run(["autoscaler", "remove-host", "app2", "--apply"], check=False)):
                assert refused.returncode == 75, refused
            wait_until(lambda: not app1.alive, LOOKS, "app1 is terminated")
            wait_until(lambda: site.listed(lb) == {"app2": site.ids["app2"]}, LOOKS, "its entry is gone")
        assert site.terminated() == [site.ids["app1"]] and app2.alive and site.ec2.launched == []
    return nobody_noticed(visitor)


# Who refuses a termination, and what is said of it.
REFUSALS = {"protected": "may not be terminated", "command": "not today",
            "right": "allow ec2:TerminateInstances in the IAM policy"}


def a_refused_termination_frees_the_lease(scratch, binary, how):
    """Drained by then or not, the machine serves on. `how`: one of REFUSALS."""
    machine = {"scale_down_command": "echo not today >&2; exit 1"} if how == "command" else {}
    with a_site(scratch, binary, machine=machine, **CALM["scaling"]) as site:
        [lb] = site.balancers
        if how == "protected":
            site.ec2.protect(site.ids["app2"])
        elif how == "right":
            site.ec2.policy = policy(site.ec2, cluster="test", without=["ec2:TerminateInstances"])
        site.load["app1"].load = 30
        wait_until(lambda: loads(lb).get("app1", 0) >= 25, 20, "the master knows what app1 has to do")
        with Visitor(site) as visitor:
            site.load["app2"].load = 5
            site.daemons["app2"].wait_line(REFUSALS[how], timeout=60)
            if how != "right":  # a dry run tells of that one before the drain
                site.daemons["app2"].wait_line("goes back into service", timeout=60)
            site.masters["lb1"].wait_line("app2.*gave the lease back")
            wait_until(lambda: list(site.haproxies["lb1"].servers().values()) == ["UP", "UP"], 20, "both serve")
            visitor.whole()
            assert sorted(site.listed(lb).values()) == sorted(site.ids.values())
            # Backed off from, and in nobody's way: the next need is met.
            site.load["app1"].load = site.load["app2"].load = 90
            site.haproxies["lb1"].wait_servers(3, timeout=40)
        assert site.net.hosts["app2"].alive and site.terminated() == []
    return nobody_noticed(visitor)


def _template(lb):
    template = lb.path("/etc/autoscaler/haproxy.cfg")
    template.write_text(TEMPLATE.replace("balance", "ballance"))
    return lambda: template.write_text(TEMPLATE)


def _disk(lb):
    hosts = "/etc/autoscaler/hosts.d"
    lb.run(["/bin/sh", "-c", f"cp -a {hosts} /tmp/kept && mount -t tmpfs -o size=64k none {hosts} && cp -a /tmp/kept/. {hosts}"])
    lb.run(["/bin/sh", "-c", f"cat /dev/zero >{hosts}/.full"], check=False)
    return lambda: lb.run(["umount", hosts])


# What keeps a HAProxy host from taking an entry, and what is said of it.
HINDRANCES = {"template": (_template, "unknown keyword 'ballance'"), "disk": (_disk, "No space left on device")}


def nothing_is_launched_while_no_haproxy_could_take_it(scratch, binary, why):
    """Whatever the load; and then one of two HAProxy hosts can again. `why`: one of HINDRANCES."""
    hinder, says = HINDRANCES[why]
    with a_site(scratch, binary, balancers=2, apps=1) as site, Visitor(site) as visitor:
        mend, _ = [hinder(lb) for lb in site.balancers]
        site.load["app1"].load = 90
        site.daemons["app1"].wait_line(f"HAProxy host lb2: .*{says}", timeout=30)
        site.masters["lb1"].wait_line(f"gave the lease back.*{says}")
        assert says in site.apps[0].run(["autoscaler", "status"]).stdout
        site.looked()
        assert site.ec2.launched == [] and site.ec2.calls("RunInstances") == []
        mend()
        visitor.harmed()
        site.haproxies["lb1"].wait_servers(2, timeout=90)
        visitor.whole()
        assert len(site.ec2.launched) == 1
    return nobody_noticed(visitor)


def a_machine_at_an_old_address_takes_the_entrys_place(scratch, binary):
    """And keeps it."""
    with a_site(scratch, binary, balancers=2, apps=1) as site, Visitor(site) as visitor:
        dead = site.ec2.seed("10.77.0.100", {"autoscaler:cluster": "test"})
        for lb in site.balancers:
            lb.run(["autoscaler", "add-host", "10.77.0.100", "80", "--id", dead, "--apply"])
        site.ec2.end(dead)
        site.ec2.forget(dead)
        site.load["app1"].load = 90
        wait_until(lambda: site.ec2.launched, 30, "it is launched")
        visitor.harmed()
        site.load["app1"].load = 10
        [new] = site.ec2.launched
        assert site.ec2.instances[new].address == "10.77.0.100"
        for lb in site.balancers:
            wait_until(lambda lb=lb: set(site.listed(lb).values()) == {site.ids["app1"], new}, 40, "it has the place")
            wait_until(lambda lb=lb: new in site.get(lb, 2), 20, f"{new} answers")
            # The host key of the old one locks nobody out.
            site.masters[lb.name].wait_line(f"tunnel {new}: up", timeout=30)
        visitor.whole()
        for lb in site.balancers:
            lb.run(["autoscaler", "prune", "--apply"], check=False)
        site.looked()
        assert site.net.hosts[new].alive and site.terminated() == []
        assert all(set(site.listed(lb).values()) == {site.ids["app1"], new} for lb in site.balancers)
    return nobody_noticed(visitor)


def a_haproxy_host_made_anew_gets_all_that_serve(scratch, binary):
    """One of four was entered by hand."""
    with a_site(scratch, binary, apps=4) as site, Visitor(site) as visitor:
        [lb], entries = site.balancers, site.balancers[0].path("/etc/autoscaler/hosts.d")
        site.masters["lb1"].kill()
        for entry in entries.iterdir():
            entry.unlink()
        lb.run(["autoscaler", "add-host", site.apps[0].address, "80", "--name", "app1", "--id", site.ids["app1"], "--apply"])
        site.haproxies["lb1"].wait_servers(1)
        site.start_master(lb)
        site.haproxies["lb1"].wait_servers(4, timeout=LOOKS)
        visitor.whole()
        assert sorted(site.listed(lb).values()) == sorted(site.ids.values())
        site.looked(1)
        assert site.terminated() == [] and site.ec2.launched == []
    return nobody_noticed(visitor)
