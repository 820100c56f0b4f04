"""EC2 on a bad day: each of its failures through the real binary, against an endpoint that checks every signature."""

import contextlib
import re
import subprocess
import time
from pathlib import Path

import pytest
from cli import environment, refusal
from lab import Ec2Endpoint, ProcStat, free_ports, wait_until
from loopback import Loopback


@pytest.fixture
def site(binary, tmp_path):
    with Loopback(binary, tmp_path) as site:
        yield site


def events(done):
    """What `scale-up -v` said, without the protocol's lines."""
    return [line.removeprefix("autoscaler: ") for line in done.stderr.splitlines() if "autoscaler: > " not in line]


def one_machine(site, done):
    """The scale-up came to its end, with one machine and one token."""
    assert done.returncode == 0, done
    [new] = site.ec2.launched
    assert site.ec2.running == site.listed() == [new]
    assert len(set(site.tokens())) == 1


# What passes: the same request again

PASSING = [("RequestLimitExceeded", 503), ("RequestLimitExceeded", 400), ("Throttling", 400),
           ("ThrottlingException", 429), ("EC2ThrottledException", 503), ("SlowDown", 503),
           ("TooManyRequestsException", 429), ("SomethingNew", 429),
           ("InternalError", 500), ("InternalFailure", 500), ("Unavailable", 503), ("ServiceUnavailable", 503),
           ("RequestTimeout", 400), ("SomethingNew", 500), ("bodiless", 500), ("bodiless", 503), ("bodiless", 429),
           ("page", 502), ("page", 504), ("bodiless-after", 502),
           ("reset", None), ("reset-after", None), ("truncate", None), ("endless-after", None), ("garbage-after", None),
           ("empty200-after", None)]


@pytest.mark.parametrize("kind, status", PASSING)
def test_what_passes_is_tried_again_with_the_same_token(site, kind, status):
    for action in ("DescribeInstances", "RunInstances"):
        site.ec2.fail_next(action, kind=kind, status=status)
    done = site.scale_up("-v")
    one_machine(site, done)
    assert [call.verdict for call in site.ec2.calls("RunInstances")] == [kind, "ok"]
    # Said once each, with EC2's code where there is one.
    code = {"bodiless": f"HTTP {status}", "page": f"HTTP {status}", "reset": "NoAnswer", "truncate": "NoAnswer",
            "endless": "NoAnswer", "garbage": "UnreadableAnswer", "empty200": "UnreadableAnswer"}
    said = [line for line in events(done) if "trying again" in line]
    name = code.get(kind.removesuffix("-after"), kind)
    assert len(said) == 2 and all(line.startswith(f"ec2: {name}, trying again in ") for line in said), said


# What lasts: a bounded number of tries in a bounded time, and one message

def closed_port():
    """A URL on which nobody listens."""
    return f"http://127.0.0.1:{free_ports()}"


LASTING = {"RequestLimitExceeded": "RequestLimitExceeded: RequestLimitExceeded, as asked for",
           "InternalError": "InternalError: ", "bodiless": "HTTP 503: no error of EC2", "reset": "NoAnswer: ",
           "hang": "Timeout: ", "endless": "NoAnswer: ", "truncate": "NoAnswer: ",
           "nobody listens": "NoAnswer: ", "no such name": "NoAnswer: ", "not TLS": "NoAnswer: "}


