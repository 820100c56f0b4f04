"""The lab tests itself: each promise of tests/lab once. It also serves as the lab's examples."""

import contextlib
import hashlib
import http.client
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import textwrap
import threading
import time
import urllib.error
import urllib.request
from pathlib import Path

import botocore.session
import pytest
from botocore.config import Config
from botocore.exceptions import ClientError, HTTPClientError

from lab import Ec2Endpoint, Network, ProcStat, missing, wait_until

needs_lab = pytest.mark.skipif(missing("sshd", "haproxy") is not None, reason=str(missing("sshd", "haproxy")))
SSH = ["ssh", "-o", "BatchMode=yes", "-o", "StrictHostKeyChecking=accept-new"]
HAPROXY = """
global
    stats socket /run/haproxy/admin.sock mode 600 level admin
defaults
    mode http
    timeout connect 1s
    timeout client 5s
    timeout server 5s
frontend web
    bind :80
    default_backend servers
backend servers
    server app1 {address}:80 check inter 100ms
"""


def get(host, url):
    """The text that `curl` inside `host` gets from `url`."""
    return host.run(["curl", "-s", "--max-time", "5", url]).stdout.strip()


def traces():
    """What a lab could leave behind on this machine: namespaces, links, mounts, processes."""
    def ip(*arguments):
        return subprocess.run(["ip", *arguments], capture_output=True, text=True, check=True).stdout
    return ip("netns"), re.sub(r"\d+: ", "", ip("-o", "link")), Path("/proc/self/mountinfo").read_text()


def processes_naming(text):
    """Ids of the processes whose command line holds `text`."""
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit() and int(entry.name) != os.getpid():
            try:
                if text.encode() in (entry / "cmdline").read_bytes():
                    found.append(int(entry.name))
            except OSError:
                pass
    return found


# Hosts

@pytest.fixture(scope="module")
def net(tmp_path_factory):
    with Network(tmp_path_factory.mktemp("net")) as network:
        yield network


@pytest.fixture(scope="module")
def pair(net):
    return net.host("left"), net.host("right")


@needs_lab
def test_hosts_reach_each_other_by_name_and_address(pair):
    left, right = pair
    right.start_app(8080, name="hello from right")
    for where in ("right", right.address, f"[{right.address6}]"):
        assert get(left, f"http://{where}:8080/") == "hello from right"
    with left.connect(8080, right.address) as connection:
        assert connection.getpeername() == (right.address, 8080)


@needs_lab
def test_nothing_outside_is_reachable(pair):
    left, _ = pair
    assert "default" not in left.run(["ip", "route"]).stdout
    with pytest.raises(OSError, match="unreachable"):
        left.connect(80, "192.0.2.1", timeout=2)
    links = left.run(["ip", "-o", "link"]).stdout
    assert sorted(re.findall(r"^\d+: (\w+)", links, re.M)) == ["eth0", "lo"]


@needs_lab
def test_a_host_has_its_own_name_and_files_and_processes(pair):
    left, right = pair
    assert left.run(["cat", "/proc/sys/kernel/hostname"]).stdout == "left\n"
    left.run(["sh", "-c", "echo mine > /etc/autoscaler/x; echo run > /run/x; mkdir /var/lib/autoscaler"])
    assert left.path("/etc/autoscaler/x").read_text() == "mine\n"
    assert not right.path("/etc/autoscaler/x").exists() and not Path("/run/x").exists()
    right.path("/root/y").write_text("from outside")
    assert right.run(["cat", "/root/y"]).stdout == "from outside"
    assert left.run(["ps", "-o", "comm=", "-p", "1"]).stdout.strip() == "cat"


