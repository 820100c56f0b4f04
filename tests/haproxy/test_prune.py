"""prune: entries go whose instance is gone, and a doubtful answer changes nothing."""

import contextlib

import pytest
from lab import Ec2Endpoint, wait_until

TAGS = {"autoscaler:cluster": "default"}


class Pruned:
    """A HAProxy host's directory and EC2, with instances app1, app2, … entered on it."""

    def __init__(self, cli, ec2):
        self.cli, self.ec2 = cli, ec2
        cli.settings(socket=cli.dir / "admin.sock")
        self.ini = cli.ini.read_text() + ec2.ini()
        cli.write(self.ini)

    def enter(self, number, tags=TAGS):
        """An instance that runs and is entered; returns its id."""
        instance = self.ec2.seed(f"10.0.0.{number}", tags)
        self.cli("add-host", f"10.0.0.{number}", 80, "--id", instance, "--name", f"app{number}")
        return instance

    def own(self, name="own"):
        """An entry without an instance."""
        self.cli("add-host", "10.0.0.200", 80, "--name", name)

    def refused(self, code, *options):
        """It fails with `code` and changes nothing; returns its line, without a secret in it."""
        line = self.cli.refused(code, "prune", *options)
        assert self.ec2.secret_key not in line
        return line


@pytest.fixture
def site(cli):
    with Ec2Endpoint() as ec2:
        yield Pruned(cli, ec2)


def test_nothing_to_do_is_silent_and_changes_nothing(site):
    site.own()
    # No entry has an instance: then EC2 is not even asked.
    assert site.cli("prune") == "" and site.ec2.requests == []
    site.enter(1)
    before = site.cli.snapshot()
    assert site.cli("prune") == "" and site.cli("prune", "--dry-run") == ""
    assert site.cli.snapshot() == before
    assert {call.action for call in site.ec2.requests} == {"DescribeInstances"}


def test_a_terminated_instance_goes(site):
    site.own()
    gone, _ = site.enter(1), site.enter(2)
    site.ec2.end(gone)
    assert site.cli("prune", "--dry-run") == f"app1 10.0.0.1 80 {gone}\n"
    assert site.cli.names() == ["app1", "app2", "own"]
    assert site.cli("prune") == "" and site.cli.names() == ["app2", "own"]
    assert not site.cli.installed.exists()


def test_shutting_down_is_gone_and_stopped_is_not(cli):
    with Ec2Endpoint(stop_delay=600) as ec2:
        site = Pruned(cli, ec2)
        site.own()
        gone, _ = site.enter(1), site.enter(2)
        ec2.end(gone)
        assert cli("prune", "--dry-run") == f"app1 10.0.0.1 80 {gone}\n"


def test_apply_brings_it_to_haproxy(site):
    site.own()
    gone, _ = site.enter(1), site.enter(2)
    site.cli("generate")
    site.ec2.end(gone)
    assert site.cli("prune", "--apply") == ""
    installed = site.cli.installed.read_text()
    assert "app1" not in installed and "server app2 10.0.0.2:80" in installed
    assert site.cli.reload_count() == 2
    assert site.cli("prune", "--apply") == "" and site.cli.reload_count() == 2
    # With nowhere to install to, that is said before anything goes.
    site.ec2.end(site.enter(3))
    site.cli.write(site.ec2.ini())
    assert "config =" in site.refused(78, "--apply")


def test_one_that_is_no_longer_listed_is_asked_for_twice(site):
    """Nobody waits for the lock meanwhile, and what has changed then is looked at again."""
    site.own()
    gone, changed = site.enter(1), site.enter(2)
    site.enter(3), site.enter(4)
    for instance in (gone, changed):
        site.ec2.end(instance)
        site.ec2.forget(instance)
    with site.cli.start("prune") as process:
        site.ec2.wait_calls("DescribeInstances", 3)
        site.cli.hosts.joinpath("app2").unlink()
        site.cli("add-host", "10.0.0.2", 80, "--name", "app2")
        assert process.wait(30) == 0
        assert (process.stdout.read(), process.stderr.read()) == ("", "")
    assert site.cli.names() == ["app2", "app3", "app4", "own"]
    by_id = [call for call in site.ec2.calls("DescribeInstances") if "InstanceId.1" in call.params]
    asked = [call.params["InstanceId.1"] for call in by_id]
    assert sorted(asked[:2]) == sorted(asked[2:]) == sorted([gone, changed])
    assert by_id[2].time - by_id[0].time > 2.5


def test_one_that_turns_up_at_the_second_look_stays(site):
    """EC2's answers come from places that learn of an instance one after the other."""
    site.own()
    site.enter(1)
    late = site.enter(2, tags={})
    site.ec2.fail_next("DescribeInstances", 1, "RequestLimitExceeded")  # a retry is no second look
    site.ec2.instances[late].forgotten = True
    with site.cli.start("prune") as process:
        site.ec2.wait_calls("DescribeInstances", verdict="InvalidInstanceID.NotFound")
        site.ec2.instances[late].forgotten = False
        assert process.wait(30) == 0
        assert (process.stdout.read(), process.stderr.read()) == ("", "")
    assert site.cli.names() == ["app1", "app2", "own"]


