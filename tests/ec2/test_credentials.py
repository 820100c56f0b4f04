"""Whose credentials, and what is said of those that are wrong, run out, or allow too little."""

import json
import os
import subprocess
import sys

import pytest
from conftest import ROOT
from lab import Ec2Endpoint, missing, wait_until
from site_lab import COMMAND, Site
from test_check import Report
from test_group import group_site

TAG = {"autoscaler:cluster": "default"}


def policy(ec2, name="iam-policy.json", cluster="default", without=()):
    """A document of packaging/, for this account and cluster, but `without` these actions."""
    text = (ROOT / "packaging" / name).read_text().replace("ACCOUNT", ec2.fleet.moto.account)
    document = json.loads(text.replace('"default"', f'"{cluster}"'))
    for statement in document["Statement"]:
        actions = statement["Action"] if isinstance(statement["Action"], list) else [statement["Action"]]
        statement["Action"] = [action for action in actions if action not in without] or ["none:None"]
    return document


@pytest.fixture
def ec2():
    with Ec2Endpoint() as endpoint:
        yield endpoint


@pytest.fixture
def ask(cli, ec2):
    """A function: `prune`, which asks EC2 for the cluster's instances, with these lines of [aws] or this environment."""
    def ask(ini=None, **env):
        cli.write(ini or ec2.ini(credentials=False))
        return cli.call("prune", env=env)

    cli.write(ec2.ini())
    cli("add-host", "127.0.1.1", 80, "--id", ec2.seed("127.0.1.1", TAG))
    return ask


def test_wrong_expired_and_insufficient_each_have_their_message(ask, ec2):
    right = ec2.ini()
    assert ask(right).returncode == 0

    def refused(ini, *words):
        done = ask(ini)
        assert done.returncode == 77 and done.stdout == "", done
        assert done.stderr.startswith("autoscaler: EC2 DescribeInstances: ") and done.stderr.count("\n") == 1, done
        assert all(word in done.stderr for word in words) and "Encoded" not in done.stderr, done
        assert ec2.secret_key not in done.stderr and "not-the-secret" not in done.stderr
        return done.stderr

    said = [
        refused(right.replace(ec2.secret_key, "not-the-secret"), "SignatureDoesNotMatch", "check the access key"),
        refused(right.replace(ec2.access_key, "AKIA0000000000000000"), "AuthFailure", "check the access key"),
    ]
    ec2.credentials["ASIAOLD"] = (ec2.secret_key, "session", ec2.now() - 1)
    old = right.replace(ec2.access_key, "ASIAOLD") + "aws_session_token = session\n"
    said.append(refused(old, "RequestExpired", "renew the session credentials"))
    ec2.policy = policy(ec2, without=["ec2:DescribeInstances"])
    said.append(refused(right, "UnauthorizedOperation", "allow ec2:DescribeInstances in the IAM policy"))
    assert len(set(said)) == 4
    ec2.policy = policy(ec2)
    assert ask(right).returncode == 0


def test_the_action_to_allow_is_named_for_the_launch(cli, ec2):
    command = COMMAND.format(image=ec2.image, subnet=next(iter(ec2.subnets.values()))) + " --iam-instance-profile Name=p"
    cli.write(ec2.ini() + f"[machine]\nscale_up_command = {command}\n[haproxy]\nservers = 127.0.0.1\nssh_command = false\n")

    def launch(word, *texts):
        return Report(cli.call("check", timeout=90)).has(word, *texts)

    ec2.policy = policy(ec2)
    launch("ok", "scale_up_command: EC2 would launch (a signed dry run)")
    launch("skip", "termination: not tried")
    old = ec2.seed("127.0.1.9", TAG)
    launch("ok", f"termination: EC2 would terminate {old} (a signed dry run)")
    ec2.policy = policy(ec2, without=["ec2:TerminateInstances"])
    launch("FAIL", "EC2 TerminateInstances: UnauthorizedOperation", "allow ec2:TerminateInstances in the IAM policy")
    assert ec2.running == [old]
    for action in ("ec2:RunInstances", "ec2:CreateTags", "iam:PassRole"):
        ec2.policy = policy(ec2, without=[action])
        launch("FAIL", "EC2 RunInstances: UnauthorizedOperation", f"allow {action} in the IAM policy")
    # The policy of another cluster.
    ec2.policy = policy(ec2, cluster="other")
    launch("FAIL", "EC2 RunInstances: UnauthorizedOperation", "allow ec2:RunInstances in the IAM policy")
    assert ec2.launched == []


