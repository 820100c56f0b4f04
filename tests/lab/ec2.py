"""The EC2 endpoint as tests see it: start it, tell it how to behave, ask what it was asked."""

import secrets as random_secrets
import socket
import tempfile
import threading
import time
from dataclasses import dataclass
from pathlib import Path

from . import imds, parameters, sts
from .ec2_http import Server, handler
from .fleet import Fleet
from .groups import Groups
from .support import make_certificate


@dataclass
class _Fault:
    action: str
    left: int | None
    kind: str
    status: int | None
    message: str | None


class Ec2Endpoint:
    """An EC2 Query API endpoint with instance metadata; runs in threads of this process.

    `host`: the Host in whose network it listens (`url` on port 80, 443 with TLS; `metadata_url` on 8169);
    None: on 127.0.0.1, on free ports. `addresses`: what new instances get, in order; default 10.77.0.100 and
    up, or 127.0.1.1 and up without a host. `tls`: serve https with a throw-away CA, whose PEM is `ca_bundle`.
    `on_launch(instance_id, address, params)` and `on_terminate(instance_id)` are called in a thread of their
    own; what they raise is raised at the end of the `with` block (and listed in `errors`).

    Settable at any time: `boot_delay` (pending → running), `stop_delay` (shutting-down → terminated) and
    `visible_delay` (InvalidInstanceID.NotFound after a launch), in seconds; `clock_offset` of its clock
    (a larger one lets those times pass; requests are refused when over 300 s); `quota` of running instances;
    `doom`, a (code, message) with which instances go straight to terminated; `no_launch_times`: answers leave
    launchTime out; `old_tokens`: a token whose instance is
    terminated is answered with that instance, as AWS did before it had IdempotentInstanceTerminated;
    `credentials` {access key: (secret, session token or None, expiry or None)}; `policy`, an IAM policy document that
    all requests have to comply with; `web_identities` {token: role} of AssumeRoleWithWebIdentity; `roles`
    {ARN: external id or None} of AssumeRole.
    """

    image = "ami-12345678"

    def __init__(self, host=None, *, region="us-east-1", addresses=None, session_token=None, tls=False,
                 on_launch=None, on_terminate=None, boot_delay=0.0, stop_delay=0.0, visible_delay=0.0):
        self.host, self.region = host, region
        self.on_launch, self.on_terminate = on_launch, on_terminate
        self.boot_delay, self.stop_delay, self.visible_delay = boot_delay, stop_delay, visible_delay
        self.clock_offset, self.quota, self.doom, self.old_tokens = 0.0, None, None, False
        self.policy, self.web_identities, self.roles, self.no_launch_times = None, {}, {}, False
        self.exercised = set()  # the IAM actions that requests needed since `policy` was set
        self.access_key = "AKIA" + random_secrets.token_hex(8).upper()
        self.secret_key = random_secrets.token_urlsafe(30)
        self.session_token = session_token
        self.credentials = {self.access_key: (self.secret_key, session_token, None)}
        self.requests, self.errors = [], []
        self.released = threading.Event()
        self._changed = threading.Condition()
        self._faults, self._callbacks = [], []
        if addresses is None:
            addresses = (f"{'10.77.0' if host else '127.0.1'}.{number}" for number in range(100 if host else 1, 250))
        self._addresses = iter(addresses)
        self.fleet = Fleet(self)
        self.groups = Groups(self)
        parameters.preload()
        self.imds = imds.Metadata(self)
        self._open(tls)

    def _open(self, tls):
        address = self.host.address if self.host else "127.0.0.1"
        context, self.ca_bundle = None, None
        if tls:
            self._certificates = tempfile.TemporaryDirectory(prefix="ca", dir=self.host and self.host.dir)
            self.ca_bundle, context = make_certificate(Path(self._certificates.name), address)
        ports = (443 if tls else 80, 8169) if self.host else (0, 0)
        make = self.host.listen if self.host else _listen
        api, metadata = make(ports[0], address), make(ports[1], address)
        self.url = f"http{'s' if tls else ''}://{address}:{api.getsockname()[1]}"
        self.metadata_url = f"http://{address}:{metadata.getsockname()[1]}"
        self._servers = [Server(api, handler(self), context), Server(metadata, imds.handler(self.imds))]
        for server in self._servers:
            threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True).start()
        if self.host:
            self.host.on_kill(self._close_servers)

    def __enter__(self):
        return self

    def __exit__(self, kind, *_):
        self.close()
        if kind is None and self.errors:
            raise self.errors[0]

    def close(self):
        """Stops serving and waits for call-backs that run. May be called twice."""
        self._close_servers()
        for thread in self._callbacks:
            thread.join(30)
        if self.ca_bundle:
            self._certificates.cleanup()

    def _close_servers(self):
        self.release()
        self.imds.released.set()
        servers, self._servers = self._servers, []
        for server in servers:
            server.close()

    # What a client needs

    def env(self):
        """The environment that points a client at this endpoint (AWS CLI, SDKs, autoscaler)."""
        token = {"AWS_SESSION_TOKEN": self.session_token} if self.session_token else {}
        bundle = {"AWS_CA_BUNDLE": str(self.ca_bundle)} if self.ca_bundle else {}
        return {"AWS_ACCESS_KEY_ID": self.access_key, "AWS_SECRET_ACCESS_KEY": self.secret_key, **token, **bundle,
                "AWS_REGION": self.region, "AWS_DEFAULT_REGION": self.region, "AWS_ENDPOINT_URL": self.url,
                "AWS_EC2_METADATA_SERVICE_ENDPOINT": self.metadata_url}

    def ini(self, credentials=True):
        """The [aws] section for autoscaler.ini; without `credentials`, they come from the instance's role."""
        lines = ["[aws]", f"endpoint_url = {self.url}", f"metadata_url = {self.metadata_url}"]
        if self.ca_bundle:
            lines.append(f"ca_bundle = {self.ca_bundle}")
        if credentials:
            lines += [f"aws_access_key = {self.access_key}", f"aws_secret_key = {self.secret_key}",
                      f"aws_default_region = {self.region}"]
            if self.session_token:
                lines.append(f"aws_session_token = {self.session_token}")
        return "\n".join(lines) + "\n"

    @property
    def subnets(self):
        """{zone: subnet id} of the default VPC, one per zone."""
        return {zone: subnet for subnet, zone in sorted(self.fleet.zones.items(), key=lambda pair: pair[1])}

    def hand_out(self, lifetime):
        """Temporary credentials that are good for `lifetime` seconds: key, secret, token, expiry."""
        key, expires = "ASIA" + random_secrets.token_hex(8).upper(), self.now() + lifetime
        secret, token = random_secrets.token_urlsafe(30), random_secrets.token_urlsafe(120)
        self.credentials[key] = (secret, token, expires)
        return key, secret, token, expires

    def now(self):
        """The endpoint's time, in seconds: the machine's and `clock_offset`."""
        return time.time() + self.clock_offset

    # What happened

    @property
    def instances(self):
        """{id: fleet.Instance} of all, in the order of their launch."""
        return dict(self.fleet.instances)

    @property
    def launched(self):
        """Ids of the instances that RunInstances and groups made, in order (seeded ones are not among them)."""
        return [each.id for each in self.fleet.instances.values() if each.params]

    @property
    def running(self):
        """Ids of all instances that are not terminated, seeded ones too."""
        return [each.id for each in self.fleet.instances.values() if not each.terminated]

    def calls(self, action, verdict=None):
        """The recorded Requests of `action`, or only those with `verdict` ("ok", an error code, a fault)."""
        return [each for each in list(self.requests)
                if each.action == action and verdict in (None, each.verdict)]

    def wait_calls(self, action, count=1, timeout=10.0, verdict=None):
        """Waits until there are `count` such Requests (see calls); returns them."""
        with self._changed:
            if not self._changed.wait_for(lambda: len(self.calls(action, verdict)) >= count, timeout):
                raise AssertionError(f"after {timeout} s not {count} × {action} {verdict or ''}; received: "
                                     f"{[(each.action, each.verdict) for each in self.requests]}")
        return self.calls(action, verdict)

    def record(self, request):
        """Called by the server with every Request, before it is answered."""
        with self._changed:
            self.requests.append(request)
            self._changed.notify_all()

    # What shall happen

    def fail_next(self, action, n=1, kind="InternalError", status=None, message=None):
        """The next `n` requests of `action` ("*": any; n=None: all from now on) fail with `kind`.

        `kind`: an EC2 error code (with its usual status, or `status`), or one of "reset", "hang" (until the
        client goes or release()), "truncate" (carried out, the answer cut short), "endless", "empty200",
        "garbage", "bodiless" and "page" (`status`, 503 by default, with no body, or with a proxy's page). With "-after" behind it, the request is carried out first: "reset-after" loses the answer.
        """
        self._faults.append(_Fault(action, n, kind, status, message))

    def clear_faults(self):
        """Forgets all failures that were asked for and have not come yet."""
        self._faults.clear()

    def release(self):
        """Ends all "hang" and "endless" answers that are under way."""
        self.released.set()
        self.released = threading.Event()

    def take_fault(self, action):
        """Called by the server: the fault that this request has to suffer, or None."""
        with self._changed:
            for fault in self._faults:
                if fault.action in ("*", action):
                    if fault.left is not None:
                        fault.left -= 1
                        if fault.left == 0:
                            self._faults.remove(fault)
                    return fault
        return None

    def set_capacity(self, count, subnet=None, type=None):
        """Only `count` more instances can be had in `subnet` of `type` (None: any); the closest entry counts."""
        self.fleet.capacity[subnet, type] = count

    def seed(self, address, tags=None, age=3600.0, type="t3.small"):
        """Enters a running instance that was launched `age` seconds ago; returns its id. No call-back."""
        return self.fleet.seed(address, tags or {}, age, type)

    def end(self, instance_id):
        """The instance is terminated by somebody else (as a spot interruption does); calls on_terminate."""
        self.fleet.moto.call({"Action": "TerminateInstances", "Version": "2016-11-15", "InstanceId.1": instance_id})
        self.fleet.mark_terminated(self.fleet.instances[instance_id])

    def stop(self, instance_id):
        """The instance is stopped by somebody: it keeps its address and serves no more."""
        self.fleet.instances[instance_id].stopped = True

    def protect(self, instance_id, protected=True):
        """TerminateInstances refuses the instance, as with disableApiTermination; a dry run sees rights only."""
        self.fleet.instances[instance_id].protected = protected

    def tag(self, instance_id, **tags):
        """Tags the instance; `_` in a name stands for `:`."""
        params = {"Action": "CreateTags", "Version": "2016-11-15", "ResourceId.1": instance_id}
        for number, (name, value) in enumerate(tags.items(), 1):
            params |= {f"Tag.{number}.Key": name.replace("_", ":"), f"Tag.{number}.Value": value}
        self.fleet.moto.call(params)

    def forget(self, instance_id):
        """The terminated instance is listed no longer, as an hour later."""
        self.fleet.instances[instance_id].forgotten = True

    # Called by the fleet

    def next_address(self):
        """The address of the next instance."""
        return next(self._addresses)

    def call_back(self, function, *arguments):
        """Runs a call-back of the test's in its own thread; the answer does not wait for it."""
        if function is None:
            return

        def call():
            try:
                function(*arguments)
            except BaseException as error:  # a failed assertion there must fail the test
                self.errors.append(error)

        thread = threading.Thread(target=call, daemon=True)
        self._callbacks.append(thread)
        thread.start()

    def perform(self, service, params):
        """Carries out a request of either service; returns (status, XML root)."""
        if service == "ec2":
            return self.fleet.perform(params)
        if service == "sts":
            return 200, sts.perform(self, params)
        return self.groups.perform(params)


def _listen(port, address):
    return socket.create_server((address, port), backlog=128)