@needs_lab
def test_run_and_popen_report_what_happened(pair):
    left, _ = pair
    with pytest.raises(AssertionError, match="(?s)exit 3.*no such luck"):
        left.run(["sh", "-c", "echo no such luck >&2; exit 3"])
    with pytest.raises(subprocess.TimeoutExpired):
        left.run(["sh", "-c", "sleep 77 & sleep 77"], timeout=0.2)
    assert left.run(["cat"], input="hi").stdout == "hi"
    left.script("talk", "#!/bin/sh\necho one $LAB\necho two\nexec sleep 60\n")
    talk = left.popen(["talk"], env={"LAB": "rat"})
    assert talk.wait_line("one (.*)")[1] == "rat"
    with pytest.raises(AssertionError, match="(?s)three.*one rat\ntwo"):
        talk.wait_line("three", timeout=0.2)
    for sig in (signal.SIGSTOP, signal.SIGCONT, signal.SIGTERM):
        talk.kill(sig)
    assert talk.wait() == -signal.SIGTERM
    stuck = left.popen(["sleep", "1000"])
    stuck.kill(signal.SIGSTOP)
    stuck.kill()
    assert stuck.wait() == -signal.SIGKILL


@needs_lab
def test_sshd_takes_the_key_and_carries_a_reverse_tunnel(pair):
    left, right = pair
    left.start_sshd(), right.start_sshd()
    right.script("which-host", "#!/bin/sh\nhostname=$(cat /proc/sys/kernel/hostname)\necho \"on $hostname\"\n")
    assert left.run([*SSH, "root@right", "which-host"]).stdout == "on right\n"
    right.add_user("worker")
    assert left.run([*SSH, "worker@right", "id -un; which-host"]).stdout == "worker\non right\n"
    left.start_app(9000, name="left behind a tunnel", bind="127.0.0.1")
    left.popen([*SSH, "-o", "ExitOnForwardFailure=yes", "-N", "-R", "65432:127.0.0.1:9000", "root@right"], log="t.log")
    right.wait_port(65432)
    assert get(right, "http://127.0.0.1:65432/") == "left behind a tunnel"


@needs_lab
def test_haproxy_serves_an_app_and_reloads(net, pair):
    left, _ = pair
    app = net.host("app1")
    app.start_app(80)
    left.path("/etc/haproxy/haproxy.cfg").write_text(HAPROXY.format(address=app.address))
    haproxy = left.start_haproxy()
    assert haproxy.wait_servers(1) == ["app1"]
    assert get(left, "http://127.0.0.1/") == "app1"
    for reload in (haproxy.reload_command, "systemctl reload haproxy"):
        before = {pid for pid, _ in haproxy.workers}
        left.run(["sh", "-c", reload])
        haproxy.wait_reloaded(before)
    haproxy.reload()
    assert get(left, "http://127.0.0.1/") == "app1"
    sick = app.start_app(81, healthy=False)
    assert '"503"' in json.dumps(app.run(["curl", "-s", "-o", "/dev/null", "-w", "%{http_code}",
                                          "http://127.0.0.1:81/healthz"]).stdout)
    assert sick.alive


@needs_lab
@pytest.mark.parametrize("what", ["cable", "peer"])
def test_a_cut_cable_loses_packets_and_mends(pair, what):
    left, right = pair
    listener = right.listen(9100)
    connection = left.connect(9100, right.address)
    far, _ = listener.accept()
    left.cut(*([right] if what == "peer" else []))
    connection.sendall(b"are you there?")
    far.settimeout(0.3)
    with pytest.raises(TimeoutError):
        far.recv(100)
    left.mend()
    far.settimeout(10)
    assert far.recv(100) == b"are you there?"
    for each in (connection, far, listener):
        each.close()


@needs_lab
def test_a_slow_cable_delays_both_ways(pair):
    left, right = pair
    listener = right.listen(9200)
    right.slow(40)
    began = time.monotonic()
    connection = left.connect(9200, right.address)
    assert 0.08 <= time.monotonic() - began < 1
    far, _ = listener.accept()
    data = os.urandom(1 << 20)  # large enough for the kernel to send more than one frame at a time
    sender = threading.Thread(target=connection.sendall, args=(data,))
    sender.start()
    far.settimeout(10)
    received = b""
    while len(received) < len(data):
        received += far.recv(1 << 16)
    assert hashlib.sha256(received).digest() == hashlib.sha256(data).digest()
    sender.join()
    right.slow(0)
    for each in (connection, far):
        each.close()

    def quick():
        began = time.monotonic()
        left.connect(9200, right.address).close()
        return time.monotonic() - began < 0.08
    wait_until(quick, 5, "it is as quick as before")
    listener.close()


