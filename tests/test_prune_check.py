"""`prune` and `check` against the lab's EC2, HAProxy and sshd."""

import pytest
from lab import missing
from site_lab import Site

pytestmark = pytest.mark.skipif(missing("sshd", "haproxy") is not None, reason=str(missing("sshd", "haproxy")))

TAG = "autoscaler:cluster"


def entries(lb):
    """The names in hosts.d."""
    return [line.split()[0] for line in lb.run(["autoscaler", "list-hosts"]).stdout.splitlines()]


def test_prune_removes_what_is_gone_and_nothing_in_doubt(tmp_path, binary):
    with Site(tmp_path, binary) as site:
        site.start(daemons=False)
        [lb] = site.balancers
        ids = [site.ec2.seed(f"10.77.0.{90 + n}", {TAG: "test"}) for n in range(3)]
        for n, each in enumerate(ids):
            lb.run(["autoscaler", "add-host", f"10.77.0.{90 + n}", "80", "--id", each])
        assert lb.run(["autoscaler", "prune"]).stdout == "" and entries(lb) == sorted(["app1", *ids])
        site.ec2.end(ids[0])
        would = lb.run(["autoscaler", "prune", "--dry-run"]).stdout
        assert would.startswith(ids[0]) and len(would.splitlines()) == 1 and ids[0] in entries(lb)
        # A failed answer, and an empty one, remove nothing.
        site.ec2.fail_next("DescribeInstances", 1, "UnauthorizedOperation", status=403)
        failed = lb.run(["autoscaler", "prune"], check=False)
        assert failed.returncode == 77 and ids[0] in entries(lb)
        done = lb.run(["autoscaler", "prune", "--apply"])
        assert done.stdout == "" and entries(lb) == sorted(["app1", *ids[1:]])
        assert ids[0] not in lb.path("/etc/haproxy/haproxy.cfg").read_text()
        # More than half at once needs --force.
        for each in ids[1:]:
            site.ec2.end(each)
        many = lb.run(["autoscaler", "prune"], check=False)
        assert many.returncode == 75 and "--force" in many.stderr and entries(lb) == sorted(["app1", *ids[1:]])
        lb.run(["autoscaler", "prune", "--force"])
        assert entries(lb) == ["app1"]


def test_check_says_what_is_wrong_and_what_to_do(tmp_path, binary):
    with Site(tmp_path, binary) as site:
        site.start()
        [lb], [app] = site.balancers, site.apps
        for host in (lb, app):
            good = host.run(["autoscaler", "check"], check=False)
            assert good.returncode == 0 and "FAIL" not in good.stdout, good
            assert site.ec2.secret_key not in good.stdout + good.stderr
        # The running HAProxy has lost a server that the file holds.
        lb.run(["autoscaler", "add-host", "10.77.0.99", "80"])
        stale = lb.run(["autoscaler", "check"], check=False)
        assert stale.returncode != 0 and "FAIL" in stale.stdout and "app2" in stale.stdout, stale
        lb.stop_sshd()
        cut = app.run(["autoscaler", "check"], check=False)
        assert cut.returncode == 69 and "lb1" in cut.stdout, cut
        app.path("/etc/autoscaler/autoscaler.ini").chmod(0o644)
        loose = app.run(["autoscaler", "check"], check=False)
        assert "chmod 600" in loose.stdout, loose
