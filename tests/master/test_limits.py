"""The limits that stop a runaway: max_hosts by EC2's own count, and max_launches_per_day."""

import re

from cli import refusal
from lab import wait_until
from loopback import Loopback

TAG = {"autoscaler:cluster": "default"}


def wait_full(site):
    """What the master answers to SCALE by hand, as seconds; by load, what boots would answer the need."""
    with site.master.node("asker") as node:
        return int(re.fullmatch(r"WAIT full (\d+)", node.ask("SCALE 1"))[1])


def test_ec2s_own_count_of_the_cluster_limits_as_well(binary, tmp_path):
    """A HAProxy host that lists them can't be asked, so they are no leftovers; they count all the same."""
    settings = {"scaling": {"max_hosts": "2"}, "haproxy": {"servers": "lb1, away"}}
    with Loopback(binary, tmp_path, settings) as site:
        ours = [site.ec2.seed(f"127.0.2.{number}", TAG, age=3600) for number in (1, 2)]
        others = [site.ec2.seed("127.0.2.3", {"autoscaler:cluster": "other"}), site.ec2.seed("127.0.2.4")]
        line = refusal_of(site.scale_up(), 75)
        assert "there are 2 machines, and max_hosts is 2" in line
        assert site.ec2.launched == [] and not site.ec2.calls("TerminateInstances")
        # One that has ended leaves room.
        site.ec2.end(ours[0])
        assert site.scale_up("-q").returncode == 69  # for the host that is away
        assert len(site.ec2.launched) == 1 and set(others) <= set(site.ec2.running)


def refusal_of(done, code):
    """The last line on stderr; before it, HAProxy hosts that are away are named."""
    assert done.returncode == code, done
    return done.stderr.splitlines()[-1]


def test_no_more_launches_than_the_day_may_have(binary, tmp_path):
    """Failed ones count, a restarted master remembers them, and EC2 has long forgotten them."""
    settings = {"scaling": {"max_launches_per_day": "2"}, "machine": {"boot_timeout": "1s"}}
    with Loopback(binary, tmp_path, settings) as site:
        # What launches nothing does not count.
        for kind in ("VcpuLimitExceeded", "InvalidAMIID.NotFound", "InsufficientInstanceCapacity"):
            site.ec2.fail_next("RunInstances", kind=kind)
            assert kind in refusal(site.scale_up(), 78 if "AMI" in kind else 69)
        site.serves = False
        assert "not healthy" in refusal(site.scale_up(), 69)
        site.serves = True
        # One that never served is backed off from.
        wait_until(lambda: site.scale_up().returncode == 0, 30, "the back-off is over")
        said = wait_until(lambda: re.findall(".*max_launches_per_day.*", site.master.log.read_text()), 10, "it is said")
        assert len(said) == 1 and re.search(r"is reached: no scale-up for 86\d\d\d s$", said[0]), said
        for instance in site.ec2.launched:
            site.ec2.end(instance)
            site.ec2.forget(instance)
        before = wait_full(site)
        assert 86_000 < before <= 86_400
        site.master.restart()
        wait_until(lambda: "max_launches_per_day" in refusal(site.scale_up(), 75), 20, "the master answers for good")
        assert 86_000 < wait_full(site) <= before
        assert len(site.ec2.launched) == 2


def test_ec2s_list_counts_launches_that_no_master_knows_of(binary, tmp_path):
    """As after a split, or when the masters lost their state."""
    settings = {"scaling": {"max_launches_per_day": "2"}}
    with Loopback(binary, tmp_path, settings) as site:
        site.ec2.seed("127.0.2.1", TAG, age=25 * 3600)
        ended = [site.ec2.seed(f"127.0.2.{number}", TAG, age=age) for number, age in ((2, 3000), (3, 2000))]
        for instance in ended:
            site.ec2.end(instance)
        line = refusal(site.scale_up(), 75)
        assert "EC2 reports 2 launches in 24 hours, and max_launches_per_day is 2" in line
        assert site.ec2.launched == []
        site.ec2.forget(ended[0])
        assert site.scale_up().returncode == 0 and len(site.ec2.launched) == 1
