"""Servers in and out of a real, running HAProxy: by commands where that is safe, else by a reload."""

import re
import signal
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import pytest
from haproxy_host import TEMPLATE, Balancer
from lab import missing, wait_until

needs = missing("haproxy", "wrk")
pytestmark = pytest.mark.skipif(needs is not None, reason=str(needs))


@pytest.fixture
def site(tmp_path, binary):
    with Balancer(tmp_path, binary) as site:
        yield site


# Without a reload

def test_a_new_server_gets_requests_only_after_its_check_passed(site):
    sick = site.start_app(8003, healthy=False)
    stop = threading.Event()

    def visit():
        statuses = set()
        while not stop.is_set():
            statuses.add(site.request()[0])
        return statuses

    with ThreadPoolExecutor(4) as pool:
        visitors = [pool.submit(visit) for _ in range(4)]
        said = site.add(8003)
        assert "HAProxy: added app8003, without a reload" in said
        site.add(8004)  # nobody listens there
        time.sleep(0.7)
        assert sick.served == 0
        sick.healthy = True
        wait_until(lambda: sick.served > 5, 5, "requests for the new server")
        stop.set()
        assert all(visitor.result() == {200} for visitor in visitors)
    assert site.haproxy.servers()["app8004"].startswith("DOWN")
    site.assert_no_reload()
    site.assert_same_everywhere()


def test_a_server_without_a_check_is_ready_at_once(tmp_path, binary):
    with Balancer(tmp_path, binary, server_line="server $NAME $IP:$PORT",
                  template=TEMPLATE.replace("option httpchk GET /healthz", "")
                  .replace("balance roundrobin", "balance source\n    hash-type consistent")) as site:
        site.start_app(8003)
        site.add(8003)
        assert site.haproxy.servers()["app8003"] == "no check"
        site.drop(8001), site.drop(8002)
        assert site.request() == (200, "app8003")
        site.assert_no_reload()


def test_a_removed_server_finishes_what_it_has(site):
    with site.request_in_flight():
        threading.Timer(0.7, site.release).start()
        said = site.drop(8002)
        assert not site.apps[8002].held
    assert "HAProxy: removed app8002, without a reload" in said
    site.assert_no_reload()
    site.assert_same_everywhere()


def test_a_server_that_takes_long_is_removed_by_the_next_call(site):
    with site.request_in_flight():
        assert "app8002: still has connections" in site.drop(8002)
        assert site.due().exists() and site.haproxy.servers()["app8002"] == "MAINT"
        assert {site.request() for _ in range(10)} == {(200, "app8001")}
    assert "HAProxy: removed app8002, without a reload" in site.run("generate")
    site.assert_no_reload()
    site.assert_same_everywhere()


def test_a_server_that_comes_back_before_it_is_gone_takes_part_again(site):
    with site.request_in_flight():
        site.drop(8002)
        assert "reloading: server `app8002` runs from an earlier change" in site.add(8002)
        wait_until(lambda: {site.request() for _ in range(5)} == {(200, "app8001"), (200, "app8002")}, 5)
    site.assert_same_everywhere()


def test_all_servers_are_replaced_and_somebody_always_answers(site):
    site.start_app(8003), site.start_app(8004)
    for port in (8001, 8002):
        site.host.path(f"/etc/autoscaler/hosts.d/app{port}").unlink()
    site.add(8003, apply=False), site.add(8004, apply=False)
    stop = threading.Event()
    with ThreadPoolExecutor(1) as pool:
        answers = pool.submit(lambda: [site.request()[0] for _ in iter(stop.is_set, True)])
        site.run("generate")
        stop.set()
        assert set(answers.result()) == {200}
    site.assert_no_reload()
    site.assert_same_everywhere()


