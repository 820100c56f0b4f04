"""A machine leaves: drained in every HAProxy, terminated by itself, and nobody notices."""

import pytest
from lab import ProcStat, missing, wait_until
from loopback import Loopback
from site_lab import Site, loads
from test_credentials import policy

pytestmark = pytest.mark.skipif(missing("sshd", "haproxy") is not None, reason=str(missing("sshd", "haproxy")))

CALM = {"scaling": {"cooldown": "1s", "scale_down_threshold": "20", "scale_down_window": "1s",
                    "scale_down_cooldown": "1s", "min_hosts": "1", "drain_timeout": "10s"}}


def grown(tmp_path, binary, balancers=1, **settings):
    """A site whose app1 has just launched one machine; returns it with that machine's id."""
    site = Site(tmp_path, binary, balancers=balancers, apps=1, settings={"scaling": CALM["scaling"] | settings})
    site.boot_load = 30
    site.start()
    site.load["app1"].load = 90
    for haproxy in site.haproxies.values():
        haproxy.wait_servers(2, timeout=30)
    [new] = site.ec2.launched
    site.load["app1"].load = 30  # neither high nor low, for now
    for lb in site.balancers:
        site.daemons[new].wait_line(f"master {lb.name}: connected")
    return site, new


def test_the_load_falls_and_the_machine_leaves(tmp_path, binary):
    site, new = grown(tmp_path, binary, balancers=2)
    with site:
        # 5 and 30: the others could take it, and the new machine is under the threshold.
        site.load[new].load = 5
        wait_until(lambda: not site.net.hosts[new].alive, 30, f"{new} is terminated")
        for lb in site.balancers:
            assert new not in lb.run(["autoscaler", "list-hosts"]).stdout
            site.haproxies[lb.name].wait_servers(1)
            assert site.get(lb, 4) == ["app1"] * 4
        site.masters["lb1"].wait_line(f"{new}: left")
        assert site.ec2.running == []


def test_a_machine_that_autoscaler_did_not_launch_stays(tmp_path, binary):
    site, new = grown(tmp_path, binary)
    with site:
        site.load["app1"].load = 0
        site.load[new].load = 25
        site.daemons["app1"].wait_line("it stays", timeout=20)
        assert len(site.haproxies["lb1"].servers()) == 2
        assert "TerminateInstances" not in [call.action for call in site.ec2.requests]


def test_one_late_answer_of_the_metadata_service_is_not_the_end_of_it(tmp_path, binary):
    site, new = grown(tmp_path, binary)
    with site:
        site.ec2.imds.mode = "hang"
        site.load[new].load = 5
        site.daemons[new].wait_line("instance metadata", timeout=20)
        assert len(site.haproxies["lb1"].servers()) == 2
        site.ec2.imds.mode = "on"
        wait_until(lambda: not site.net.hosts[new].alive, 40, f"{new} is terminated")


def test_what_may_not_be_terminated_is_not_drained(tmp_path, binary):
    site, new = grown(tmp_path, binary)
    with site:
        site.ec2.policy = policy(site.ec2, cluster="test", without=["ec2:TerminateInstances"])
        site.load[new].load = 5
        site.daemons[new].wait_line("allow ec2:TerminateInstances in the IAM policy", timeout=20)
        site.ec2.policy = None
        site.ec2.tag(new, autoscaler_keep="")
        site.daemons[new].wait_line("tagged autoscaler:keep", timeout=40)
        assert len(site.haproxies["lb1"].servers()) == 2
        assert {call.params.get("DryRun") for call in site.ec2.calls("TerminateInstances")} == {"true"}


def test_with_commands_of_its_own_any_machine_leaves_and_none_is_ended(tmp_path, binary):
    """What docs/another-cloud.md says of machines that EC2 knows nothing of."""
    commands = {"scale_up_command": "launch", "scale_down_command": "leave", "boot_timeout": "5s"}
    settings = {"machine": commands, "scaling": {"cooldown": "1s", "scale_down_cooldown": "1s"}}
    with Site(tmp_path, binary, apps=2, settings=settings) as site:
        site.start()
        [lb], (app1, app2) = site.balancers, site.apps
        for app in site.apps:
            app.script("leave", "#!/bin/sh\nenv >/tmp/left\n")
        # One that never serves stays where it is.
        dead = site.net.host("dead")
        app1.script("launch", f"#!/bin/sh\necho {dead.address} 80\n")
        done = site.scale_up(app1)
        assert done.returncode == 69 and f"{dead.address}: not healthy within boot_timeout" in done.stderr, done
        assert not any(app.path("/tmp/left").exists() for app in site.apps)
        # One that nobody launched leaves, with the INI's credentials.
        wait_until(lambda: len(loads(lb)) == 2, 10, "the master knows both loads")
        app2.run(["autoscaler", "scale-down"])
        site.haproxies["lb1"].wait_servers(1)
        assert lb.run(["autoscaler", "list-hosts"]).stdout == f"app1 {app1.address} 80 -\n"
        given = dict(line.split("=", 1) for line in app2.path("/tmp/left").read_text().splitlines())
        assert given["INSTANCE_ADDRESS"] == app2.address
        assert (given["AWS_ACCESS_KEY_ID"], given["AWS_SECRET_ACCESS_KEY"]) == (site.ec2.access_key, site.ec2.secret_key)
        # The last one does not.
        done = app1.run(["autoscaler", "scale-down"], check=False)
        assert done.returncode == 75 and not app1.path("/tmp/left").exists(), done
        assert site.ec2.requests == []


