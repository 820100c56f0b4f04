"""Capacity by an Auto Scaling group: the group launches, everything else is as with run-instances."""

import pytest
from lab import missing, wait_until
from site_lab import Site
from test_check import on

pytestmark = pytest.mark.skipif(missing("sshd", "haproxy") is not None, reason=str(missing("sshd", "haproxy")))

COMMAND = "aws autoscaling set-desired-capacity --auto-scaling-group-name web --desired-capacity $DESIRED"
SCALING = {"cooldown": "1s", "scale_down_threshold": "20", "scale_down_window": "1s", "scale_down_cooldown": "1s",
           "min_hosts": "1", "drain_timeout": "10s"}
TAG = {"autoscaler:cluster": "test"}


def group_site(tmp_path, binary, balancers=1, apps=1, scale_down_command="", scaling=None, tags=TAG, **group):
    """A site whose machines come from the group `web`, after a moment."""
    settings = {"machine": {"scale_up_command": COMMAND, "scale_down_command": scale_down_command},
                "scaling": SCALING | (scaling or {})}
    site = Site(tmp_path, binary, balancers=balancers, apps=apps, settings=settings)
    site.boot_load = 30
    site.ec2.groups.create("web", tags=tags, **group)
    site.ec2.groups.delay = 0.5
    return site


LEAVE = ("aws autoscaling terminate-instance-in-auto-scaling-group --instance-id $INSTANCE_ID"
         " --should-decrement-desired-capacity")


@pytest.mark.parametrize("scale_down_command", ["", LEAVE])
def test_the_group_grows_and_shrinks_with_the_load(scale_down_command, tmp_path, binary):
    with group_site(tmp_path, binary, balancers=2, scale_down_command=scale_down_command) as site:
        site.start()
        [app], ec2 = site.apps, site.ec2
        site.load["app1"].load = 90
        for haproxy in site.haproxies.values():
            haproxy.wait_servers(2, timeout=30)
        site.load["app1"].load = 30
        [new] = ec2.launched
        [call] = ec2.calls("SetDesiredCapacity")
        assert call.params == {"Action": "SetDesiredCapacity", "Version": "2011-01-01", "AutoScalingGroupName": "web",
                               "DesiredCapacity": "1"}
        wait_until(lambda: new in site.get(site.balancers[0], 2), 10, f"{new} answers")
        site.daemons["app1"].wait_line("Auto Scaling group web: desired capacity 0 raised to 1")
        for lb in site.balancers:
            site.daemons[new].wait_line(f"master {lb.name}: connected")
        # It leaves by the group, which does not replace it; the machine from outside of the group stays.
        site.load[new].load = 5
        wait_until(lambda: not site.net.hosts[new].alive, 40, f"{new} is terminated")
        [call] = ec2.calls("TerminateInstanceInAutoScalingGroup")
        assert (call.params["InstanceId"], call.params["ShouldDecrementDesiredCapacity"]) == (new, "true")
        assert ec2.groups.desired("web") == 0 and ec2.launched == [new] and ec2.running == []
        for lb in site.balancers:
            site.haproxies[lb.name].wait_servers(1)
        assert not ec2.calls("RunInstances") and not ec2.calls("TerminateInstances")


@pytest.mark.parametrize("at_once", [True, False])
def test_two_that_see_different_masters_ask_for_one(at_once, tmp_path, binary):
    with group_site(tmp_path, binary, balancers=2, apps=2, scaling={"cooldown": "30s"}) as site:
        site.split()
        (lb1, lb2), (app1, app2) = site.balancers, site.apps
        site.load["app1"].load = 95
        if not at_once:  # the second one comes when the group is about to launch
            site.ec2.groups.delay = 8.0
            site.ec2.wait_calls("SetDesiredCapacity", 1, 20, "ok")
        site.load["app2"].load = 95
        for lb in site.balancers:
            wait_until(lambda lb=lb: " i-" in lb.run(["autoscaler", "list-hosts"]).stdout, 30, f"it is in {lb.name}")
        for lb, app in ((lb1, app1), (lb2, app2)):
            site.masters[lb.name].wait_line(f"{app.name}: (launched a machine|gave the lease back)", timeout=20)
        assert len(site.ec2.launched) == 1 and site.ec2.groups.desired("web") == 1
        assert {call.params["DesiredCapacity"] for call in site.ec2.calls("SetDesiredCapacity")} == {"1"}
        assert at_once or len(site.ec2.calls("SetDesiredCapacity")) == 1


