"""Machines that were launched and never came into service: entered or terminated by the next one that looks, and no
others."""

import socket

import pytest
from cli import refusal
from lab import wait_until
from loopback import Loopback

TAG = {"autoscaler:cluster": "default"}
NOT_OURS = [{}, {"Name": "default"}, {"autoscaler:cluster": "default2"}, {"autoscaler:cluster": "Default"},
            {"autoscaler:cluster": ""}, {"autoscaler:Cluster": "default"}, {"cluster": "default"}]


@pytest.fixture
def site(binary, tmp_path):
    """With instances of others, old and young, that must all be there at the end."""
    with Loopback(binary, tmp_path, {"machine": {"boot_timeout": "5s"}}) as site:
        others = [site.ec2.seed(f"127.0.3.{number}", tags, age=1 if number % 2 else 3600)
                  for number, tags in enumerate(NOT_OURS * 2, 1)]
        yield site
        assert set(others) <= set(site.ec2.running)
        assert not {call.params["InstanceId.1"] for call in site.ec2.calls("TerminateInstances")} & set(others)


def test_a_young_one_is_entered_and_no_other_launched(site):
    young = site.ec2.seed("127.0.2.1", TAG, age=1)
    with socket.create_server(("127.0.2.1", site.port)):
        assert site.scale_up().returncode == 0
    assert site.listed() == [young] and site.ec2.calls("RunInstances") == site.ec2.calls("TerminateInstances") == []


def test_a_young_one_that_does_not_serve_has_what_is_left_of_its_time(site):
    young = site.ec2.seed("127.0.2.1", TAG, age=3)
    line = refusal(site.scale_up(), 69)
    assert line.startswith(f"{young}: not healthy within boot_timeout: 127.0.2.1:{site.port}: ")
    [end] = site.ec2.calls("TerminateInstances")
    assert end.params["InstanceId.1"] == young and site.listed() == [] and site.ec2.launched == []
    # EC2 tells the launch in whole seconds, so it may look a second older than it is.
    assert 3.9 < end.time - site.ec2.instances[young].launched < 15
    # Backed off from, as by whoever launched it; the need is still there, and the next one answers it.
    assert "back-off after failures" in refusal(site.scale_up(), 75)
    wait_until(lambda: site.scale_up().returncode == 0, 20, "the back-off is over")
    assert site.listed() == site.ec2.launched and len(site.ec2.launched) == 1


def test_old_ones_are_left_to_whoever_looks_and_stand_in_no_launchs_way(site):
    """No HAProxy here says that anybody is UP, so nobody can tell whether they serve."""
    old = [site.ec2.seed(f"127.0.2.{number}", TAG) for number in (1, 2)]
    entered = site.ec2.seed("127.0.2.3", TAG)
    site.cli("add-host", "127.0.2.3", 81)  # known by its address alone
    assert site.scale_up().returncode == 0
    assert site.ec2.calls("TerminateInstances") == [] and {*old, entered} <= set(site.ec2.running)
    assert len(site.ec2.launched) == 1 and site.listed()[1:] == site.ec2.launched


def test_one_that_ends_while_it_is_waited_for_says_why(site):
    site.ec2.doom = ("Server.InternalError", "Server.InternalError: Internal error on launch")
    site.ec2.stop_delay = 600
    line = refusal(site.scale_up(), 69)
    [dead] = site.ec2.launched
    assert line == f"{dead}: is shutting-down: Server.InternalError: Internal error on launch"
    assert site.listed() == []


def test_an_adopted_one_is_no_second_launch_of_the_day(binary, tmp_path):
    """It counts once, for the holder that died after launching it."""
    settings = {"scaling": {"max_launches_per_day": "2"}}
    with Loopback(binary, tmp_path, settings) as site:
        site.ec2.fail_next("RunInstances", kind="hang-after")
        with site.cli.start("scale-up") as first:
            site.ec2.wait_calls("RunInstances")
            first.kill()
            first.wait(10)
        wait_until(lambda: site.scale_up().returncode == 0, 30, "the lease is free again")
        assert site.listed() == site.ec2.launched and len(site.ec2.launched) == 1
        assert site.scale_up().returncode == 0 and len(site.ec2.launched) == 2
        assert "max_launches_per_day" in refusal(site.scale_up(), 75)
