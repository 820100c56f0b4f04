"""remove-host and a real, running HAProxy: requests finish, and somebody stays."""

import signal
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import pytest
from haproxy_host import TEMPLATE, Balancer
from lab import missing, wait_until

needs = missing("haproxy")
pytestmark = pytest.mark.skipif(needs is not None, reason=str(needs))


@pytest.fixture
def site(tmp_path, binary):
    with Balancer(tmp_path, binary) as site:
        yield site


def test_remove_host_waits_for_requests_in_flight(site):
    with site.request_in_flight():
        removal = site.host.popen(["autoscaler", "-v", "remove-host", "127.0.0.1:8002", "--apply"])
        wait_until(lambda: site.haproxy.servers()["app8002"] == "DRAIN", 5)
        # Others are not kept from their work, nor does theirs end the drain.
        site.add(8004)
        assert removal.alive and site.haproxy.servers()["app8002"] == "DRAIN"
        assert {site.request() for _ in range(10)} == {(200, "app8001")}
    assert removal.wait() == 0
    site.assert_no_reload()
    site.assert_same_everywhere()
    assert site.in_file() == {"app8001", "app8004"}
    site.run("remove-host", "127.0.0.1:8002", code=64)


def test_a_drain_shows_how_far_it_is_to_a_terminal_alone(site):
    with site.request_in_flight():
        shown = site.host.popen(["script", "-qefc", "autoscaler remove-host app8002", "/dev/null"], log="terminal.log")
        wait_until(lambda: "app8002: draining, sessions left: 1, seconds left: 9" in shown.text(), 5)
    assert shown.wait() == 0
    site.start_app(8003)
    site.add(8003)
    assert site.host.run(["autoscaler", "remove-host", "app8001", "--apply"]).stderr == ""


def test_a_drain_waits_until_another_server_is_up(site):
    site.start_app(8003, healthy=False)
    site.add(8003)
    site.host.run(["autoscaler", "remove-host", "app8002", "--apply"])
    with ThreadPoolExecutor(1) as pool:
        stop = threading.Event()
        answers = pool.submit(lambda: [site.request()[0] for _ in iter(stop.is_set, True)])
        removal = site.host.popen(["autoscaler", "remove-host", "app8001", "--apply"])
        time.sleep(0.3)
        assert removal.alive
        site.apps[8003].healthy = True
        assert removal.wait() == 0
        stop.set()
        assert set(answers.result()) == {200}
    assert site.haproxy.servers() == {"app8003": "UP"}


def test_drain_timeout_ends_the_wait(site):
    site.configure(drain_timeout="500ms")
    with site.request_in_flight():
        said = site.run("remove-host", "app8002")
        assert "app8002: drain_timeout has passed, sessions left: 1; removed all the same" in said
        assert site.in_hosts_d() == {"app8001"}
        # It comes back before HAProxy was told: the drain ends.
        site.add(8002)
        assert {site.request() for _ in range(4)} == {(200, "app8001"), (200, "app8002")}
    site.assert_no_reload()
    site.assert_same_everywhere()


def test_a_server_that_is_down_is_removed_at_once(site):
    site.apps[8002].healthy = False
    wait_until(lambda: site.haproxy.servers()["app8002"].startswith("DOWN"), 5)
    said = site.host.run(["autoscaler", "remove-host", "app8002", "--apply"]).stderr
    assert said == "autoscaler: app8002: removed without draining: HAProxy has it DOWN\n"
    site.assert_same_everywhere()


def test_the_only_entry_stays_where_haproxy_would_follow(site):
    site.host.run(["autoscaler", "remove-host", "app8002", "--apply"])
    said = site.run("remove-host", "app8001", "--apply", code=75)
    assert "app8001: is the only entry" in said
    assert site.haproxy.servers() == {"app8001": "UP"}
    assert "removed without draining" in site.run("remove-host", "app8001")
    assert site.in_hosts_d() == set() and site.haproxy.servers() == {"app8001": "UP"}


