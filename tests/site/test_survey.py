"""Machines that are alive and sick, refusals that last, addresses that come again, entries that come and go: what is
amiss is put right without load, and nothing that serves is hurt. Real HAProxy, real sshd, EC2."""

import re

import at_rest
import pytest
from at_rest import LOOKS, a_site, down
from fault_site import Visitor
from lab import missing, wait_until

pytestmark = pytest.mark.skipif(missing("sshd", "haproxy") is not None, reason=str(missing("sshd", "haproxy")))

# Somebody stays

@pytest.mark.minutes
def test_the_last_that_serves_stays_and_the_one_that_does_not_goes(tmp_path, binary):
    at_rest.the_last_that_serves_stays(tmp_path, binary)


# What is refused for good

@pytest.mark.parametrize("how", ["protected", "command"])
def test_a_refused_termination_puts_the_machine_back_and_frees_the_lease(how, tmp_path, binary):
    at_rest.a_refused_termination_frees_the_lease(tmp_path, binary, how)


@pytest.mark.minutes
def test_old_ones_are_terminated_one_by_one_and_a_refusal_holds_up_nothing(tmp_path, binary):
    with a_site(tmp_path, binary) as site:
        old = [site.ec2.seed(f"10.77.0.{number}", {"autoscaler:cluster": "test"}) for number in (90, 91)]
        others = [site.ec2.seed("10.77.0.92", {"autoscaler:cluster": "test2"}), site.ec2.seed("10.77.0.93", {"Name": "test"})]
        site.ec2.fail_next("TerminateInstances", n=None, kind="UnauthorizedOperation")
        refused = ".*: EC2 TerminateInstances: UnauthorizedOperation: .*allow ec2:TerminateInstances"
        wait_until(lambda: any(re.search(refused, each.text()) for each in site.daemons.values()), LOOKS, "it is named")
        # What is needed is launched all the same.
        site.load["app1"].load = 90
        site.haproxies["lb1"].wait_servers(3, timeout=60)
        site.load["app1"].load = 10
        assert set(old) <= set(site.ec2.running) and len(site.ec2.launched) == 1
        site.ec2.clear_faults()
        wait_until(lambda: set(site.terminated()) == set(old), 200, "both are terminated")
        assert len(site.terminated()) == 2 and not set(others) - set(site.ec2.running)
        assert set(site.ids.values()) < set(site.ec2.running) and len(site.ec2.launched) == 1
        for each in old:
            site.masters["lb1"].wait_line(f"terminated {each}")


# Nothing is launched that no HAProxy could take

def test_nothing_is_launched_while_no_haproxy_could_take_it(tmp_path, binary):
    at_rest.nothing_is_launched_while_no_haproxy_could_take_it(tmp_path, binary, "template")


def test_a_changed_host_key_launches_nothing(tmp_path, binary):
    with a_site(tmp_path, binary, apps=1) as site:
        [lb] = site.balancers
        site.apps[0].run(["autoscaler", "check"], check=False)  # so that the key is known
        lb.stop_sshd()
        for suffix in ("", ".pub"):
            lb.path(f"/etc/ssh/ssh_host_ed25519_key{suffix}").unlink()
        lb.start_sshd()
        site.load["app1"].load = 90
        site.daemons["app1"].wait_line("lb1.*(REMOTE HOST IDENTIFICATION HAS CHANGED|[Hh]ost key)", timeout=60)
        site.looked(2)
        assert site.ec2.launched == [] and site.terminated() == []


def test_a_stray_file_among_the_entries_is_named_and_passed_over(tmp_path, binary):
    with a_site(tmp_path, binary, apps=1) as site:
        [lb] = site.balancers
        lb.path("/etc/autoscaler/hosts.d/README").write_text("one file per app server\nsee the manual\n")
        done = lb.run(["autoscaler", "list-hosts"])
        assert "README" in done.stderr and list(site.listed(lb)) == ["app1"]
        site.load["app1"].load = 90
        site.haproxies["lb1"].wait_servers(2, timeout=30)
        [new] = site.ec2.launched
        assert site.listed(lb)[new] == new and lb.path("/etc/autoscaler/hosts.d/README").exists()


# An address proves nothing

@pytest.mark.minutes
def test_a_machine_at_an_old_address_takes_the_entrys_place(tmp_path, binary):
    at_rest.a_machine_at_an_old_address_takes_the_entrys_place(tmp_path, binary)


def test_a_stale_entry_does_not_make_a_sick_machine_an_entered_one(tmp_path, binary):
    with a_site(tmp_path, binary, machine={"boot_timeout": "5s"}) as site:
        [lb] = site.balancers
        dead = site.ec2.seed("10.77.0.90", {"autoscaler:cluster": "test"})
        lb.run(["autoscaler", "add-host", "10.77.0.90", "80", "--id", dead, "--apply"])
        site.ec2.end(dead)
        sick = site.ec2.seed("10.77.0.90", {"autoscaler:cluster": "test"})
        wait_until(lambda: dead not in site.listed(lb).values(), LOOKS, "the dead one's entry is gone")
        wait_until(lambda: site.terminated() == [sick], LOOKS, "who never served is terminated")
        assert set(site.listed(lb)) == set(site.haproxies["lb1"].servers()) == {"app1", "app2"}