def test_what_lasts_ends_in_time_with_one_line_that_names_it(binary, tmp_path):
    """Side by side, as each takes its whole budget: `check`, which gives each call 15 s."""
    with contextlib.ExitStack() as stack:
        runs = {}
        for number, kind in enumerate(LASTING):
            site = stack.enter_context(Loopback(binary, tmp_path / str(number)))
            if kind == "nobody listens":
                site.configure(endpoint_url=closed_port())
            elif kind == "no such name":
                site.configure(endpoint_url="http://ec2.nowhere.invalid")
            elif kind == "not TLS":
                site.configure(endpoint_url=site.ec2.url.replace("http:", "https:"))
            else:
                site.ec2.fail_next("*", n=None, kind=kind)
            runs[kind] = site, site.cli.start("check")
        for kind, (site, process) in runs.items():
            out, err = process.communicate(timeout=120)
            assert process.returncode == 69 and "findings failed" in err, (kind, out, err)
            failed = [line for line in out.splitlines() if line.startswith("FAIL") and "EC2" in line]
            for action in ("DescribeInstances", "RunInstances"):
                [line] = [line for line in failed if f"EC2 {action}: " in line]
                assert f"{action}: {LASTING[kind]}" in line and line.endswith("; try again later"), (kind, line)
                assert len(site.ec2.calls(action)) <= 12
                # A second try, but where the first one takes the whole time.
                assert kind == "hang" or "n" in kind[:2] or len(site.ec2.calls(action)) > 1, kind
                tries = [each.time for each in site.ec2.calls(action)]
                assert not tries or tries[-1] - tries[0] <= 16, kind
            assert site.ec2.launched == [] and site.ec2.secret_key not in out + err


def test_a_launch_whose_answers_get_lost_is_one_machine_in_the_end(binary, tmp_path):
    """Side by side: the first answer hangs until it is given up; and none comes for as long as it is tried."""
    settings = {"machine": {"boot_timeout": "5m", "fallback_instance_types": "t3.large"}}
    with Loopback(binary, tmp_path / "1", settings) as hanging, Loopback(binary, tmp_path / "2", settings) as lost:
        hanging.ec2.fail_next("RunInstances", kind="hang-after")
        lost.ec2.fail_next("RunInstances", n=None, kind="reset-after")
        with lost.cli.start("scale-up") as process:
            done = hanging.scale_up("-v")
            one_machine(hanging, done)
            first, second = hanging.ec2.calls("RunInstances")
            assert 29 < second.time - first.time < 60
            assert any(line.startswith("ec2: Timeout, trying again") for line in events(done))
            out, line = process.communicate(timeout=120)
        assert (process.returncode, out) == (69, "")
        assert re.fullmatch(r"autoscaler: EC2 RunInstances: NoAnswer: .* \(RunInstances, tried \d+ times\); .*\n", line)
        calls = lost.ec2.calls("RunInstances")
        assert 3 < len(calls) <= 12 and calls[-1].time - calls[0].time < 61
        # Nothing else is tried: the machine is there, and the next scale-up finishes it.
        [new] = lost.ec2.launched
        lost.ec2.clear_faults()
        assert lost.scale_up().returncode == 0
        assert lost.ec2.launched == lost.ec2.running == lost.listed() == [new]
        assert len(lost.ec2.calls("RunInstances")) == len(calls) and len(set(lost.tokens())) == 1


# What is final: once, with EC2's code, what to do, and the exit code

FINAL = [("InstanceLimitExceeded", 400, 69, "raise the quota"), ("VcpuLimitExceeded", 400, 69, "raise the quota"),
         ("InsufficientInstanceCapacity", 500, 69, "another subnet or instance type"),
         ("InsufficientFreeAddressesInSubnet", 400, 69, "another subnet or instance type"),
         ("Unsupported", 400, 69, "another subnet or instance type"),
         ("SpotMaxPriceTooLow", 400, 69, "another subnet or instance type"),
         ("AuthFailure", 401, 77, "check the access key"), ("UnauthorizedOperation", 403, 77, "allow ec2:RunInstances"),
         ("OptInRequired", 401, 77, "AWS console"), ("Blocked", 403, 77, "AWS console"),
         ("InvalidAMIID.NotFound", 400, 78, "correct the request"),
         ("InvalidParameterValue", 400, 78, "correct the request")]