@needs_lab
def test_power_off_is_sudden_and_boot_keeps_the_disk(net, pair):
    left, _ = pair
    host = net.host("victim")
    host.path("/var/lib/state").write_text("kept")
    host.path("/run/pid").write_text("lost")
    process = host.popen(["sleep", "1000"])
    listener = host.listen(9300)
    connection = left.connect(9300, host.address)
    host.kill()
    listener.close()
    assert process.wait() == -signal.SIGKILL and not host.alive
    connection.settimeout(0.3)
    with pytest.raises(TimeoutError):  # nobody said goodbye
        connection.recv(1)
    host.boot()
    assert "pid" not in host.run(["ls", "/run"]).stdout.split()
    assert host.run(["cat", "/var/lib/state"]).stdout == "kept"
    host.start_app(80)
    assert get(left, "http://victim/") == "victim"
    connection.close()
    host.kill()
    assert net.host("heir", host.address).address == host.address


@needs_lab
def test_closing_leaves_nothing(tmp_path):
    before = traces()
    with pytest.raises(ZeroDivisionError), Network(tmp_path / "n") as net:
        host = net.host("one")
        host.start_sshd()
        host.popen(["sh", "-c", "sleep 1234 & setsid sleep 1234"])
        assert traces() == before  # not even while it runs
        1 / 0
    assert traces() == before
    assert processes_naming(str(tmp_path)) == []


@needs_lab
def test_a_killed_test_process_leaves_nothing(tmp_path):
    before = traces()
    program = textwrap.dedent(f"""
        import sys, time
        sys.path.insert(0, {str(Path(__file__).parent.parent)!r})
        from lab import Network
        host = Network({str(tmp_path / "n")!r}).host("one")
        host.start_sshd()
        host.start_app(80)
        print("ready", host._init, flush=True)
        time.sleep(1000)
    """)
    child = subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE, text=True)
    init = child.stdout.readline().split()[1]
    assert processes_naming(str(tmp_path))
    child.kill()
    child.wait()
    child.stdout.close()
    wait_until(lambda: not Path(f"/proc/{init}").exists() and not processes_naming(str(tmp_path)), 5, "all gone")
    assert traces() == before


def test_procstat_shows_exactly_the_load(tmp_path):
    def counts():
        fields = (tmp_path / "stat").read_text().splitlines()[0].split()
        numbers = [int(each) for each in fields[1:]]
        return sum(numbers), numbers[3] + numbers[4]

    with ProcStat(tmp_path, load=37, cpus=2, running=False) as stat:
        total, idle = counts()
        stat.step(100)
        assert (counts()[0] - total, counts()[1] - idle) == (2000, 1260)
        stat.go_back()
        assert counts()[0] < total + 2000
        stat.add_cpu()
        assert [line.split()[0] for line in (tmp_path / "stat").read_text().splitlines()[:4]] == [
            "cpu", "cpu0", "cpu1", "cpu2"]
    with ProcStat(tmp_path, load=100):
        begin = counts()
        wait_until(lambda: counts()[0] >= begin[0] + 60, 5, "three steps")
        assert counts()[1] == begin[1]


# EC2

@pytest.fixture
def ec2():
    with Ec2Endpoint() as endpoint:
        yield endpoint


# One for all: it reads the service's large model only once.
SESSION = botocore.session.Session()


def client(ec2, **changes):
    """A botocore EC2 client of the endpoint; `changes` to its credentials."""
    credentials = {"aws_access_key_id": ec2.access_key, "aws_secret_access_key": ec2.secret_key,
                   "aws_session_token": ec2.session_token, **changes}
    return SESSION.create_client("ec2", region_name=ec2.region, endpoint_url=ec2.url, **credentials,
                                 verify=str(ec2.ca_bundle) if ec2.ca_bundle else None,
                                 config=Config(retries={"total_max_attempts": 1}, read_timeout=5))