def test_a_change_ends_at_the_file_though_somebody_else_reloads_amid_it(site):
    site.start_app(8003, healthy=False)
    site.add(8003, apply=False)
    for port in (8001, 8002):
        site.host.path(f"/etc/autoscaler/hosts.d/app{port}").unlink()
    with ThreadPoolExecutor(1) as pool:
        said = pool.submit(site.run, "generate")
        wait_until(lambda: "app8003" in site.haproxy.servers(), 5, "the new server, whose check is waited for")
        site.haproxy.reload()
        assert "HAProxy: reloaded" in said.result()
    assert site.workers() != site.worker
    site.assert_same_everywhere()


def test_a_hundred_additions_and_removals_under_load_lose_nothing(site):
    # Served by HAProxy itself, which keeps up with any load.
    apps = site.host.path("/etc/haproxy/apps.cfg")
    apps.write_text("defaults\n    mode http\n    timeout client 30s\nfrontend apps\n    bind 127.0.0.1:9001-9010\n"
                    "    http-request return status 200 string ok content-type text/plain\n")
    site.host.popen(["haproxy", "-f", "/etc/haproxy/apps.cfg"], log="apps.log")
    site.host.wait_port(9010)
    site.add(9001)
    site.drop(8001), site.drop(8002)
    wrk = site.host.popen(["wrk", "-t1", "-c16", "-d120s", "--latency", "http://127.0.0.1/"], log="wrk.log")
    time.sleep(0.3)
    for turn in range(50):  # two to four servers at any time
        site.add(9002 + turn % 9)
        if turn > 1:
            site.drop(9002 + (turn - 2) % 9)
        site.assert_no_reload()
    site.drop(9001), site.drop(9002 + 48 % 9)
    wrk.kill(signal.SIGINT)
    wrk.wait()
    report = wrk.text()
    assert "Socket errors" not in report and "Non-2xx" not in report, report
    assert int(re.search(r"(\d+) requests in", report)[1]) > 5000, report
    site.run("generate")
    site.assert_same_everywhere()
    site.assert_no_reload()


def test_the_membership_outlives_a_reload_and_a_restart(site):
    site.start_app(8003)
    site.add(8003)
    site.drop(8001)
    site.haproxy.reload()
    assert site.haproxy.wait_servers(2) == ["app8002", "app8003"]
    site.haproxy.process.stop()
    site.haproxy = site.host.start_haproxy()
    assert site.haproxy.wait_servers(2) == ["app8002", "app8003"]
    site.assert_same_everywhere()


def test_a_call_that_is_killed_is_made_up_for(site):
    site.start_app(8003)
    for turn in range(24):
        if turn % 2:
            site.host.path("/etc/autoscaler/hosts.d/app8003").unlink()
        else:
            site.add(8003, apply=False)
        call = site.host.popen(["autoscaler", "-v", "generate"], log="killed.log")
        time.sleep(0.004 * turn)
        call.kill()
        call.wait()
        site.run("generate")
        site.haproxy.wait_servers(2 if turn % 2 else 3)
        site.assert_same_everywhere()


# What it says of them

def test_the_state_of_each_over_all_sections(tmp_path, binary):
    second = "backend more\n    option httpchk GET /healthz\n    default-server rise 1 fall 1\n    $SERVERS\nbackend other\n"
    with Balancer(tmp_path, binary, ports=(8001, 8002, 8003, 8004, 8005), template=TEMPLATE + second) as site:
        def states():
            lines = site.host.run(["autoscaler", "list-hosts", "--state"]).stdout.splitlines()
            words = [line.split() for line in lines]
            assert [w[:4] for w in words] == [line.split() for line in
                                              site.host.run(["autoscaler", "list-hosts"]).stdout.splitlines()]
            assert all(int(w[5]) < 60 if w[4] != "-" else w[5] == "-" for w in words), lines
            return [w[4] for w in words]

        wait_until(lambda: states() == ["UP"] * 5, 5)
        site.apps[8002].healthy = False
        for command in ("set server servers/app8003 state drain", "set server more/app8004 state maint",
                        "disable health more/app8005", "set server more/app8005 health down"):
            site.haproxy.command(command)
        # DOWN in one of two only says nothing.
        wait_until(lambda: states() == ["UP", "DOWN", "DRAIN", "MAINT", "-"], 5, states)
        site.add(8006, apply=False)
        assert states()[-1] == "-"
        site.haproxy.process.stop()
        assert states() == ["-"] * 6


