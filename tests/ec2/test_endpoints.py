"""Where AWS is asked: partitions, FIPS and dual stack as botocore has them, proxies, and a CA of one's own."""

import contextlib
import itertools
import re
import socket
import threading
from http.server import BaseHTTPRequestHandler
from urllib.parse import parse_qs, urlsplit

import botocore.session
import pytest
from botocore.awsrequest import AWSResponse
from botocore.config import Config
from botocore.exceptions import EndpointVariantError
from lab import Ec2Endpoint
from lab.ec2_http import Server
from lab.proxy import Proxy
from lab.support import make_certificate

# Regions of every partition, among them the newest, and one that nobody has heard of yet.
REGIONS = ["us-east-1", "eu-central-1", "ap-southeast-7", "il-central-1", "us-gov-west-1", "us-gov-east-1", "cn-north-1",
           "cn-northwest-1", "eusc-de-east-1", "us-iso-east-1", "us-isob-east-1", "eu-isoe-west-1", "us-isof-south-1",
           "xx-future-9"]
VARIANTS = list(itertools.product((False, True), (False, True)))  # FIPS, dual stack
CALLS = {
    "ec2": ("describe_instances", {}),
    "autoscaling": ("describe_auto_scaling_groups", {}),
    "sts": ("assume_role_with_web_identity", {"RoleArn": "arn:aws:iam::123456789012:role/web", "RoleSessionName": "us",
                                              "WebIdentityToken": "e30.e30.c2ln"}),
}
SESSION = botocore.session.Session()


def theirs(service, region, fips, dual):
    """(host, scope) of botocore's request; None where it has no such endpoint."""
    config = Config(use_fips_endpoint=fips, use_dualstack_endpoint=dual, retries={"max_attempts": 0})
    try:
        client = SESSION.create_client(service, region, aws_access_key_id="AKIDEXAMPLE", aws_secret_access_key="s", config=config)
    except EndpointVariantError:
        return None
    seen = []

    def instead_of_sending(request, **_):
        seen.append((urlsplit(request.url).netloc, scope_of(request.headers.get("Authorization"))))
        return AWSResponse(request.url, 500, {}, None)

    client.meta.events.register("before-send", instead_of_sending)
    call, parameters = CALLS[service]
    with contextlib.suppress(Exception):
        getattr(client, call)(**parameters)
    return seen[0] if seen else None


def scope_of(authorization):
    """`region/service` of a signature; None for a request without one."""
    if authorization is None:
        return None
    text = authorization.decode() if isinstance(authorization, bytes) else authorization
    return "/".join(re.search(r"Credential=\w+/\d{8}/([^/]+)/([^/]+)/aws4_request", text).groups())


ANSWERS = {
    "DescribeInstances": "<reservationSet/>",
    "DescribeAutoScalingGroups": """<DescribeAutoScalingGroupsResult><AutoScalingGroups><member>
        <AutoScalingGroupName>web</AutoScalingGroupName><MinSize>0</MinSize><MaxSize>9</MaxSize>
        <DesiredCapacity>0</DesiredCapacity><Tags><member><Key>autoscaler:cluster</Key><Value>default</Value>
        <PropagateAtLaunch>true</PropagateAtLaunch></member></Tags></member></AutoScalingGroups>
        </DescribeAutoScalingGroupsResult>""",
    "AssumeRoleWithWebIdentity": """<AssumeRoleWithWebIdentityResult><Credentials><AccessKeyId>ASIAEXAMPLE</AccessKeyId>
        <SecretAccessKey>s</SecretAccessKey><SessionToken>t</SessionToken><Expiration>2099-01-01T00:00:00Z</Expiration>
        </Credentials></AssumeRoleWithWebIdentityResult>""",
}


class Everything:
    """A TLS server that is every host of AWS: `seen` lists (action, Host, scope) of the requests."""

    def __init__(self, directory, names):
        self.seen = []
        recorder = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_POST(self):
                [action] = parse_qs(self.rfile.read(int(self.headers["Content-Length"])).decode())["Action"]
                recorder.seen.append((action, self.headers["Host"], scope_of(self.headers["Authorization"])))
                body = f"<{action}Response>{ANSWERS[action]}</{action}Response>".encode()
                self.send_response(200)
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *_):
                pass

        self.ca_bundle, context = make_certificate(directory, "127.0.0.1", names)
        self._server = Server(socket.create_server(("127.0.0.1", 0), backlog=64), Handler, context)
        self.address = self._server.socket.getsockname()
        threading.Thread(target=self._server.serve_forever, args=(0.05,), daemon=True).start()

    def close(self):
        self._server.close()