def test_each_source_is_named_and_so_is_what_was_passed_over(ask, ec2, cli, tmp_path):
    keys = {"AWS_ACCESS_KEY_ID": ec2.access_key, "AWS_SECRET_ACCESS_KEY": ec2.secret_key}
    shared = tmp_path / "shared"
    shared.write_text(f"[default]\naws_access_key_id = {ec2.access_key}\naws_secret_access_key = {ec2.secret_key}\n")
    token, role = tmp_path / "token", "arn:aws:iam::123456789012:role/web"
    token.write_text("e30.e30.c2VjcmV0\n")
    ec2.web_identities["e30.e30.c2VjcmV0"] = role
    web = {"AWS_WEB_IDENTITY_TOKEN_FILE": str(token), "AWS_ROLE_ARN": role}
    region = {"AWS_REGION": ec2.region}
    haproxy = f"[haproxy]\nconfig = {cli.installed}\nssh_command = false\n"
    cli.installed.write_text("")
    for source, env, passed in (
            ("AWS_ACCESS_KEY_ID", keys | region, ["[aws] of the configuration: empty"]),
            (f"web identity {role}", web | region, ["[aws] of the configuration: empty", "AWS_ACCESS_KEY_ID: unset"]),
            (f"{shared} [default]", {"AWS_SHARED_CREDENTIALS_FILE": str(shared)} | region, ["AWS_WEB_IDENTITY_TOKEN_FILE: unset"]),
            ("instance role lab-role", {}, ["AWS_ACCESS_KEY_ID: unset", "AWS_WEB_IDENTITY_TOKEN_FILE: unset",
                                            "AWS_CONTAINER_CREDENTIALS_RELATIVE_URI, _FULL_URI: unset"])):
        assert ask(**env).returncode == 0, source
        cli.write(ec2.ini(credentials=False) + haproxy)
        done = cli.call("check", env=env)
        line = Report(done).has("ok", f"credentials: {source} (key …", ec2.url)
        assert all(text in line.split("passed over:")[1] for text in passed), line
        told = done.stdout + done.stderr
        assert not any(secret in told for secret in (ec2.secret_key, "c2VjcmV0", *(each[0] for each in ec2.credentials.values())))
    # A token that nobody vouches for, and a role that it is not for.
    for env, words in ((web | {"AWS_ROLE_ARN": role + "2"}, ("AccessDenied", "allow sts:AssumeRoleWithWebIdentity in the role's trust")),
                       (web, ("InvalidIdentityToken", "see to the token's file"))):
        done = ask(**env | region)
        assert done.returncode == 77 and all(word in done.stderr for word in words) and "c2VjcmV0" not in done.stderr, done
        token.write_text("forged\n")
    token.unlink()
    done = ask(**web | region)
    assert done.returncode == 78 and f"web identity token {token}: No such file" in done.stderr, done


def signer(call):
    """The access key that a request was signed with."""
    headers = {name.lower(): value for name, value in call.headers.items()}
    return headers["authorization"].split("Credential=")[1].split("/")[0]


