"""`replace`, and what `scale-up` takes: several machines, waiting, passing over a cooldown. Real parts."""

import json
import re

import at_rest
import pytest
from fault_site import Visitor
from lab import missing, wait_until

pytestmark = pytest.mark.skipif(missing("sshd", "haproxy") is not None, reason=str(missing("sshd", "haproxy")))


def a_site(tmp_path, binary, **settings):
    """One whose load asks for nothing, not started yet."""
    return at_rest.a_site(tmp_path, binary, start=False, threshold="100", **{"apps": 3, **settings})


def roll(app, *whom):
    """Runs `replace` there, from outside of the machines that it may end."""
    return app.run(["autoscaler", "replace", *whom], check=False, timeout=180)


def rolled(app, *whom, timeout):
    """Runs `replace` again, as it says, until it has done all of it."""
    def done():
        tried = roll(app, *whom)
        assert tried.returncode in (0, 75), tried
        return tried.returncode == 0
    wait_until(done, timeout, "the roll goes on to its end")


def booting(host):
    """How many machines are on their way, as the master has it."""
    [master] = json.loads(host.run(["autoscaler", "status", "--json"]).stdout)["masters"]
    return master["hosts"]["booting"]


def test_a_site_is_rolled_under_load_and_no_request_fails(tmp_path, binary):
    with a_site(tmp_path, binary, balancers=2, apps=4, max_hosts="4") as site:
        site.start()
        old = dict(site.ids)
        with Visitor(site) as visitor:
            done = roll(site.apps[0], "--all")
        assert done.returncode == 0 and done.stdout == "", done
        # Its own machine is left out, and named.
        assert f"{old['app1']}: is this machine, and left out" in done.stderr
        assert site.net.hosts["app1"].alive
        wait_until(lambda: not any(site.net.hosts[f"app{n}"].alive for n in (2, 3, 4)), 10, "the old ones are off")
        assert visitor.failed == {"lb1": 0, "lb2": 0} and min(visitor.answered.values()) > 30
        assert len(site.ec2.launched) == 3 and sorted(site.terminated()) == sorted(old[f"app{n}"] for n in (2, 3, 4))
        for lb in site.balancers:
            assert sorted(site.listed(lb).values()) == sorted([old["app1"], *site.ec2.launched])
            assert set(site.haproxies[lb.name].servers().values()) == {"UP"}
        # The new one was there before the old one went, each time: never fewer, and one more at most.
        order = [call.action for call in site.ec2.requests if call.verdict == "ok" and call.params.get("DryRun") != "true"
                 and call.action in ("RunInstances", "TerminateInstances")]
        assert order == ["RunInstances", "TerminateInstances"] * 3
        # It has started no cooldown.
        assert "cooldown" not in site.scale_up(site.apps[0], "--dry-run").stderr


# What the log says as each step is done.
STEPS = ("granted", "launched", "runs at", "is healthy", "is in HAProxy on lb1", "is out of HAProxy on lb1", "is terminated")


@pytest.mark.minutes
def test_ten_are_rolled_though_it_is_stopped_at_each_step(tmp_path, binary):
    with a_site(tmp_path, binary, apps=11, max_hosts="11") as site:
        site.ec2.image = "ami-0new"
        site.start()
        app = site.apps[0]
        command = ["autoscaler", "-v", "replace", "--not-image", "ami-0new"]
        with Visitor(site) as visitor:
            for step in STEPS:
                stopped = app.popen(command, log=f"stopped {step}.log")
                stopped.wait_line(step, timeout=60)
                stopped.kill()
                stopped.wait()
            rolled(app, "--not-image", "ami-0new", timeout=170)
        assert visitor.failed == {"lb1": 0} and visitor.answered["lb1"] > 100
        # Each old one went once, and nothing else; of what was launched in vain, one is left over at most.
        assert sorted(site.terminated()) == sorted(site.ids[f"app{n}"] for n in range(2, 12))
        assert len(site.haproxies["lb1"].wait_servers(len(site.ec2.running))) in (11, 12), site.ec2.launched


def test_a_replacement_that_does_not_serve_stops_the_roll_and_the_old_one_stays(tmp_path, binary):
    with a_site(tmp_path, binary, machine={"boot_timeout": "5s"}) as site:
        site.start()
        site.boots = False
        with Visitor(site) as visitor:
            done = roll(site.apps[0], "app2", "app3")
        assert done.returncode == 69 and "not healthy within boot_timeout" in done.stderr, done
        [sick] = site.ec2.launched
        assert site.terminated() == [sick] and all(app.alive for app in site.apps) and visitor.failed == {"lb1": 0}
        assert site.haproxies["lb1"].servers() == {app.name: "UP" for app in site.apps}
        # Run again, it goes on.
        site.boots = True
        rolled(site.apps[0], "app2", "app3", timeout=150)
        assert sorted(site.terminated()) == sorted([sick, site.ids["app2"], site.ids["app3"]])
        assert len(site.haproxies["lb1"].wait_servers(3)) == 3


def test_by_image_and_by_what_is_not_there(tmp_path, binary):
    with a_site(tmp_path, binary, apps=2) as site:
        site.start()
        # All run the image of the command.
        done = roll(site.apps[0], "--not-image", site.ec2.image)
        assert (done.returncode, done.stdout, done.stderr) == (0, "", "") and site.ec2.launched == []
        done = roll(site.apps[0], "nobody")
        assert done.returncode not in (0, 70) and "nobody" in done.stderr and site.ec2.launched == []
        done = roll(site.apps[0], "app1")
        assert "is this machine" in done.stderr and site.ec2.launched == [] and site.terminated() == []
        done = roll(site.apps[0], "--not-image", "ami-0new")
        assert done.returncode == 0 and site.terminated() == [site.ids["app2"]] and len(site.ec2.launched) == 1


# scale-up by hand

def test_two_at_once_by_hand(tmp_path, binary):
    with a_site(tmp_path, binary, apps=1) as site:
        site.start()
        done = site.scale_up(site.apps[0], "--count", "2")
        assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
        [call] = site.ec2.calls("RunInstances")
        assert (call.params["MinCount"], call.params["MaxCount"], len(site.ec2.launched)) == ("1", "2", 2)
        # It returns when they are UP.
        assert sorted(site.haproxies["lb1"].servers().values()) == ["UP"] * 3


def test_waiting_for_a_cooldown_and_passing_over_it(tmp_path, binary):
    with a_site(tmp_path, binary, apps=1, cooldown="8s", max_hosts="4") as site:
        site.start()
        [app] = site.apps
        assert site.scale_up(app).returncode == 0
        done = site.scale_up(app)
        assert done.returncode == 75 and re.search(r"cooldown", done.stderr) and len(site.ec2.launched) == 1, done
        done = site.scale_up(app, "--wait")
        assert done.returncode == 0 and len(site.ec2.launched) == 2, done
        first, second = site.ec2.calls("RunInstances")
        assert second.time - first.time >= 7.5
        # At once, over the cooldown, and not over max_hosts. The master has to have seen that the second one serves.
        wait_until(lambda: booting(app) == 0, 10, "none boots")
        done = site.scale_up(app, "--force")
        assert done.returncode == 0 and len(site.ec2.launched) == 3, done
        assert site.ec2.calls("RunInstances")[2].time - second.time < 7.5
        done = site.scale_up(app, "--force")
        assert done.returncode == 75 and "max_hosts" in done.stderr and len(site.ec2.launched) == 3, done
