"""One scale-up with something going wrong at each of its steps: real HAProxy, real sshd, an EC2 endpoint that fails."""

import pytest
from lab import missing, wait_until
from site_lab import Site

pytestmark = pytest.mark.skipif(missing("sshd", "haproxy") is not None, reason=str(missing("sshd", "haproxy")))
TAG = "autoscaler:cluster"


def listed(lb):
    """{name: address} of the entries."""
    rows = [line.split() for line in lb.run(["autoscaler", "list-hosts"]).stdout.splitlines()]
    return {row[0]: row[1] for row in rows}


def test_a_haproxy_host_that_is_down_is_named_and_gets_the_machine_later(tmp_path, binary):
    with Site(tmp_path, binary, balancers=2) as site:
        site.start()
        lb1, lb2 = site.balancers
        lb2.stop_sshd()
        site.load["app1"].load = 90
        daemon = site.daemons["app1"]
        daemon.wait_line("HAProxy host lb2: ", timeout=30)
        site.haproxies["lb1"].wait_servers(2)
        [new] = site.ec2.launched
        assert new in listed(lb1) and new not in listed(lb2)
        # The lease is not kept for it.
        site.masters["lb1"].wait_line("app1: launched a machine")
        site.masters["lb2"].wait_line("app1: launched a machine")
        lb2.start_sshd()
        site.haproxies["lb2"].wait_servers(2, timeout=30)
        assert new in listed(lb2) and site.ec2.launched == [new]


def test_a_machine_whose_launcher_died_is_finished_by_the_next_one(tmp_path, binary):
    with Site(tmp_path, binary, apps=2, boot_delay=2.0) as site:
        site.start()
        site.load["app1"].load = 90
        site.ec2.wait_calls("RunInstances", timeout=20)
        site.daemons["app1"].kill()
        [orphan] = site.ec2.launched
        site.load["app2"].load = 55  # with what app1 said last, a need for one
        # Within one lease, that of the dead one.
        site.masters["lb1"].wait_line("app1: (the lease ran out|launched a machine)")
        site.daemons["app2"].wait_line(orphan, timeout=90)
        site.load["app2"].load = 30  # there is no need for another one
        site.daemons["app2"].wait_line(f"{orphan} is in HAProxy on lb1", timeout=90)
        site.haproxies["lb1"].wait_servers(3, timeout=30)
        assert listed(site.balancers[0])[orphan] == site.net.hosts[orphan].address
        assert site.ec2.launched == site.ec2.running == [orphan]
        assert len(site.ec2.calls("RunInstances")) == 1


def test_a_machine_that_does_not_become_healthy_is_terminated(tmp_path, binary):
    settings = {"machine": {"boot_timeout": "3s"}, "scaling": {"cooldown": "8s"}}
    with Site(tmp_path, binary, settings=settings) as site:
        site.boots = False
        site.start()
        site.load["app1"].load = 90
        site.ec2.wait_calls("TerminateInstances", timeout=20)
        [sick] = site.ec2.launched
        daemon = site.daemons["app1"]
        daemon.wait_line(f"{sick}: not healthy within boot_timeout: .*:80")
        site.masters["lb1"].wait_line(f"app1: .*{sick}: not healthy within boot_timeout")
        assert site.ec2.running == [] and list(listed(site.balancers[0])) == ["app1"]
        launch, end = site.ec2.calls("RunInstances")[0], site.ec2.calls("TerminateInstances")[0]
        assert end.params["InstanceId.1"] == sick and end.time - launch.time >= 2.9
        # Back-off: the load stays, and the cooldown is over after 8 s, but that of the failure begins with it.
        site.boots = True
        site.haproxies["lb1"].wait_servers(2, timeout=40)
        first, second = site.ec2.calls("RunInstances")
        assert second.time - end.time >= 7.9
        assert first.params["ClientToken"] != second.params["ClientToken"] and len(site.ec2.running) == 1