@pytest.fixture(scope="module")
def expected():
    """{(region, FIPS, dual stack, service): (host, scope) or None}, as botocore has it."""
    return {(region, *variant, service): theirs(service, region, *variant)
            for region in REGIONS for variant in VARIANTS for service in CALLS}


@pytest.fixture(scope="module")
def everything(expected, tmp_path_factory):
    names = {found[0] for found in expected.values() if found}
    server = Everything(tmp_path_factory.mktemp("tls"), sorted(names))
    yield server
    server.close()


GROUP = "aws autoscaling set-desired-capacity --auto-scaling-group-name web --desired-capacity $DESIRED"


@pytest.mark.parametrize("region", REGIONS)
def test_hosts_and_scopes_are_those_of_botocore(region, expected, everything, cli, tmp_path):
    """Real requests over TLS, by way of a proxy that leads each host to the server above."""
    cli.write(f"[machine]\nscale_up_command = {GROUP}\n")
    (tmp_path / "token").write_text("e30.e30.c2ln\n")
    cli("add-host", "10.0.0.1", 80, "--id", "i-0abc")
    with Proxy(lambda target: everything.address) as proxy:
        for number, (fips, dual) in enumerate(VARIANTS):
            everything.seen.clear(), proxy.targets.clear()
            env = {"HTTPS_PROXY": proxy.url, "AWS_CA_BUNDLE": str(everything.ca_bundle), "AWS_REGION": region,
                   "AWS_EC2_METADATA_DISABLED": "true", "AWS_WEB_IDENTITY_TOKEN_FILE": str(tmp_path / "token"),
                   "AWS_ROLE_ARN": "arn:aws:iam::123456789012:role/web"}
            wants = {"FIPS": fips, "DUALSTACK": dual}
            if number % 2:  # by the config file as well as by the environment
                lines = "".join(f"use_{name.lower()}_endpoint = {str(on).lower()}\n" for name, on in wants.items())
                (tmp_path / "config").write_text(f"[default]\n{lines}")
                env["AWS_CONFIG_FILE"] = str(tmp_path / "config")
            else:
                env |= {f"AWS_USE_{name}_ENDPOINT": str(on).lower() for name, on in wants.items()}
            done = [cli.call("scale-up", "--dry-run", env=env), cli.call("prune", "--dry-run", env=env)]
            wanted = {service: expected[region, fips, dual, service] for service in CALLS}
            if None in wanted.values():  # botocore's tables lag behind its own rules there
                assert dual and region.startswith(("eu-isoe", "us-isof"))
                continue
            assert done[0].returncode == 0 and "DesiredCapacity=1" in done[0].stdout, done
            found = {action: (host, scope) for action, host, scope in everything.seen}
            assert found == {"DescribeInstances": wanted["ec2"], "DescribeAutoScalingGroups": wanted["autoscaling"],
                             "AssumeRoleWithWebIdentity": wanted["sts"]}, (fips, dual)
            assert set(proxy.targets) == {f"{host}:443" for host, _ in found.values()}