def test_what_the_group_has_launched_since_the_survey_counts(tmp_path, binary):
    """As where another node, which sees another master, was the first to ask."""
    with group_site(tmp_path, binary, scaling={"cooldown": "30s"}) as site:
        [lb], ec2 = site.balancers, site.ec2
        site.settings["haproxy"] = {"check_command": "touch /tmp/checks; while test -e /tmp/hold; do sleep 0.1; done;"
                                                     " haproxy -q -c -f $FILE"}
        site.start()
        lb.path("/tmp/hold").touch()
        lb.path("/tmp/checks").unlink(missing_ok=True)
        site.load["app1"].load = 95
        wait_until(lb.path("/tmp/checks").exists, 20, "it has surveyed, and asks whether a machine would be taken")
        ec2.groups.launch("web")
        wait_until(lambda: ec2.running, 10, "the group launches")
        lb.path("/tmp/hold").unlink()
        wait_until(lambda: " i-" in lb.run(["autoscaler", "list-hosts"]).stdout, 30, "it is entered")
        site.masters["lb1"].wait_line("app1: launched a machine")
        assert len(ec2.launched) == 1 and ec2.calls("SetDesiredCapacity") == []


def test_a_machine_whose_asker_died_is_entered_by_the_next(tmp_path, binary):
    with group_site(tmp_path, binary, apps=2) as site:
        site.start()
        site.ec2.groups.delay = 6.0
        site.load["app1"].load = 90
        site.ec2.wait_calls("SetDesiredCapacity", 1, 20, "ok")
        site.daemons["app1"].kill()
        site.load["app2"].load = 55  # with what app1 said last, a need for one
        site.haproxies["lb1"].wait_servers(3, timeout=40)
        # It found that the group was about to launch one.
        assert len(site.ec2.calls("SetDesiredCapacity")) == 1 and len(site.ec2.launched) == 1


def test_a_spot_instance_that_ec2_takes_back_leaves_its_group_smaller(tmp_path, binary):
    with group_site(tmp_path, binary, scaling={"scale_down_threshold": "0"}) as site:
        ec2 = site.ec2
        ec2.imds.spot = True
        site.start()
        site.load["app1"].load = 90
        site.haproxies["lb1"].wait_servers(2, timeout=30)
        [spot] = ec2.launched
        site.load["app1"].load = 30
        site.daemons[spot].wait_line("master lb1: connected")
        ec2.imds.notices[spot] = "interruption"
        wait_until(lambda: not site.net.hosts[spot].alive, 60, f"{spot} is terminated")
        # Its replacement is there, and the group makes no other one.
        [_, new] = ec2.launched
        assert ec2.running == [new] and ec2.groups.desired("web") == 1
        assert [call.params["InstanceId"] for call in ec2.calls("TerminateInstanceInAutoScalingGroup", "ok")] == [spot]
        assert set(site.get(site.balancers[0], 8)) == {"app1", new}