@pytest.mark.parametrize("code, status, exit_code, step", FINAL)
def test_what_is_final_is_said_once_with_what_to_do(site, code, status, exit_code, step):
    site.ec2.fail_next("RunInstances", n=None, kind=code, status=status, message="The reason.")
    line = refusal(site.scale_up(), exit_code)
    assert line.startswith(f"EC2 RunInstances: {code}: The reason; ") and step in line
    assert len(site.ec2.calls("RunInstances")) == 1 and site.ec2.launched == []
    # The lease is back: nothing stands in the way of the next one.
    site.ec2.clear_faults()
    assert site.scale_up().returncode == 0


def test_an_endless_answer_is_cut_off(site):
    """Whatever comes, no more than 8 MiB of it are kept."""
    for action in ("DescribeInstances", "RunInstances"):
        site.ec2.fail_next(action, kind="endless")
    peaks = []
    with site.cli.start("scale-up") as process:
        while process.poll() is None:
            peaks += re.findall(r"VmHWM:\s+(\d+) kB", Path(f"/proc/{process.pid}/status").read_text())
            time.sleep(0.005)
        assert process.communicate() == ("", "") and process.returncode == 0
    assert len(site.ec2.launched) == 1 and 8_000 < int(peaks[-1]) < 40_000, peaks[-1]


# TLS

def test_a_certificate_that_does_not_fit_is_no_reason_to_try_again(binary, tmp_path):
    with Loopback(binary, tmp_path, tls=True) as site, Ec2Endpoint(tls=True) as other:
        https = site.ec2.url
        by_name = https.replace("127.0.0.1", "localhost")
        for aws, step in (({"ca_bundle": other.ca_bundle}, "name the CA in ca_bundle or AWS_CA_BUNDLE"),
                          ({"ca_bundle": ""}, "name the CA in ca_bundle or AWS_CA_BUNDLE"),
                          ({"endpoint_url": by_name}, "use a name in endpoint_url that the certificate has")):
            site.configure(**aws)
            line = refusal(site.scale_up(), 78)
            assert line.startswith("EC2 DescribeInstances: ") and line.endswith(step), line
            assert ("localhost" if aws.get("endpoint_url") else "127.0.0.1") in line
        assert site.ec2.requests == []
        site.configure()
        one_machine(site, site.scale_up())


# The clock

@pytest.mark.parametrize("offset, refused", [(600, "RequestExpired"), (-600, "AuthFailure")])
def test_a_wrong_clock_is_corrected_by_ec2s_and_said_once(site, offset, refused):
    site.ec2.clock_offset = offset
    done = site.scale_up("-v")
    one_machine(site, done)
    # One refusal, which carries the right time, and then no other.
    assert [call.verdict for call in site.ec2.requests if call.verdict != "ok"] == [refused]
    said = [line for line in events(done) if "clock" in line]
    assert len(said) == 1 and re.fullmatch(r"ec2: this clock is (599|600|601) s off; signing by EC2's", said[0])
    done = site.cli.call("check")
    way = "behind" if offset > 0 else "ahead of"
    assert re.search(rf"^warn  clock: (599|600|601) s {way} EC2's; have it set by NTP$", done.stdout, re.M)


# As many as the command allows

def test_a_count_in_the_command_bounds_what_is_launched_at_a_time(binary, tmp_path):
    command = "aws ec2 run-instances --image-id ami-12345678 --instance-type t3.small --count 1:2"
    with Loopback(binary, tmp_path, {"machine": {"scale_up_command": command}}) as site:
        site.cli.call("scale-up", "--count", "3", timeout=90)
        [call] = site.ec2.calls("RunInstances")
        assert (call.params["MinCount"], call.params["MaxCount"], len(site.ec2.launched)) == ("1", "2", 2)


# Eventual consistency

def test_an_instance_that_is_not_found_yet_is_waited_for(site):
    site.ec2.visible_delay = 1.5
    done = site.scale_up("-v")
    one_machine(site, done)
    verdicts = [call.verdict for call in site.ec2.calls("DescribeInstances")]
    assert verdicts.count("InvalidInstanceID.NotFound") >= 2 and verdicts[-1] == "ok"
    assert not any("NotFound" in line for line in events(done))


