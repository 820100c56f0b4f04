"""The main job, end to end: real HAProxy, real sshd, an EC2 endpoint that checks every signature."""

import contextlib
import threading
from pathlib import Path

import pytest
from lab import missing, wait_until
from site_lab import Site

pytestmark = pytest.mark.skipif(missing("sshd", "haproxy") is not None, reason=str(missing("sshd", "haproxy")))


def secrets_of(site):
    """The secrets of a site, as bytes."""
    return [site.ec2.secret_key.encode(), site.secret.encode()]


@contextlib.contextmanager
def command_lines_watched(site):
    """Fails if a secret is seen in any command line on this machine meanwhile."""
    seen, looks, over = [], [], threading.Event()

    def watch():
        while not over.wait(0.02):
            for path in Path("/proc").glob("[0-9]*/cmdline"):
                with contextlib.suppress(OSError):  # it has just ended
                    line = path.read_bytes()
                    seen.extend(line for secret in secrets_of(site) if secret in line)
            looks.append(1)

    watcher = threading.Thread(target=watch)
    watcher.start()
    try:
        yield
    finally:
        over.set()
        watcher.join()
    assert seen == [] and len(looks) > 20


def readable_with_a_secret(site):
    """The files of all hosts, logs included, that everybody may read and that hold a secret."""
    found = []
    for host in site.net.hosts.values():
        for path in host.dir.rglob("*"):
            if path.is_file() and not path.is_symlink() and path.stat().st_mode & 0o004:
                text = path.read_bytes()
                found += [str(path) for secret in secrets_of(site) if secret in text]
    return found


def test_three_busy_servers_launch_one_machine(tmp_path, binary):
    # The loads call for more than one; here it is one decision that counts.
    with (Site(tmp_path, binary, balancers=2, apps=3, settings={"scaling": {"max_step": "1"}}) as site,
          command_lines_watched(site)):
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
        assert readable_with_a_secret(site) == []
        # The check itself can find one.
        assert secrets_of(site)[1] in Path(site.apps[0].path("/etc/autoscaler/autoscaler.ini")).read_bytes()


def test_two_that_see_different_masters_launch_one_machine(tmp_path, binary):
    with Site(tmp_path, binary, balancers=2, apps=2) as site:
        site.split()
        (lb1, lb2), (app1, app2) = site.balancers, site.apps
        for app in site.apps:
            site.load[app.name].load = 95
        for lb in site.balancers:
            wait_until(lambda lb=lb: " i-" in lb.run(["autoscaler", "list-hosts"]).stdout, 20, f"it is in {lb.name}")
        # Both have come to the end of what they began.
        for lb, app in ((lb1, app1), (lb2, app2)):
            site.masters[lb.name].wait_line(f"{app.name}: (launched a machine|gave the lease back)", timeout=20)
        assert "connected" not in "".join(line for app, lb in ((app1, "lb2"), (app2, "lb1"))
                                          for line in site.daemons[app.name].text().splitlines() if f"master {lb}" in line)
        [new] = site.ec2.launched
        for lb in site.balancers:
            assert lb.run(["autoscaler", "list-hosts"]).stdout.count(site.net.hosts[new].address) == 1
        assert len({call.params["ClientToken"] for call in site.ec2.calls("RunInstances")}) == 1


def test_a_daemon_without_a_master_says_so_once_and_goes_on(tmp_path, binary):
    with Site(tmp_path, binary) as site:
        site.start(daemons=False)
        [lb], [app] = site.balancers, site.apps
        site.masters["lb1"].kill()
        done = site.scale_up(app)
        assert done.returncode == 69 and "no master" in done.stderr and done.stdout == ""
        site.start_daemon(app)
        site.load["app1"].load = 90
        daemon = site.daemons["app1"]
        daemon.wait_line("no master")
        # Several windows over the threshold go by while it waits.
        steps = site.load["app1"].steps
        wait_until(lambda: site.load["app1"].steps >= steps + 20, 10, "two seconds of load")
        assert daemon.text().count("no master") == 1
        assert site.ec2.requests == []
        site.start_master(lb)
        site.haproxies["lb1"].wait_servers(2, timeout=30)
        assert len(site.ec2.launched) == 1


def test_by_hand(tmp_path, binary):
    settings = {"scaling": {"cooldown": "3s", "max_hosts": "2", "threshold": "100"}}
    with Site(tmp_path, binary, settings=settings) as site:
        site.start(daemons=False)
        [lb], [app] = site.balancers, site.apps
        # Only looking.
        state = lb.path("/var/lib/autoscaler/master")
        wait_until(state.exists, 5, "the master has left its mark")
        before = state.read_text()
        done = site.scale_up(app, "--dry-run")
        assert (done.returncode, done.stderr) == (0, "")
        assert f"ImageId={site.ec2.image}\n" in done.stdout and "RunInstances" in done.stdout
        assert {call.action for call in site.ec2.requests} <= {"DescribeInstances"} and state.read_text() == before
        # Refused credentials, which are named and end the lease at once.
        ini = app.path("/etc/autoscaler/autoscaler.ini")
        right = ini.read_text()
        ini.write_text(right.replace(site.ec2.secret_key, "wrong"))
        done = site.scale_up(app)
        assert done.returncode == 77 and "SignatureDoesNotMatch" in done.stderr and site.ec2.launched == []
        assert site.ec2.secret_key not in done.stderr and "wrong" not in done.stderr
        ini.write_text(right)
        # Without any load.
        done = site.scale_up(app)
        assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
        assert len(site.haproxies["lb1"].wait_servers(2)) == 2
        # Too early, and then: enough.
        done = site.scale_up(app)
        assert done.returncode == 75 and "cooldown" in done.stderr
        wait_until(lambda: "cooldown" not in (done := site.scale_up(app)).stderr and done.returncode == 75
                   and "max_hosts" in done.stderr, 10, "no more than max_hosts")
        assert len(site.ec2.launched) == 1


LAUNCH = """#!/bin/sh
env >/tmp/env
echo "launching, please wait"
{ending}
"""


def test_a_command_of_the_users_own(tmp_path, binary):
    with Site(tmp_path, binary, settings={"machine": {"scale_up_command": "launch --one"}}) as site:
        site.start(daemons=False)
        [lb], [app] = site.balancers, site.apps
        spare = site.net.host("spare")
        spare.start_app(80)
        for ending in ("echo spare 80 and more", "echo spare http", "echo '$(reboot)' 80", "echo -oProxyCommand=x 80",
                       "exit 0"):
            app.script("launch", LAUNCH.format(ending=ending))
            done = site.scale_up(app)
            assert done.returncode == 69 and "last line" in done.stderr, done
        app.script("launch", LAUNCH.format(ending="echo 'the quota is used up' >&2; exit 3"))
        done = site.scale_up(app)
        assert done.returncode == 69 and "the quota is used up" in done.stderr
        assert "spare" not in lb.run(["autoscaler", "list-hosts"]).stdout
        # Failures begin no cooldown.
        app.script("launch", LAUNCH.format(ending="echo spare 80; echo"))
        done = site.scale_up(app)
        assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
        assert f"{spare.address} 80 -\n" in lb.run(["autoscaler", "list-hosts"]).stdout
        site.haproxies["lb1"].wait_servers(2)
        assert "spare" in site.get(lb, 2)
        given = dict(line.split("=", 1) for line in app.path("/tmp/env").read_text().splitlines())
        for name, value in site.ec2.env().items():
            if name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_REGION", "AWS_DEFAULT_REGION"):
                assert given[name] == value
        assert site.ec2.requests == []