def test_each_service_can_have_a_url_of_its_own(cli, tmp_path):
    with Ec2Endpoint() as ec2, Ec2Endpoint() as other:
        for endpoint in (ec2, other):
            endpoint.groups.create("web", tags={"autoscaler:cluster": "default"})
        other.credentials.update(ec2.credentials)
        (tmp_path / "config").write_text(f"[default]\nservices = s\n[services s]\nauto_scaling =\n  endpoint_url = {other.url}\n")
        in_config = {"AWS_CONFIG_FILE": str(tmp_path / "config")}

        def asked(command=GROUP, ini=ec2.ini(), **env):
            """Who was asked for the group."""
            for endpoint in (ec2, other):
                endpoint.requests.clear()
            cli.write(f"{ini}[machine]\nscale_up_command = {command}\n")
            assert cli.call("scale-up", "--dry-run", env=env).returncode == 0
            return [name for name, endpoint in (("ec2", ec2), ("other", other)) if endpoint.calls("DescribeAutoScalingGroups")]

        assert asked() == ["ec2"]
        assert asked(AWS_ENDPOINT_URL_AUTO_SCALING=other.url) == ["other"]
        assert asked(command=f"{GROUP} --endpoint-url {other.url}") == ["other"]
        assert asked(AWS_ENDPOINT_URL_EC2=other.url) == ["ec2"]
        bare = "".join(line + "\n" for line in ec2.ini().splitlines() if not line.startswith("endpoint_url"))
        assert asked(ini=bare, **in_config) == ["other"]
        assert asked(ini=bare, AWS_ENDPOINT_URL=ec2.url) == ["ec2"]
        assert asked(AWS_ENDPOINT_URL_AUTO_SCALING=other.url, AWS_IGNORE_CONFIGURED_ENDPOINT_URLS="true") == ["ec2"]


def test_a_ca_of_ones_own(cli, tmp_path):
    with Ec2Endpoint(tls=True) as ec2:
        cli.write(ec2.ini())
        cli("add-host", "127.0.1.1", 80, "--id", ec2.seed("127.0.1.1", {"autoscaler:cluster": "default"}))
        cli("prune")
        lines = [line for line in ec2.ini().splitlines() if not line.startswith("ca_bundle")]
        cli.write("\n".join(lines) + "\n")
        # By the environment, by the profile; without either, the next step is named.
        assert cli.call("prune", env={"AWS_CA_BUNDLE": str(ec2.ca_bundle)}).returncode == 0
        (tmp_path / "config").write_text(f"[default]\nca_bundle = {ec2.ca_bundle}\n")
        assert cli.call("prune", env={"AWS_CONFIG_FILE": str(tmp_path / "config")}).returncode == 0
        before = len(ec2.requests)
        done = cli.call("prune")
        assert done.returncode == 78 and "name the CA in ca_bundle or AWS_CA_BUNDLE" in done.stderr, done
        assert len(ec2.requests) == before
        for bundle, word in (("/nonexistent.pem", "No such file"), (str(cli.ini), "no certificate in it")):
            done = cli.call("prune", env={"AWS_CA_BUNDLE": bundle})
            assert done.returncode == 78 and f"CA bundle {bundle}: " in done.stderr and word in done.stderr, done


@pytest.mark.parametrize("tls", [True, False])
def test_a_proxy_and_whom_it_is_not_for(tls, cli):
    kind = "HTTPS_PROXY" if tls else "HTTP_PROXY"
    with Ec2Endpoint(tls=tls) as ec2, Proxy() as open_to_all, Proxy(login="me:pass-word") as closed:
        host = urlsplit(ec2.url).netloc
        cli.write(ec2.ini())
        cli("add-host", "127.0.1.1", 80, "--id", ec2.seed("127.0.1.1", {"autoscaler:cluster": "default"}))
        for proxy in (open_to_all, closed):
            done = cli.call("prune", env={kind: proxy.url})
            assert (done.returncode, done.stderr) == (0, ""), done
            assert set(proxy.targets) == {host} and proxy.refused == 0
        # A password that is wrong, and is not told.
        done = cli.call("prune", env={kind: closed.url.replace("pass-word", "wr0ng-0ne")})
        assert done.returncode == 78 and "responded 407" in done.stderr and "in HTTPS_PROXY" in done.stderr, done
        assert "wr0ng-0ne" not in done.stderr and closed.refused == 1
        del open_to_all.targets[:]
        for exempt in ("127.0.0.1", host, "example.org, 127.0.0.1", "*"):
            assert cli.call("prune", env={kind: open_to_all.url, "NO_PROXY": exempt}).returncode == 0
        # Not for the other scheme, and never for instance metadata, which is asked by http.
        other = "HTTP_PROXY" if tls else "HTTPS_PROXY"
        assert cli.call("prune", env={other: open_to_all.url}).returncode == 0
        cli.write(ec2.ini(credentials=False))
        env = {"HTTP_PROXY": open_to_all.url, "NO_PROXY": host}
        assert cli.call("prune", env=env).returncode == 0
        assert [path for _, path, _ in ec2.imds.requests] and open_to_all.targets == []