def test_an_instance_of_ones_own_without_the_tag_stays(site):
    site.enter(1)
    site.enter(2, tags={})
    site.enter(3, tags={"autoscaler:cluster": "other"})
    assert site.cli("prune") == "" and site.cli.names() == ["app1", "app2", "app3"]


def test_an_empty_listing_changes_nothing(site):
    """As with the wrong account, Region or cluster."""
    for number in (1, 2, 3):
        instance = site.enter(number)
        if number == 1:
            site.ec2.end(instance)
    site.cli.write(site.ini + "[cluster]\nname = other\n")
    for options in ([], ["--force"], ["--dry-run"], ["--apply"]):
        line = site.refused(75, *options)
        assert "no instance of the cluster `other`" in line and "[cluster] name" in line
    # As long as nobody seems to be gone, that is no trouble.
    site.cli.hosts.joinpath("app1").unlink()
    assert site.cli("prune") == ""


def test_more_than_half_needs_force(site):
    gone = [site.enter(number) for number in (1, 2)]
    site.own()
    for instance in gone:
        site.ec2.end(instance)
    for options in ([], ["--apply"], ["--dry-run"]):
        line = site.refused(75, *options)
        assert "app1, app2" in line and "--force" in line
    assert site.cli("prune", "--force", "--dry-run").count("\n") == 2
    assert site.cli("prune", "--force") == "" and site.cli.names() == ["own"]


def test_the_last_entry_stays(site):
    for number in (1, 2):
        site.ec2.end(site.enter(number))
    done = site.cli.call("prune", "--force", "--apply")
    assert done.returncode == 75 and done.stderr.startswith("autoscaler: app2: ") and done.stderr.count("\n") == 1
    assert site.cli.names() == ["app2"] and "app2" in site.cli.installed.read_text()
    assert "app2" in site.refused(75), "one of one is more than half"


@pytest.mark.parametrize("kind, code, said", [
    ("UnauthorizedOperation", 77, "ec2:DescribeInstances"), ("AuthFailure", 77, "AuthFailure"),
    ("InvalidParameterValue", 78, "InvalidParameterValue"),
])
def test_a_failed_answer_changes_nothing(site, kind, code, said):
    site.own()
    site.enter(2)
    site.ec2.end(site.enter(1))
    site.ec2.fail_next("DescribeInstances", None, kind)
    assert said in site.refused(code, "--force", "--apply")


def test_a_partial_answer_changes_nothing(site):
    """The first question is answered, the one for a single id is not."""
    site.own()
    gone, forgotten = site.enter(1), site.enter(2)
    site.enter(3)
    for instance in (gone, forgotten):
        site.ec2.end(instance)
    site.ec2.forget(forgotten)
    with site.cli.start("prune", "--force") as process:
        site.ec2.wait_calls("DescribeInstances", 2)
        site.ec2.fail_next("DescribeInstances", None, "UnauthorizedOperation")
        assert process.wait(30) == 77
    assert site.cli.names() == ["app1", "app2", "app3", "own"]


def test_without_credentials(site):
    site.own()
    site.enter(1)
    site.ec2.imds.role = None
    site.cli.write(site.ec2.ini(credentials=False) + "aws_default_region = us-east-1\n")
    assert "set aws_access_key" in site.refused(77)
    site.cli.write(site.ini.replace(site.ec2.url, "http://127.0.0.1:9").replace(site.ec2.secret_key, ""))
    assert "aws_access_key and aws_secret_key go together" in site.refused(78)


def test_the_options_of_scale_up_command_hold_without_its_files(site):
    """The command is the app servers', and so is the user data that it names."""
    site.own()
    site.enter(2)
    site.ec2.end(site.enter(1))
    ini = site.ini.replace("aws_default_region = us-east-1\n", "")
    command = "aws ec2 run-instances --region us-east-1 --image-id ami-1 --user-data file:///nonexistent/data"
    site.cli.write(f"{ini}[machine]\nscale_up_command = {command}\n")
    assert site.cli("prune") == "" and site.cli.names() == ["app2", "own"]


def test_side_by_side(site):
    site.own()
    for number in (1, 2, 3, 4, 5):
        site.enter(number)
    site.ec2.end(next(iter(site.ec2.instances)))
    with contextlib.ExitStack() as stack:
        processes = [stack.enter_context(site.cli.start("prune", "--apply")) for _ in range(4)]
        assert [process.wait(60) for process in processes] == [0] * 4
    wait_until(lambda: site.cli.names() == ["app2", "app3", "app4", "app5", "own"], 1)
    assert "app1" not in site.cli.installed.read_text()


@pytest.mark.parametrize("arguments", [["app1"], ["--name", "x"], ["--force=yes"]], ids=repr)
def test_usage(site, arguments):
    assert "autoscaler prune --help" in site.refused(64, *arguments)