def test_roles_are_assumed_as_the_aws_cli_does(ask, ec2, tmp_path):
    keys = f"aws_access_key_id = {ec2.access_key}\naws_secret_access_key = {ec2.secret_key}\n"
    role = "arn:aws:iam::123456789012:role/"
    config = tmp_path / "config"
    config.write_text(f"[default]\nregion = {ec2.region}\n[profile base]\n{keys}\n"
                      f"[profile one]\nrole_arn = {role}one\nsource_profile = base\nexternal_id = a/b\nduration_seconds = 900\n"
                      f"[profile two]\nrole_arn = {role}two\nsource_profile = one\nrole_session_name = me@host\n"
                      f"[profile env]\nrole_arn = {role}two\ncredential_source = Environment\n"
                      f"[profile host]\nrole_arn = {role}two\ncredential_source = Ec2InstanceMetadata\n"
                      f"[profile itself]\nrole_arn = {role}two\nsource_profile = itself\n{keys}"
                      f"[profile refused]\nrole_arn = {role}one\nsource_profile = base\n"
                      f"[profile mfa]\nrole_arn = {role}one\nsource_profile = base\nmfa_serial = x\n")
    ec2.roles = {role + "one": "a/b", role + "two": None}
    aws = {name: value for name, value in ec2.env().items() if "REGION" in name or "ENDPOINT" in name}
    shared = {"AWS_CONFIG_FILE": str(config), "AWS_SHARED_CREDENTIALS_FILE": str(tmp_path / "none"), **aws}
    own = {"AWS_ACCESS_KEY_ID": ec2.access_key, "AWS_SECRET_ACCESS_KEY": ec2.secret_key}

    def asked(calls):
        """What STS was asked, and by whom; sessions have names of one's own where none is given."""
        found = []
        for call in calls:
            params = {name: value for name, value in call.params.items() if name not in ("Action", "Version")}
            if params["RoleSessionName"].startswith(("botocore-", "autoscaler")):
                del params["RoleSessionName"]
            by = signer(call)
            found.append((params, by if by == ec2.access_key else "temporary"))
        return found

    for profile, env, count in (("one", {}, 1), ("two", {}, 2), ("host", {}, 1), ("itself", {}, 1), ("env", own, 1)):
        # The AWS CLI prefers the environment's keys to a role that is named by a variable; by an option, it does not.
        script = "import botocore.session, sys; botocore.session.Session(profile=sys.argv[1]).create_client('ec2').describe_instances()"
        done = subprocess.run([sys.executable, "-c", script, profile], env=os.environ | shared | env, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
        theirs = asked(ec2.calls("AssumeRole"))
        ec2.requests.clear()
        command = f"AWS_CONFIG_FILE={config} aws --profile {profile} ec2 run-instances"
        done = ask(ec2.ini(credentials=False) + f"[machine]\nscale_up_command = {command}\n", **shared | env)
        assert done.returncode == 0, done
        assert asked(ec2.calls("AssumeRole", "ok")) == theirs and len(theirs) == count, profile
        [listed] = ec2.calls("DescribeInstances", "ok")
        assert signer(listed).startswith("ASIA")
        ec2.requests.clear()
    for profile, code, words in (("refused", 77, "AccessDenied: Not authorized to perform sts:AssumeRole"),
                                 ("mfa", 78, "profile mfa: mfa_serial: "), ("none", 78, "profile none is in neither ")):
        done = ask(ec2.ini(credentials=False), AWS_PROFILE=profile, **shared)
        assert done.returncode == code and words in done.stderr and not ec2.calls("DescribeInstances"), done


def test_a_program_prints_the_credentials(ask, ec2, tmp_path):
    config, log = tmp_path / "config", tmp_path / "calls"
    program = tmp_path / "a helper"

    def prints(text, ends=0):
        program.write_text(f"#!/bin/sh\necho \"$@\" >>{log}\necho so it is >&2\ncat <<'END'\n{text}\nEND\nexit {ends}\n")
        program.chmod(0o700)

    config.write_text(f"[profile p]\ncredential_process = '{program}' --as \"a b\" $HOME\n")
    env = {"AWS_CONFIG_FILE": str(config), "AWS_PROFILE": "p", "AWS_REGION": ec2.region}
    good = {"Version": 1, "AccessKeyId": ec2.access_key, "SecretAccessKey": ec2.secret_key}
    prints(json.dumps(good))
    assert ask(**env).returncode == 0 and log.read_text() == "--as a b $HOME\n"
    for text, ends, words in ((json.dumps(good | {"Expiration": "2015-08-30T12:36:00Z"}), 0, "credentials that have expired"),
                              (json.dumps(good | {"Version": 2}), 0, 'did not print "Version": 1'),
                              (json.dumps(good), 4, f"{program} ended with exit status: 4: so it is")):
        prints(text, ends)
        done = ask(**env)
        assert done.returncode == 77 and words in done.stderr and ec2.secret_key not in done.stderr, done


def test_variables_before_aws_are_those_of_its_requests(ask, ec2, tmp_path):
    config = tmp_path / "config"
    config.write_text(f"[profile p]\naws_access_key_id = {ec2.access_key}\naws_secret_access_key = {ec2.secret_key}\n")
    command = f"AWS_PAGER= AWS_CONFIG_FILE={config} AWS_PROFILE=p AWS_REGION={ec2.region} aws ec2 run-instances"
    # They go before the INI's.
    ini = f"[aws]\naws_access_key = AKIAOTHER\naws_secret_key = x\naws_default_region = eu-west-1\nendpoint_url = {ec2.url}\n"
    assert ask(ini).returncode == 77
    done = ask(ini + f"[machine]\nscale_up_command = {command}\n")
    assert done.returncode == 0, done


def test_a_zone_in_place_of_a_region_is_named_at_once(ask, ec2):
    done = ask(ec2.ini().replace(ec2.region, "us-east-1a"))
    assert done.returncode == 78 and "us-east-1a is an availability zone; the Region is us-east-1" in done.stderr, done
    assert ec2.requests == []


def test_a_hop_limit_that_swallows_the_answer_is_explained(ask, ec2):
    ec2.imds.mode = "hang"
    done = ask(AWS_REGION=ec2.region)
    assert done.returncode == 77 and "no answer to the token request within 1 s" in done.stderr, done
    assert "aws ec2 modify-instance-metadata-options --http-put-response-hop-limit 2" in done.stderr
    # It is not asked by version 1 instead, which needs no token.
    assert {(method, path) for method, path, _ in ec2.imds.requests} == {("PUT", "/latest/api/token")}
    ec2.imds.mode = "v1"
    done = ask(AWS_REGION=ec2.region)
    assert done.returncode == 77 and "token request: HTTP 405" in done.stderr, done
    assert {method for method, *_ in ec2.imds.requests} == {"PUT"} and ec2.requests == []
    ec2.imds.mode = "on"
    assert ask().returncode == 0


needs = pytest.mark.skipif(missing("sshd", "haproxy") is not None, reason=str(missing("sshd", "haproxy")))


def actions(document):
    """What a document allows."""
    return {action for statement in document["Statement"] for action in statement["Action"]}


@needs
def test_the_policy_is_enough_and_no_more_for_launch_templates(tmp_path, binary):
    scaling = {"cooldown": "1s", "scale_down_cooldown": "1s", "threshold": "100", "drain_timeout": "5s"}
    with Site(tmp_path, binary, settings={"scaling": scaling}) as site:
        ec2, [lb], [app] = site.ec2, site.balancers, site.apps
        command = COMMAND.format(image=ec2.image, subnet=next(iter(ec2.subnets.values())))
        site.settings["machine"] = {"scale_up_command": command + " --key-name k --iam-instance-profile Name=p",
                                    "scale_down_command": "aws ec2 terminate-instances --instance-ids $INSTANCE_ID"}
        site.start()
        ec2.policy = policy(ec2, cluster="test")
        assert site.scale_up(app).returncode == 0
        [new] = ec2.launched
        site.masters["lb1"].wait_line(f"tunnel {new}: up")
        # A machine of another cluster stays, whoever asks.
        foreign = ec2.seed("10.77.0.240", {"autoscaler:cluster": "other"})
        host = site.net.hosts[new]
        rehearse = ["autoscaler", "scale-down", "--dry-run", "--force"]  # the cooldown is no matter here
        dry = wait_until(lambda: (done := host.run(rehearse, check=False)).returncode == 0 and done, 20, "it may leave")
        assert dry.stdout == f"action TerminateInstances\nInstanceId.1={new}\n"
        wait_until(lambda: host.run(["autoscaler", "scale-down"], check=False) and not host.alive, 40, f"{new} leaves")
        assert ec2.exercised == actions(ec2.policy) and ec2.running == [foreign]
        lb.run(["autoscaler", "prune", "--dry-run"])
        assert {call.verdict for call in ec2.requests} == {"ok", "DryRunOperation"}  # before the drain


@pytest.mark.minutes
@needs
def test_the_policy_is_enough_and_no_more_for_a_group(tmp_path, binary):
    scaling = {"threshold": "100", "scale_down_threshold": "0"}
    with group_site(tmp_path, binary, scaling=scaling) as site:
        site.start()
        ec2, [app] = site.ec2, site.apps
        document = policy(ec2, "iam-policy-group.json", cluster="test")
        for lacking in ("autoscaling:DescribeAutoScalingGroups", "autoscaling:SetDesiredCapacity"):
            ec2.policy = policy(ec2, "iam-policy-group.json", cluster="test", without=[lacking])
            done = site.scale_up(app)
            assert done.returncode == 77 and "AccessDenied: " in done.stderr and f"allow {lacking} in the IAM" in done.stderr
        ec2.policy = document
        ec2.exercised.clear()
        assert site.scale_up(app).returncode == 0
        [new] = ec2.launched
        site.masters["lb1"].wait_line(f"tunnel {new}: up")
        host = site.net.hosts[new]
        wait_until(lambda: host.run(["autoscaler", "scale-down"], check=False) and not host.alive, 40, f"{new} leaves")
        assert ec2.running == []
        # What is in no group and does not serve is terminated by EC2 itself, by whoever looks next.
        left = ec2.seed("10.77.0.240", {"autoscaler:cluster": "test"})
        wait_until(lambda: left not in ec2.running, 150, f"{left} is terminated")
        assert ec2.exercised == actions(document)