def test_nobody_leaves_whose_load_the_others_could_not_take(tmp_path, binary):
    site, new = grown(tmp_path, binary)
    with site:
        site.load["app1"].load = 45  # 45 and 5 are over 0.8 times the threshold of 50
        lb = site.balancers[0]
        wait_until(lambda: loads(lb).get("app1", 0) >= 40, 10, "the master has heard of it")
        site.load[new].load = 5
        site.daemons[new].wait_line("the others could not take the load", timeout=20)
        assert site.net.hosts[new].alive


def test_scale_down_by_hand_and_what_it_would_do(tmp_path, binary):
    site, new = grown(tmp_path, binary, scale_down_threshold="0")
    with site:
        host, lb = site.net.hosts[new], site.balancers[0]
        site.load["app1"].load = 0
        wait_until(lambda: loads(lb).get("app1") == 0, 10, "the master has heard of it")
        would = host.run(["autoscaler", "scale-down", "--dry-run"]).stdout
        assert would == f"action TerminateInstances\nInstanceId.1={new}\n"
        refused = site.apps[0].run(["autoscaler", "scale-down"], check=False)
        assert refused.returncode == 78 and "it stays" in refused.stderr
        host.run(["autoscaler", "scale-down"], check=False)  # it may not live to see the answer
        wait_until(lambda: not host.alive, 20, f"{new} is terminated")
        site.haproxies["lb1"].wait_servers(1)


def test_nobody_leaves_before_every_balancer_has_answered(tmp_path, binary):
    site, new = grown(tmp_path, binary, balancers=2)
    with site:
        lb2 = site.balancers[1]
        lb2.kill()
        site.load[new].load = 5
        site.daemons[new].wait_line("HAProxy host lb2: .*|leaving failed, next try", timeout=100)
        assert site.net.hosts[new].alive and len(site.haproxies["lb1"].servers()) == 2
        lb2.boot()
        lb2.start_sshd()
        site.haproxies["lb2"] = lb2.start_haproxy()
        site.start_master(lb2)
        wait_until(lambda: not site.net.hosts[new].alive, 90, f"{new} is terminated")
        for lb in site.balancers:
            assert new not in lb.run(["autoscaler", "list-hosts"]).stdout
            site.haproxies[lb.name].wait_servers(1)


def test_a_spot_instance_that_ec2_takes_back_is_replaced_and_drains(tmp_path, binary):
    site = Site(tmp_path, binary, settings={"scaling": CALM["scaling"] | {"scale_down_threshold": "0"}})
    with site:
        site.boot_load = 30
        site.ec2.imds.spot = True
        site.start()
        site.load["app1"].load = 90
        site.haproxies["lb1"].wait_servers(2, timeout=30)
        [spot] = site.ec2.launched
        site.load["app1"].load = 30
        site.daemons[spot].wait_line("master lb1: connected")
        site.ec2.imds.notices[spot] = "interruption"
        site.daemons[spot].wait_line("spot interruption notice", timeout=15)
        wait_until(lambda: len(site.ec2.launched) == 2, 20, "a replacement is launched")
        site.daemons[spot].wait_line("is out of HAProxy on lb1", timeout=40)
        names = site.get(site.balancers[0], 8)
        assert set(names) == {"app1", site.ec2.launched[1]}
        assert site.net.hosts[spot].alive, "EC2 ends it"


def test_what_dies_half_way_serves_again(tmp_path, binary):
    site, new = grown(tmp_path, binary)
    with site:
        site.ec2.protect(new)
        site.load[new].load = 5
        site.daemons[new].wait_line("is out of HAProxy on lb1", timeout=30)
        site.daemons[new].kill()
        site.haproxies["lb1"].wait_servers(1)
        # It lives and serves, so whoever looks next enters it.
        site.haproxies["lb1"].wait_servers(2, timeout=100)
        assert site.net.hosts[new].alive and site.ec2.running == [new]


def test_a_machine_that_was_entered_by_hand_with_another_port_is_drained_as_well(tmp_path, binary):
    gone = tmp_path / "gone"
    settings = {"machine": {"scale_up_command": "echo 127.0.0.8", "scale_down_command": f"touch {gone}",
                            "address": "127.0.0.9"}}
    with Loopback(binary, tmp_path, settings=settings) as site, ProcStat(tmp_path / "proc", load=0):
        entries = [("127.0.0.9", 8001), ("127.0.0.9", 8002), ("127.0.0.8", 8002)]
        for host, port in entries:
            (site.master.hosts / f"app{host}-{port}").write_text(f"{host} {port} -\n")
            site.cli("add-host", host, port)

        def scale_down():
            """Once the master has seen its entries, and somebody else reports."""
            def tried():
                node.send("LOAD 5")
                return (done := site.cli.call("scale-down")).returncode != 75 and done
            return wait_until(tried, 20, "it may leave")

        with site.master.node("other/i-8") as node:
            # Without an instance, they may be those of others.
            done = scale_down()
            assert done.returncode == 69 and "127.0.0.9 is there with other ports, and [machine] port is" in done.stderr, done
            assert len(site.cli("list-hosts").splitlines()) == 3 and not gone.exists()
            # An instance's address is its own.
            site.ec2.imds.default_instance = site.ec2.seed("127.0.0.9", {})
            assert scale_down().returncode == 0 and gone.exists()
            assert [line.split()[1] for line in site.cli("list-hosts").splitlines()] == ["127.0.0.8"]