def test_an_instance_that_is_not_found_yet_is_terminated_all_the_same(binary, tmp_path):
    with Loopback(binary, tmp_path, {"machine": {"boot_timeout": "1s"}}, visible_delay=3) as site:
        site.serves = False
        assert "not healthy within boot_timeout" in refusal(site.scale_up(), 69)
        verdicts = [call.verdict for call in site.ec2.calls("TerminateInstances")]
        assert len(verdicts) > 1 and set(verdicts[:-1]) == {"InvalidInstanceID.NotFound"} and verdicts[-1] == "ok"
        assert site.ec2.running == []


def test_an_instance_that_goes_straight_to_terminated_names_ec2s_reason(site):
    site.ec2.doom = ("Client.InvalidKMSKey.InvalidState", "Client.InvalidKMSKey.InvalidState: The KMS key is disabled")
    line = refusal(site.scale_up(), 69)
    [dead] = site.ec2.launched
    assert line == f"{dead}: is terminated: Client.InvalidKMSKey.InvalidState: The KMS key is disabled"
    wait_until(lambda: f"never came to serve: {line}" in site.master.log.read_text(), 10, "the master knows why")
    site.ec2.doom = None
    wait_until(lambda: site.scale_up().returncode == 0, 20, "the back-off is over")
    # With the dead one in the fleet, the next request has another token.
    assert len(set(site.tokens())) == len(site.ec2.launched) == 2
    assert site.ec2.running == site.listed() == site.ec2.launched[1:]


# One machine per need: the token

def fresh_after(site, killed):
    """The next scale-up, once the lease of a killed one has run out."""
    assert killed.wait(10) != 0
    wait_until(lambda: site.scale_up().returncode != 75, 30, "the lease is free again")


@pytest.mark.parametrize("visible", [True, False])
def test_a_launch_cut_short_is_one_machine(site, visible):
    """SIGKILL after EC2 has launched and before the answer is there: the orphan is found, or the token finds it."""
    site.ec2.fail_next("RunInstances", kind="hang-after")
    if not visible:
        site.ec2.visible_delay = 8.0
    with site.cli.start("scale-up") as first:
        site.ec2.wait_calls("RunInstances")
        first.kill()
        fresh_after(site, first)
    [new] = site.ec2.launched
    assert site.ec2.running == site.listed() == [new]
    assert len(site.ec2.calls("RunInstances")) == (1 if visible else 2) and len(set(site.tokens())) == 1


@pytest.mark.parametrize("old", [False, True])
def test_a_token_whose_instance_is_terminated_is_followed_by_the_next(site, old):
    """EC2 remembers a token for longer than it lists the instance."""
    site.ec2.old_tokens = old
    for count in (1, 2, 3):
        assert site.scale_up().returncode == 0 and len(site.ec2.launched) == count
        new = site.ec2.launched[-1]
        site.ec2.end(new)
        site.ec2.forget(new)
        site.cli.call("remove-host", new)
        assert site.listed() == []
    verdict = "ok" if old else "IdempotentInstanceTerminated"
    assert [call.verdict for call in site.ec2.calls("RunInstances")] == [
        "ok", verdict, "ok", verdict, verdict, "ok"]
    assert len(set(site.tokens())) == 3


def test_a_token_that_went_with_other_parameters_finds_what_was_launched(site):
    """Two nodes whose INI differs and who do not see each other: still one machine."""
    site.ec2.visible_delay = 4.0
    site.ec2.fail_next("RunInstances", kind="hang-after")
    with site.cli.start("scale-up") as first:
        site.ec2.wait_calls("RunInstances")
        first.kill()
        command = site.sections["machine"]["scale_up_command"]
        site.sections["machine"]["scale_up_command"] = f"{command} --user-data another"
        site.configure()
        fresh_after(site, first)
    [new] = site.ec2.launched
    assert site.ec2.running == site.listed() == [new]
    assert [call.verdict for call in site.ec2.calls("RunInstances")] == ["hang-after", "IdempotentParameterMismatch"]