# What serves is entered

@pytest.mark.minutes
def test_a_haproxy_host_made_anew_gets_all_that_serve(tmp_path, binary):
    at_rest.a_haproxy_host_made_anew_gets_all_that_serve(tmp_path, binary)


def test_an_entry_that_went_on_one_host_comes_back_unless_it_was_removed(tmp_path, binary):
    with a_site(tmp_path, binary, balancers=2, apps=3, machine={"boot_timeout": "10m"}) as site:
        lb1, lb2 = site.balancers
        lb1.path("/etc/autoscaler/hosts.d/app2").unlink()
        lb1.run(["autoscaler", "generate"])
        lb2.run(["autoscaler", "remove-host", "app3", "--apply"])
        wait_until(lambda: site.ids["app2"] in site.listed(lb1).values(), LOOKS, "app2 is there again")
        site.looked(2)
        assert sorted(site.listed(lb1).values()) == sorted(site.ids.values())
        assert site.ids["app3"] not in site.listed(lb2).values()


# What is gone, missing or sick is replaced

def test_what_ends_in_the_console_leaves_every_haproxy_and_is_replaced(tmp_path, binary):
    with a_site(tmp_path, binary, balancers=2, apps=3, min_hosts="3", max_hosts="3") as site:
        gone = site.ids["app3"]
        site.ec2.end(gone)
        for lb in site.balancers:
            wait_until(lambda lb=lb: gone not in site.listed(lb).values(), LOOKS, f"it is out of {lb.name}")
        wait_until(lambda: site.ec2.launched, LOOKS, "another one is launched")
        for haproxy in site.haproxies.values():
            haproxy.wait_servers(3, timeout=40)
        [new] = site.ec2.launched
        assert all(set(site.listed(lb).values()) == {site.ids["app1"], site.ids["app2"], new} for lb in site.balancers)
        assert site.terminated() == []


def test_what_min_hosts_lacks_is_launched_whatever_the_load(tmp_path, binary):
    with a_site(tmp_path, binary, apps=1, min_hosts="3") as site:
        site.haproxies["lb1"].wait_servers(3, timeout=LOOKS)
        assert len(site.ec2.launched) == 2 and len(site.ec2.calls("RunInstances")) == 1
        site.masters["lb1"].wait_line("launched 2 machines: .*: 2 fewer machines than min_hosts 3")


@pytest.mark.minutes
def test_one_that_hangs_is_replaced_before_it_goes(tmp_path, binary):
    with a_site(tmp_path, binary, apps=3, min_hosts="3", replace_after="70s") as site:
        down(site, "app3")
        wait_until(lambda: site.terminated(), 200, "it is terminated")
        [new] = site.ec2.launched
        assert site.haproxies["lb1"].servers().get(new) == "UP", "there first"
        assert site.terminated() == [site.ids["app3"]]
        wait_until(lambda: "app3" not in site.listed(site.balancers[0]), LOOKS, "its entry is gone")


@pytest.mark.minutes
def test_half_of_a_site_that_is_down_is_no_reason_to_end_any(tmp_path, binary):
    with a_site(tmp_path, binary, apps=4, replace_after="3s") as site:
        down(site, "app3", "app4")
        found = wait_until(lambda: [each for each in site.daemons.values() if "the fault is elsewhere" in each.text()],
                           LOOKS, "it is said")
        site.looked(1)
        assert found and site.terminated() == [] and all(app.alive for app in site.apps) and site.ec2.launched == []


@pytest.mark.minutes
def test_what_a_person_took_out_stays_out(tmp_path, binary):
    """MAINT in HAProxy; and `remove-host` with the tag."""
    with a_site(tmp_path, binary, apps=4, replace_after="3s", machine={"boot_timeout": "3s"}) as site:
        [lb] = site.balancers
        site.haproxies["lb1"].command("set server servers/app3 state maint")
        site.ec2.tag(site.ids["app4"], autoscaler_keep="")
        lb.run(["autoscaler", "remove-host", "app4", "--apply"])
        site.looked(3, timeout=220)
        assert site.haproxies["lb1"].servers() == {"app1": "UP", "app2": "UP", "app3": "MAINT"}
        assert site.terminated() == [] and all(app.alive for app in site.apps) and site.ec2.launched == []


@pytest.mark.minutes
def test_a_recommendation_at_max_hosts_takes_nobody_out(tmp_path, binary):
    with a_site(tmp_path, binary, max_hosts="2") as site:
        site.ec2.imds.spot = True
        for app in site.apps:  # both read at the start whether they are spot instances
            site.daemons[app.name].kill()
            site.start_daemon(app)
            site.daemons[app.name].wait_line("master lb1: connected")
        for known in site.ids.values():
            site.ec2.imds.notices[known] = "rebalance"
        with Visitor(site) as visitor:
            site.daemons["app1"].wait_line("rebalance", timeout=30)
            site.daemons["app2"].wait_line("rebalance", timeout=30)
            site.looked(2)
        assert visitor.failed == {"lb1": 0}
        assert site.haproxies["lb1"].servers() == {"app1": "UP", "app2": "UP"}
        assert site.terminated() == [] and site.ec2.launched == []