def test_the_state_of_a_server_without_a_check(tmp_path, binary):
    with Balancer(tmp_path, binary, server_line="server $NAME $IP:$PORT") as site:
        lines = site.host.run(["autoscaler", "list-hosts", "--state"]).stdout.splitlines()
        assert [line.split()[4] for line in lines] == ["UP", "UP"], lines


# With a reload

@pytest.mark.parametrize("change, reason", [
    (("balance roundrobin", "balance static-rr"), "more than the servers changed"),
    (("timeout client 30s", "timeout client 31s"), "more than the servers changed"),
    ({"server_line": "server $NAME $IP:$PORT check weight 7"}, "the line of server `app8001` changed"),
])
def test_what_is_no_change_of_servers_alone_reloads(site, change, reason):
    if isinstance(change, dict):
        site.configure(**change)
    else:
        site.template(TEMPLATE.replace(*change))
    site.start_app(8003)
    assert f"HAProxy: reloading: {reason}" in site.add(8003)
    site.haproxy.wait_servers(3)
    assert site.workers() != site.worker
    site.assert_same_everywhere()


@pytest.mark.parametrize("settings, reason", [
    ({"template": TEMPLATE.replace("balance roundrobin", "balance static-rr")},
     "`balance static-rr` takes no servers at run time"),
    ({"template": TEMPLATE.replace("balance roundrobin", "cookie SRV insert"),
      "server_line": "server $NAME $IP:$PORT check cookie $NAME"}, "`cookie`"),
    ({"template": TEMPLATE.replace("level admin", "level operator")}, "Permission denied"),
])
def test_what_a_running_haproxy_cannot_take_reloads(tmp_path, binary, settings, reason):
    with Balancer(tmp_path, binary, **settings) as site:
        site.start_app(8003)
        said = site.add(8003)
        assert re.search(f"HAProxy: reloading: .*{re.escape(reason)}", said), said
        site.haproxy.wait_servers(3)
        site.assert_same_everywhere()


def test_without_a_socket_it_reloads_as_before(tmp_path, binary):
    no_socket = re.sub(".*stats socket.*\n", "", TEMPLATE)
    with Balancer(tmp_path, binary, template=no_socket) as site:
        site.start_app(8003)
        assert "reloading: /run/haproxy/admin.sock: No such file" in site.add(8003)
        site.haproxy.wait_reloaded(site.worker)
        site.drop(8001), site.drop(8002)
        wait_until(lambda: site.request() == (200, "app8003"), 5)
        assert not site.due().exists()


def test_a_reload_that_fails_silently_is_noticed(tmp_path, binary):
    with Balancer(tmp_path, binary, reload_command="true") as site:
        site.template(TEMPLATE.replace("client 30s", "client 31s"))
        said = site.add(8003, code=69)
        assert "not reloaded 5 s after `true`: the old process goes on as before" in said
        assert site.due().exists()
        site.configure(reload_command="systemctl reload haproxy")
        assert "HAProxy: reloading: one is due from before" in site.run("generate")
        assert set(site.haproxy.servers()) == {"app8001", "app8002", "app8003"}
        site.assert_same_everywhere()


def test_a_reload_that_got_lost_is_asked_for_again(tmp_path, binary):
    lossy = "test -e /run/lost && exec systemctl reload haproxy; : >/run/lost"
    with Balancer(tmp_path, binary, reload_command=lossy) as site:
        site.template(TEMPLATE.replace("client 30s", "client 31s"))
        assert "HAProxy: reloaded" in site.run("generate")
        assert site.host.path("/run/lost").exists() and not site.due().exists()
        site.assert_same_everywhere()