def launch(ec2, token="t1", n=1, **more):
    """RunInstances; the ids of the instances."""
    answer = client(ec2).run_instances(ImageId=ec2.image, MinCount=1, MaxCount=n, ClientToken=token, **more)
    return [each["InstanceId"] for each in answer["Instances"]]


def describe(ec2, **request):
    """DescribeInstances; {id: instance}."""
    answer = client(ec2).describe_instances(**request)
    return {each["InstanceId"]: each for group in answer["Reservations"] for each in group["Instances"]}


def code_of(function, *arguments, **named):
    """EC2's error code of a call that must fail."""
    with pytest.raises(ClientError) as caught:
        function(*arguments, **named)
    return caught.value.response["Error"]["Code"]


def test_an_instance_lives_and_ends_as_in_ec2():
    events = []
    with Ec2Endpoint(on_launch=lambda *event: events.append(event), boot_delay=60, stop_delay=60,
                     on_terminate=lambda *event: events.append(event)) as ec2:
        tags = [{"ResourceType": "instance", "Tags": [{"Key": "autoscaler:cluster", "Value": "c"}]}]
        [made] = launch(ec2, TagSpecifications=tags, SubnetId=ec2.subnets["us-east-1b"])
        assert ec2.launched == [made]
        named = {"Filters": [{"Name": "tag:autoscaler:cluster", "Values": ["c"]},
                             {"Name": "instance-state-name", "Values": ["pending"]}]}
        found = describe(ec2, **named)[made]
        assert found["State"]["Name"] == "pending" and found["PrivateIpAddress"] == "127.0.1.1"
        assert found["Placement"]["AvailabilityZone"] == "us-east-1b"
        assert "PublicIpAddress" not in found
        ec2.clock_offset = 61
        assert describe(ec2)[made]["State"]["Name"] == "running"
        client(ec2).terminate_instances(InstanceIds=[made])
        assert describe(ec2)[made]["State"]["Name"] == "shutting-down"
        ec2.clock_offset = 122
        assert describe(ec2)[made]["State"]["Name"] == "terminated"
        assert "PrivateIpAddress" not in describe(ec2)[made]
        ec2.forget(made)
        assert describe(ec2) == {}
    assert events[0][:2] == (made, "127.0.1.1") and events[0][2]["ClientToken"] == "t1" and events[1:] == [(made,)]


def test_what_a_call_back_raises_fails_the_test():
    def refuse(*_):
        raise AssertionError("no such host")

    with pytest.raises(AssertionError, match="no such host"):
        with Ec2Endpoint(on_launch=refuse) as ec2:
            launch(ec2)