def test_a_token_that_launched_nothing_with_other_parameters_blocks_nobody(site):
    """As after a launch for which there was no capacity, and a new image in the INI."""
    site.ec2.set_capacity(0)
    assert "InsufficientInstanceCapacity" in refusal(site.scale_up(), 69)
    site.ec2.set_capacity(5)
    command = site.sections["machine"]["scale_up_command"]
    site.sections["machine"]["scale_up_command"] = f"{command} --user-data another"
    site.configure()
    assert site.scale_up().returncode == 0
    [new] = site.ec2.launched
    assert site.ec2.running == site.listed() == [new]
    assert [call.verdict for call in site.ec2.calls("RunInstances")] == [
        "InsufficientInstanceCapacity", "IdempotentParameterMismatch", "ok"]
    assert len(set(site.tokens())) == 2


# Capacity

def test_every_pair_is_tried_and_none_while_an_outcome_is_unknown(binary, tmp_path):
    settings = {"machine": {"fallback_instance_types": "t3.large"}}
    with Loopback(binary, tmp_path, settings) as site:
        first, second = site.subnets[:2]
        settings["machine"]["fallback_subnet_ids"] = second
        site.configure()
        site.ec2.set_capacity(0)
        line = refusal(site.scale_up(), 69)
        assert "InsufficientInstanceCapacity: " in line and "all 4 pairs of subnet and type were tried" in line
        assert [pair[:2] for pair in site.tried()] == [(first, "t3.small"), (second, "t3.small"),
                                                       (first, "t3.large"), (second, "t3.large")]
        assert len(set(site.tokens())) == 4
        # The first answer is lost, and only the second says that there is no room: one token until then.
        site.ec2.requests.clear()
        site.ec2.set_capacity(5, subnet=second, type="t3.small")
        for kind in ("reset-after", "InternalError", "bodiless"):
            site.ec2.fail_next("RunInstances", kind=kind)
        assert site.scale_up().returncode == 0
        assert site.tried() == [(first, "t3.small", "reset-after"), (first, "t3.small", "InternalError"),
                                (first, "t3.small", "bodiless"), (first, "t3.small", "InsufficientInstanceCapacity"),
                                (second, "t3.small", "ok")]
        assert len(set(site.tokens())) == 2 and len(site.ec2.launched) == 1


def test_subnets_of_other_zones_do_not_go_with_a_zone_in_the_command(site):
    command = site.sections["machine"]["scale_up_command"] + " --placement AvailabilityZone=us-east-1a"
    site.settings["machine"] = {"scale_up_command": command, "fallback_subnet_ids": site.subnets[1]}
    site.configure()
    assert "take AvailabilityZone out of scale_up_command" in refusal(site.scale_up(), 78)
    assert site.ec2.requests == []


def test_a_daemon_begins_where_there_was_capacity_lately(binary, tmp_path):
    """Nothing that it launches comes to serve, so the need stays."""
    settings = {"scaling": {"cooldown": "1s", "scale_down_window": "1s"}}
    with Loopback(binary, tmp_path, settings) as site:
        site.serves = False
        first, second = site.subnets[:2]
        site.settings["machine"] = {"fallback_subnet_ids": second, "boot_timeout": "1s"}
        site.configure()
        site.ec2.set_capacity(0, subnet=first)
        log = tmp_path / "daemon.log"
        with ProcStat(tmp_path / "proc", load=95), open(log, "wb") as out:
            process = subprocess.Popen(site.cli.argv("daemon"), env=environment(), stdin=subprocess.DEVNULL,
                                       stdout=out, stderr=out)
            try:
                site.ec2.wait_calls("RunInstances", 3, timeout=60, verdict="ok")
            finally:
                process.kill()
                process.wait()
        said = log.read_text()
        assert [pair[0] for pair in site.tried()[:4]] == [first, second, second, second], said
        assert said.count("InsufficientInstanceCapacity") == 1