@pytest.mark.minutes
def test_an_old_orphan_is_terminated_only_when_every_haproxy_could_be_asked(tmp_path, binary):
    """Nor while one of them lists it."""
    with Site(tmp_path, binary, balancers=2, apps=2) as site:
        (lb1, lb2), app = site.balancers, site.apps[0]
        site.start(daemons=False)
        orphan, entered_there = site.ec2.seed("10.77.0.90", {TAG: "test"}), site.ec2.seed("10.77.0.89", {TAG: "test"})
        # Those that HAProxy knows by their address, and those of others, are none.
        entered = site.ec2.seed(app.address, {TAG: "test"})
        others = [site.ec2.seed("10.77.0.91", {TAG: "test2"}), site.ec2.seed("10.77.0.92", {"Name": "test"})]
        lb2.run(["autoscaler", "add-host", "10.77.0.89", "80", "--id", entered_there, "--apply"])
        lb2.stop_sshd()
        for each in site.apps:
            site.start_daemon(each)

        site.looked(2)
        assert site.terminated() == []
        lb2.start_sshd()
        wait_until(site.terminated, 150, f"{orphan} is terminated")
        site.looked(1)
        assert site.terminated() == [orphan] and site.ec2.launched == []
        assert entered_there in listed(lb2) and entered_there not in listed(lb1)
        assert set(site.ec2.running) == {entered, entered_there, *others}


def test_without_capacity_the_next_subnet_and_type_get_tokens_of_their_own(tmp_path, binary):
    with Site(tmp_path, binary) as site:
        first, second = list(site.ec2.subnets.values())[:2]
        site.settings["machine"] = {"fallback_subnet_ids": second, "fallback_instance_types": "t3.large"}
        site.ec2.set_capacity(0, type="t3.small")
        site.ec2.set_capacity(0, subnet=first, type="t3.large")
        site.start()
        site.load["app1"].load = 90
        site.haproxies["lb1"].wait_servers(2, timeout=30)
        calls = site.ec2.calls("RunInstances")
        assert [(call.params["SubnetId"], call.params["InstanceType"]) for call in calls] == [
            (first, "t3.small"), (second, "t3.small"), (first, "t3.large"), (second, "t3.large")]
        assert len({call.params["ClientToken"] for call in calls}) == 4
        [new] = site.ec2.launched
        assert site.ec2.instances[new].subnet == second and site.ec2.instances[new].type == "t3.large"


def test_a_lost_answer_is_asked_for_again_with_the_same_token(tmp_path, binary):
    with Site(tmp_path, binary, visible_delay=1.0) as site:
        site.start()
        site.ec2.fail_next("RunInstances", kind="reset-after")
        site.ec2.fail_next("RunInstances", kind="truncate")
        site.ec2.fail_next("DescribeInstances", kind="RequestLimitExceeded")
        site.load["app1"].load = 90
        site.haproxies["lb1"].wait_servers(2, timeout=30)
        calls = site.ec2.calls("RunInstances")
        assert [call.verdict for call in calls] == ["reset-after", "truncate", "ok"]
        assert len({call.params["ClientToken"] for call in calls}) == 1
        assert len(site.ec2.launched) == len(site.ec2.running) == 1


def test_a_holder_whose_tunnel_breaks_keeps_the_lease_and_comes_to_the_end(tmp_path, binary):
    # Long enough for ssh and the tunnels to come back within it.
    with Site(tmp_path, binary, apps=2, boot_delay=3.0, settings={"master": {"lease": "15s"}}) as site:
        site.start()
        [lb] = site.balancers
        # Its launch takes its time, and with it the lease.
        site.ec2.fail_next("RunInstances", n=None, kind="RequestLimitExceeded")
        site.load["app1"].load = 90
        site.ec2.wait_calls("RunInstances", timeout=20)
        mark = site.daemons["app1"].mark()
        site.masters["lb1"].kill()
        site.daemons["app1"].wait_line("master lb1: connection lost", after=mark)
        site.load["app2"].load = 55  # with app1's, a need for one
        site.start_master(lb)
        site.masters["lb1"].wait_line("app1: is back and holds its lease")
        site.ec2.clear_faults()
        site.masters["lb1"].wait_line("app1: launched a machine", timeout=20)
        site.haproxies["lb1"].wait_servers(3, timeout=20)
        assert len(site.ec2.launched) == len(site.ec2.calls("RunInstances", "ok")) == 1