def test_the_last_one_of_two_that_leave_at_once_stays(site):
    with site.request_in_flight():
        first, second = [site.host.popen(["autoscaler", "remove-host", name, "--apply"], log=f"{name}.log")
                         for name in ("app8001", "app8002")]
        wait_until(lambda: "DRAIN" in site.haproxy.servers().values(), 5)
    assert sorted([first.wait(20), second.wait(20)]) == [0, 75]
    site.assert_same_everywhere()
    assert list(site.haproxy.servers().values()) == ["UP"]


def sick(site, port, section="servers"):
    """The app of `port` answers its checks no more, and HAProxy has noticed."""
    site.apps[port].healthy = False
    wait_until(lambda: site.haproxy.servers(section)[f"app{port}"].startswith("DOWN"), 5)


def test_the_last_one_that_is_up_stays_whoever_else_is_entered(site):
    sick(site, 8001)
    assert "app8002: nobody else is UP in `servers`" in site.run("remove-host", "app8002", "--apply", code=75)
    assert site.haproxy.servers()["app8002"] == "UP" and site.in_hosts_d() == {"app8001", "app8002"}
    # Not without --apply either: the next generate would take it out.
    site.run("remove-host", "app8002", code=75)
    assert site.in_hosts_d() == {"app8001", "app8002"} and not list(site.host.path("/etc/autoscaler").glob(".drain-*"))
    site.run("remove-host", "app8001", "--apply")
    assert site.haproxy.servers() == {"app8002": "UP"}


@pytest.mark.parametrize("aside", ["drain", "maint", "backup"])
def test_who_is_set_aside_or_a_backup_is_nobody(tmp_path, binary, aside):
    with Balancer(tmp_path, binary, ports=(8001,)) as site:
        site.start_app(8002)
        site.host.path("/etc/autoscaler/hosts.d/app8002").write_text(
            f"server app8002 127.0.0.1:8002 check{' backup' * (aside == 'backup')}\n")
        site.run("generate")
        site.haproxy.wait_servers(2)
        if aside != "backup":
            site.haproxy.command(f"set server servers/app8002 state {aside}")
        assert "nobody else is UP" in site.run("remove-host", "app8001", "--apply", code=75)
        assert site.haproxy.servers()["app8001"] == "UP"


TWO = TEMPLATE + """\
backend more
    option httpchk GET /healthz
    default-server rise 1 fall 1
    $SERVERS
"""


def test_somebody_stays_in_each_managed_section(tmp_path, binary):
    with Balancer(tmp_path, binary, template=TWO) as site:
        site.haproxy.wait_servers(2, "more")
        site.haproxy.command("set server more/app8001 state maint")
        assert "nobody else is UP in `more`" in site.run("remove-host", "app8002", "--apply", code=75)
        assert site.haproxy.servers("servers")["app8002"] == site.haproxy.servers("more")["app8002"] == "UP"


def test_a_drain_ends_when_the_last_of_the_others_goes_down(tmp_path, binary):
    with Balancer(tmp_path, binary, template=TWO) as site, site.request_in_flight():
        site.haproxy.wait_servers(2, "more")
        removal = site.host.popen(["autoscaler", "-v", "remove-host", "app8002", "--apply"])
        wait_until(lambda: site.haproxy.servers()["app8002"] == site.haproxy.servers("more")["app8002"] == "DRAIN", 5)
        sick(site, 8001, "more")
        assert removal.wait() == 75
        assert "put back into service" in removal.text()
        assert site.haproxy.servers()["app8002"] == site.haproxy.servers("more")["app8002"] == "UP"
        assert "app8002" in site.in_hosts_d() and not list(site.host.path("/etc/autoscaler").glob(".drain-*"))


def test_force_takes_out_even_the_last(site):
    sick(site, 8001)
    began = time.monotonic()
    site.run("remove-host", "app8002", "--apply", "--force")
    assert time.monotonic() - began < 5
    site.assert_same_everywhere()
    assert site.in_file() == {"app8001"}
    # The only entry: HAProxy keeps its file, for one without servers is never installed.
    site.apps[8001].healthy = True
    site.haproxy.wait_servers(1)
    site.run("remove-host", "app8001", "--apply", "--force")
    assert site.in_hosts_d() == set() and site.in_file() == {"app8001"}
    assert site.haproxy.servers() == {"app8001": "DRAIN"}
    # Its replacement takes its place.
    site.add(8002)
    assert set(site.haproxy.servers()) == site.in_file() == {"app8002"}