def test_bounds_and_what_the_group_does_on_its_own(tmp_path, binary):
    scaling = {"threshold": "100", "scale_down_threshold": "0"}
    with group_site(tmp_path, binary, scaling=scaling, tags={}, least=1, most=2, desired=0) as site:
        site.start(daemons=False)
        [lb], [app], ec2 = site.balancers, site.apps, site.ec2
        ini = app.path("/etc/autoscaler/autoscaler.ini")
        right = ini.read_text()

        def refused(code, *words):
            done = site.scale_up(app)
            assert done.returncode == code and all(word in done.stderr for word in words), done
            assert ec2.calls("SetDesiredCapacity") == []

        # What would be launched could not be found again.
        refused(78, "Auto Scaling group web: does not tag its instances autoscaler:cluster=test",
                "aws autoscaling create-or-update-tags --tags ResourceId=web,ResourceType=auto-scaling-group,"
                "Key=autoscaler:cluster,Value=test,PropagateAtLaunch=true")
        on(app).fails(78, "Auto Scaling group web: does not tag")
        down = "scale_down_command ="
        for wrong, word in ((right.replace("-name web", "-name wbe"), "Auto Scaling group wbe: is not there"),
                            (right.replace(down, f"{down} aws ec2 terminate-instances --instance-ids $INSTANCE_ID"),
                             "scale_down_command: the group would replace the machine"),
                            (right.replace(down, f"{down} {LEAVE.replace('--should', '--no-should')}"),
                             "scale_down_command: the group would replace the machine"),
                            (right.replace(down, f"{down} {COMMAND}"), "lets the group choose who leaves"),
                            (right.replace("$DESIRED", "4"), "--desired-capacity: a scale-up is one machine more")):
            ini.write_text(wrong)
            refused(78, word)
        ini.write_text(right)
        ec2.groups.tag("web", "autoscaler:cluster", "test")
        report = on(app).none("FAIL")
        report.has("ok", "Auto Scaling group web tags what it launches; it has 0 and may have 1 to 2")
        would = app.run(["autoscaler", "scale-up", "--dry-run"]).stdout
        assert would == "action SetDesiredCapacity\nAutoScalingGroupName=web\nDesiredCapacity=1\n"
        for denied in ("DescribeAutoScalingGroups", "SetDesiredCapacity"):
            ec2.fail_next(denied, 1, "AccessDenied", status=403)
            done = site.scale_up(app)
            assert done.returncode == 77 and f"allow autoscaling:{denied} in the IAM policy" in done.stderr, done
        assert ec2.launched == []

        # By hand, one; then one that the group makes for reasons of its own, long ago, which is entered as it is.
        assert site.scale_up(app).returncode == 0
        [first] = ec2.launched
        ec2.groups.launch("web")
        wait_until(lambda: len(ec2.launched) == 2, 10, "the group has launched one")
        second = ec2.launched[1]
        wait_until(lambda: second in site.daemons, 20, f"{second} has booted")
        for each in (first, second):
            ec2.instances[each].launched -= 3600
        asked = len(ec2.calls("SetDesiredCapacity"))

        def entered():
            site.scale_up(app)  # which has nothing to launch, and enters what serves by then
            return second in lb.run(["autoscaler", "list-hosts"]).stdout

        wait_until(entered, 30, f"{second} is entered")
        assert len(ec2.calls("SetDesiredCapacity")) == asked and ec2.running == [first, second]

        # No more than the group may have, and no fewer.
        wait_until(lambda: "MaxSize of 2" in (done := site.scale_up(app)).stderr and done.returncode == 75, 20, "full")
        on(app).fails(75, "Auto Scaling group web: is at its MaxSize of 2")
        gone = site.net.hosts[second]
        site.masters["lb1"].wait_line(f"tunnel {second}: up")
        wait_until(lambda: gone.run(["autoscaler", "scale-down"], check=False) and not gone.alive, 30, "it is terminated")
        assert ec2.running == [first]
        site.masters["lb1"].wait_line(f"tunnel {first}: up")
        stays = site.net.hosts[first]
        site.start_daemon(app)  # who does not report does not take a load over
        said = []

        def at_the_least():
            said.append(stays.run(["autoscaler", "scale-down"], check=False).stderr)
            return "MinSize of 1" in said[-1]

        wait_until(at_the_least, 30, lambda: f"the last stays: {said[-1]}")
        assert stays.alive and first in lb.run(["autoscaler", "list-hosts"]).stdout