def test_the_aws_cli_is_served(ec2):
    aws = shutil.which("aws", path=f"{Path(sys.executable).parent}:{os.environ['PATH']}")
    if aws is None:
        pytest.skip("no AWS CLI here")
    done = subprocess.run([aws, "ec2", "run-instances", "--image-id", ec2.image, "--count", "1:3", "--user-data", "x",
                           "--iam-instance-profile", "Name=p", "--key-name", "k", "--security-group-ids", "sg-1",
                           "--subnet-id", ec2.subnets["us-east-1a"], "--associate-public-ip-address",
                           "--tag-specifications", "ResourceType=instance,Tags=[{Key=a,Value=b}]"],
                          env={**os.environ, **ec2.env()}, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert len(json.loads(done.stdout)["Instances"]) == 3 and ec2.calls("RunInstances", "ok")


def test_a_wrong_secret_key_token_or_clock_is_refused():
    with Ec2Endpoint(session_token="the token") as ec2:
        assert describe(ec2) == {}
        assert code_of(client(ec2, aws_secret_access_key="wrong").describe_instances) == "SignatureDoesNotMatch"
        assert code_of(client(ec2, aws_access_key_id="AKIAWRONG").describe_instances) == "AuthFailure"
        assert code_of(client(ec2, aws_session_token=None).describe_instances) == "AuthFailure"
        ec2.clock_offset = 301
        assert code_of(client(ec2).describe_instances) == "RequestExpired"
        ec2.clock_offset = -310
        assert code_of(client(ec2).describe_instances) == "AuthFailure"
        assert [each.status for each in ec2.requests] == [200, 403, 401, 401, 400, 401]


def signed(ec2):
    """(body, headers) of a DescribeInstances that botocore has signed for the endpoint."""
    taken = {}
    boto = client(ec2)

    def take(request, **_):
        taken.update(request.headers.items())
        taken["body"] = request.body
    boto.meta.events.register("before-send", take)
    boto.describe_instances()
    body = taken.pop("body")
    taken.pop("Content-Length")
    return body, {name: value.decode() if isinstance(value, bytes) else value for name, value in taken.items()}


@contextlib.contextmanager
def post(ec2, body, headers):
    """Sends a request as it is; gives the open http.client response."""
    connection = http.client.HTTPConnection(ec2.url.removeprefix("http://"), timeout=5)
    connection.request("POST", "/", body, headers)
    with contextlib.closing(connection), connection.getresponse() as answer:
        yield answer


def test_a_changed_body_or_an_unsigned_request_is_refused(ec2):
    def verdict(body, headers):
        with post(ec2, body, headers) as answer:
            assert answer.getheader("Transfer-Encoding") == "chunked" and answer.getheader("Date")
            text = answer.read().decode()
            return answer.status, re.search("<Code>(.*)</Code>", text)[1] if "<Code>" in text else "ok"

    body, headers = signed(ec2)
    assert verdict(body, headers) == (200, "ok")
    assert verdict(body + "&X=1", headers) == (403, "SignatureDoesNotMatch")
    assert verdict(body, {**headers, "X-Amz-More": "1"}) == (403, "SignatureDoesNotMatch")
    del headers["Authorization"]
    assert verdict(body, headers) == (400, "MissingAuthenticationToken")


def test_parameters_are_checked_as_ec2_does(ec2):
    from lab import parameters
    from lab.signature import Refused

    def verdict(action, **params):
        try:
            parameters.check("ec2", {"Action": action, "Version": "2016-11-15", **params})
            return "ok"
        except Refused as refusal:
            return refusal.code

    one = {"ImageId": "ami-1", "MinCount": "1", "MaxCount": "1"}
    assert verdict("RunInstances", **one) == "ok"
    assert verdict("RunInstances", **one, **{"TagSpecification.1.Tag.1.Key": "k"}) == "ok"
    assert verdict("RunInstances", **one, **{"TagSpecification.1.Tags.1.Key": "k"}) == "UnknownParameter"
    assert verdict("RunInstances", **one, **{"SecurityGroupId.2": "sg"}) == "InvalidParameter"
    assert verdict("RunInstances", **one, ClientToken="x" * 65) == "InvalidParameterValue"
    assert verdict("RunInstances", **one, UserData="not base64!") == "InvalidUserData.Malformed"
    assert verdict("RunInstances", **one, EbsOptimized="True") == "InvalidParameterValue"
    assert verdict("RunInstances", MaxCount="1") == "MissingParameter"
    assert verdict("LaunchRockets") == "InvalidAction"


def test_a_client_token_counts_per_zone_and_parameters(ec2):
    first = launch(ec2, "same")
    assert launch(ec2, "same") == first
    assert code_of(launch, ec2, "same", InstanceType="t3.large") == "IdempotentParameterMismatch"
    a, b = ec2.subnets["us-east-1a"], ec2.subnets["us-east-1b"]
    in_a = launch(ec2, "zonal", SubnetId=a)
    assert launch(ec2, "zonal", SubnetId=a) == in_a
    in_b = launch(ec2, "zonal", SubnetId=b)
    assert in_b != in_a  # the same token launches again in another zone
    assert code_of(launch, ec2, "zonal", SubnetId=a, InstanceType="t3.large") == "IdempotentParameterMismatch"
    token = {"Filters": [{"Name": "client-token", "Values": ["zonal"]}]}
    assert set(describe(ec2, **token)) == set(in_a + in_b)
    client(ec2).terminate_instances(InstanceIds=in_a)
    assert code_of(launch, ec2, "zonal", SubnetId=a) == "IdempotentInstanceTerminated"
    assert len(ec2.launched) == 3


def test_dry_runs_capacity_and_quota(ec2):
    assert code_of(launch, ec2, DryRun=True) == "DryRunOperation"
    assert ec2.requests[-1].status == 412 and not ec2.launched
    a, b = ec2.subnets["us-east-1a"], ec2.subnets["us-east-1b"]
    ec2.set_capacity(2, subnet=a)
    assert len(launch(ec2, "1", n=5, SubnetId=a)) == 2
    assert code_of(launch, ec2, "2", SubnetId=a) == "InsufficientInstanceCapacity"
    assert ec2.requests[-1].status == 500
    assert code_of(launch, ec2, "2", SubnetId=a, InstanceType="t3.large") == "IdempotentParameterMismatch"
    assert len(launch(ec2, "3", SubnetId=b)) == 1
    ec2.quota = 3
    assert code_of(launch, ec2, "4") == "InstanceLimitExceeded"
    ec2.quota = 5
    assert len(launch(ec2, "5", n=9)) == 2  # what the quota leaves
    assert code_of(launch, ec2, "5", n=8) == "IdempotentParameterMismatch"


def test_terminations_that_are_refused(ec2):
    [free, kept] = launch(ec2, n=2)
    ec2.protect(kept)
    [made] = launch(ec2, "2", DisableApiTermination=True)
    terminate = client(ec2).terminate_instances
    assert code_of(terminate, InstanceIds=[free], DryRun=True) == "DryRunOperation"
    assert code_of(terminate, InstanceIds=[kept]) == "OperationNotPermitted"
    assert code_of(terminate, InstanceIds=[made]) == "OperationNotPermitted"
    ec2.protect(kept, False)
    terminate(InstanceIds=[kept])
    assert ec2.running == [free, made]


def test_what_people_do_to_instances(ec2):
    [one] = launch(ec2)
    ec2.stop(one)
    ec2.tag(one, autoscaler_keep="yes")
    ec2.no_launch_times = True
    found = describe(ec2)[one]
    assert found["State"]["Name"] == "stopped" and "LaunchTime" not in found
    assert {"Key": "autoscaler:keep", "Value": "yes"} in found["Tags"]


def test_a_new_instance_is_not_visible_at_once(ec2):
    ec2.visible_delay = 60
    [made] = launch(ec2)
    assert describe(ec2) == {}
    assert code_of(describe, ec2, InstanceIds=[made]) == "InvalidInstanceID.NotFound"
    assert code_of(client(ec2).terminate_instances, InstanceIds=[made]) == "InvalidInstanceID.NotFound"
    ec2.clock_offset = 61
    assert made in describe(ec2)


def test_failures_come_as_asked_for(ec2):
    ec2.fail_next("DescribeInstances", 2, "RequestLimitExceeded")
    for _ in range(2):
        assert code_of(client(ec2).describe_instances) == "RequestLimitExceeded"
        assert ec2.requests[-1].status == 503
    assert describe(ec2) == {}
    for kind in ("reset", "truncate", "reset-after"):
        ec2.fail_next("RunInstances", 1, kind)
        with pytest.raises(HTTPClientError):
            launch(ec2, kind)
    # An answer that was lost or cut is no launch that was lost: the same token finds it again.
    assert [len(ec2.calls("RunInstances", kind)) for kind in ("reset", "truncate", "reset-after")] == [1, 1, 1]
    assert len(ec2.launched) == 2
    assert launch(ec2, "reset-after") == ec2.launched[1:]


def test_answers_that_are_none(ec2):
    body, headers = signed(ec2)
    ec2.fail_next("*", 1, "empty200")
    ec2.fail_next("*", 1, "garbage")
    ec2.fail_next("*", 1, "endless")
    with post(ec2, body, headers) as answer:
        assert (answer.status, answer.read()) == (200, b"")
    with post(ec2, body, headers) as answer:
        assert answer.status == 200 and b"portal" in answer.read()
    with post(ec2, body, headers) as answer:
        assert len(answer.read(3_000_000)) == 3_000_000
        ec2.release()
        with pytest.raises(http.client.IncompleteRead):
            answer.read()


def test_errors_that_are_not_ec2s(ec2):
    body, headers = signed(ec2)
    ec2.fail_next("*", 1, "bodiless")
    ec2.fail_next("*", 1, "page", status=502)
    with post(ec2, body, headers) as answer:
        assert (answer.status, answer.read()) == (503, b"")
    with post(ec2, body, headers) as answer:
        assert answer.status == 502 and answer.read().startswith(b"<html>")
    assert [call.status for call in ec2.calls("DescribeInstances")][-2:] == [503, 502]


def test_an_instance_can_go_straight_to_terminated(ec2):
    ec2.doom = ("Server.InternalError", "Server.InternalError: Internal error on launch")
    [made] = launch(ec2)
    found = describe(ec2)[made]
    assert found["State"]["Name"] == "terminated" and found["StateReason"]["Message"] == ec2.doom[1]
    assert code_of(launch, ec2) == "IdempotentInstanceTerminated"
    ec2.old_tokens = True
    assert launch(ec2) == [made] and ec2.launched == [made]


def test_a_hang_ends_when_it_is_released(ec2):
    ec2.fail_next("*", 1, "hang")
    errors = []

    def ask():
        try:
            describe(ec2)
        except Exception as error:
            errors.append(error)

    thread = threading.Thread(target=ask)
    thread.start()
    ec2.wait_calls("DescribeInstances")
    assert thread.is_alive()
    ec2.release()
    thread.join(5)
    assert errors and not thread.is_alive()


def test_tls_with_a_ca_of_its_own():
    with Ec2Endpoint(tls=True) as ec2:
        assert ec2.url.startswith("https://") and describe(ec2) == {}
        with pytest.raises(urllib.error.URLError, match="CERTIFICATE_VERIFY_FAILED"):
            urllib.request.urlopen(ec2.url, timeout=5)


def test_a_group_launches_and_ends_what_it_is_told_to(ec2):
    boto = SESSION.create_client(
        "autoscaling", region_name=ec2.region, endpoint_url=ec2.url, aws_access_key_id=ec2.access_key,
        aws_secret_access_key=ec2.secret_key)

    def refused(call, word, **params):
        with pytest.raises(ClientError, match=word):
            call(AutoScalingGroupName="g", **params) if "InstanceId" not in params else call(**params)

    refused(boto.set_desired_capacity, "not found", DesiredCapacity=3)
    ec2.groups.create("g", tags={"autoscaler:cluster": "c"}, least=1, most=2, desired=1)
    [first] = ec2.launched
    refused(boto.set_desired_capacity, "above max value 2", DesiredCapacity=3)
    ec2.groups.delay = 10
    boto.set_desired_capacity(AutoScalingGroupName="g", DesiredCapacity=2)

    def group():
        [found] = boto.describe_auto_scaling_groups(AutoScalingGroupNames=["g"])["AutoScalingGroups"]
        return found

    # At once it is wanted, and later it is there: told once more, so that nobody has to wait for it.
    assert (group()["DesiredCapacity"], len(group()["Instances"])) == (2, 1)
    ec2.groups.delay = 0.0
    boto.set_desired_capacity(AutoScalingGroupName="g", DesiredCapacity=2)
    wait_until(lambda: len(group()["Instances"]) == 2, 5, "the second is there")
    second = ec2.launched[1]
    tags = {each["Key"]: each["Value"] for each in describe(ec2)[second]["Tags"]}
    assert tags["autoscaler:cluster"] == "c" and tags["aws:autoscaling:groupName"] == "g"
    ec2.groups.set_lifecycle(second, "Standby")
    assert {each["LifecycleState"] for each in group()["Instances"]} == {"InService", "Standby"}
    leave = boto.terminate_instance_in_auto_scaling_group
    leave(InstanceId=first, ShouldDecrementDesiredCapacity=True)
    assert ec2.running == [second] and group()["DesiredCapacity"] == 1
    refused(leave, "equals minSize", InstanceId=second, ShouldDecrementDesiredCapacity=True)
    leave(InstanceId=second, ShouldDecrementDesiredCapacity=False)
    assert len(ec2.running) == 1 and second not in ec2.running
    refused(leave, "not found", InstanceId=second, ShouldDecrementDesiredCapacity=False)


def metadata(ec2, path, method="GET", **headers):
    """(status, text) from the metadata service."""
    headers = {f"X-aws-ec2-metadata-{name}": value for name, value in headers.items()}
    request = urllib.request.Request(ec2.metadata_url + path, method=method, headers=headers)
    try:
        with urllib.request.urlopen(request, timeout=5) as answer:
            return answer.status, answer.read().decode()
    except urllib.error.HTTPError as error:
        return error.code, ""


def test_metadata_gives_credentials_that_work(ec2):
    assert metadata(ec2, "/latest/api/token", "PUT")[0] == 400
    assert metadata(ec2, "/latest/api/token", "PUT", **{"token-ttl-seconds": "21601"})[0] == 400
    assert metadata(ec2, "/latest/meta-data/placement/region")[0] == 401
    token = {"token": metadata(ec2, "/latest/api/token", "PUT", **{"token-ttl-seconds": "60"})[1]}
    assert metadata(ec2, "/latest/meta-data/placement/region", **token) == (200, "us-east-1")
    assert metadata(ec2, "/latest/meta-data/instance-id", **token)[0] == 404
    ec2.imds.default_instance = ec2.seed("127.0.1.9")
    assert metadata(ec2, "/latest/meta-data/local-ipv4", **token) == (200, "127.0.1.9")
    roles = "/latest/meta-data/iam/security-credentials/"
    role = metadata(ec2, roles, **token)[1]
    keys = json.loads(metadata(ec2, roles + role, **token)[1])
    boto = client(ec2, aws_access_key_id=keys["AccessKeyId"], aws_secret_access_key=keys["SecretAccessKey"],
                  aws_session_token=keys["Token"])
    assert boto.describe_instances()["Reservations"]
    ec2.imds.expire_tokens()
    assert metadata(ec2, roles, **token)[0] == 401
    ec2.imds.role = None
    token = {"token": metadata(ec2, "/latest/api/token", "PUT", **{"token-ttl-seconds": "60"})[1]}
    assert metadata(ec2, roles, **token)[0] == 404
    ec2.imds.mode = "off"
    assert metadata(ec2, "/latest/api/token", "PUT", **{"token-ttl-seconds": "60"})[0] == 403


# Both together

@needs_lab
def test_a_launch_boots_a_host_that_haproxy_can_serve(tmp_path):
    with Network(tmp_path) as net:
        lb = net.host("lb1")

        def boot(instance_id, address, params):
            host = net.host(instance_id, address)
            host.start_app(80)

        with Ec2Endpoint(host=net.host("aws"), on_launch=boot, on_terminate=lambda i: net.hosts[i].kill()) as ec2:
            aws = lb.run([sys.executable, "-c", textwrap.dedent(f"""
                import botocore.session
                ec2 = botocore.session.Session().create_client("ec2")
                made = ec2.run_instances(ImageId="ami-1", MinCount=1, MaxCount=1)["Instances"][0]
                print(made["InstanceId"], made["PrivateIpAddress"])
                """)], env=ec2.env())
            instance, address = aws.stdout.split()
            assert address == "10.77.0.100" and ec2.requests[0].client == lb.address
            wait_until(lambda: instance in net.hosts and net.hosts[instance].alive, 5, "it boots")
            lb.wait_port(80, address)
            assert get(lb, f"http://{address}/") == instance
            token = net.hosts[instance].run(["curl", "-sX", "PUT", "-H", "X-aws-ec2-metadata-token-ttl-seconds: 60",
                                             f"{ec2.metadata_url}/latest/api/token"]).stdout
            asked = net.hosts[instance].run(["curl", "-s", "-H", f"X-aws-ec2-metadata-token: {token}",
                                             f"{ec2.metadata_url}/latest/meta-data/instance-id"]).stdout
            assert asked == instance
            ec2.end(instance)
            wait_until(lambda: not net.hosts[instance].alive, 5, "it is off")