def test_through_the_gate_a_machine_forces_out_itself_alone(site):
    sick(site, 8001)

    def gate(caller):
        return site.host.run(["autoscaler", "ssh-gate"], check=False, env={
            "SSH_ORIGINAL_COMMAND": "autoscaler remove-host app8002 --apply --force", "SSH_CONNECTION": f"{caller} 50000 10.0.0.1 22"})

    assert gate("10.0.0.9").returncode == 75 and "app8002" in site.in_hosts_d()
    assert gate("::ffff:127.0.0.1").returncode == 0 and "app8002" not in site.in_hosts_d()


def test_a_drain_of_ours_is_undone_by_add_host_and_one_of_somebody_else_is_kept(site):
    with site.request_in_flight():
        removal = site.host.popen(["autoscaler", "-v", "remove-host", "app8002", "--apply"])
        wait_until(lambda: site.haproxy.servers()["app8002"] == "DRAIN", 5)
        assert "app8002: takes requests again" in site.add(8002)
        assert site.haproxy.servers()["app8002"] == "UP"
        assert removal.wait() == 75 and "put back into service meanwhile" in removal.text()
        killed = site.host.popen(["autoscaler", "-v", "remove-host", "app8002", "--apply"], log="killed.log")
        wait_until(lambda: site.haproxy.servers()["app8002"] == "DRAIN", 5)
        killed.kill()
        killed.wait()
        assert "app8002: its drain was broken off" in site.run("generate")
        assert site.haproxy.servers()["app8002"] == "UP"
    for state in ("drain", "maint"):
        site.haproxy.command(f"set server servers/app8002 state {state}")
        site.add(8002), site.run("generate")
        assert site.haproxy.servers()["app8002"] == state.upper()
    # Nor does one that we set elsewhere end it.
    site.start_app(8003)
    site.add(8003)
    site.haproxy.wait_servers(2)
    site.run("remove-host", "app8003", "--apply")
    assert site.haproxy.servers() == {"app8001": "UP", "app8002": "MAINT"}


def test_by_hand_the_tag_is_named_that_keeps_a_machine_away(site):
    site.start_app(8003)
    site.run("add-host", "127.0.0.1", "8003", "--id", "i-0a", "--apply")
    site.haproxy.wait_servers(3)
    said = site.host.run(["autoscaler", "remove-host", "i-0a", "--apply"]).stderr
    assert said == ("autoscaler: i-0a: removed; while i-0a serves, the daemons enter it again unless it is tagged "
                    "autoscaler:keep\n")
    site.run("add-host", "127.0.0.1", "8003", "--id", "i-0a", "--apply")
    site.haproxy.wait_servers(3)
    gate = {"SSH_ORIGINAL_COMMAND": "autoscaler remove-host i-0a --apply"}
    assert site.host.run(["autoscaler", "ssh-gate"], env=gate).stderr == ""


def test_a_haproxy_that_does_not_answer_keeps_nobody(site):
    site.haproxy.process.stop()
    said = site.run("remove-host", "app8002")
    assert "app8002: removed without draining: /run/haproxy/admin.sock: Connection refused" in said
    assert site.in_hosts_d() == {"app8001"}


def test_a_drain_that_is_killed_or_reloaded_away_is_done_again(site):
    def drain():
        removal = site.host.popen(["autoscaler", "-v", "remove-host", "app8002", "--apply"])
        removal.wait_line("app8002: draining")
        wait_until(lambda: site.haproxy.servers()["app8002"] == "DRAIN", 5)
        return removal

    with site.request_in_flight():
        killed = drain()
        killed.kill()
        killed.wait()
        assert site.in_hosts_d() == {"app8001", "app8002"}
        removal = drain()
        before = {pid for pid, _ in site.haproxy.workers}
        site.haproxy.process.kill(signal.SIGUSR2)
        assert removal.wait() == 0
        site.haproxy.wait_reloaded(before)
    site.assert_same_everywhere()
    assert site.in_file() == {"app8001"}
