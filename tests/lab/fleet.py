"""The instances of an endpoint: moto's, with what AWS does and moto does not.

ClientTokens (with their zonal scope), capacity, MaxCount, states that take time, instances that are not
visible yet, the lab's own addresses, and filters that moto lacks.
"""

import fnmatch
import threading
import time
from dataclasses import dataclass, field
from xml.etree import ElementTree

from .moto_backend import Moto
from .signature import Refused

# Seconds for which a machine goes on once its end is accepted, as one that shuts down does.
SHUTDOWN = 0.3

# Answered here, from our own knowledge; moto would crash on them or know other values.
_OUR_FILTERS = {
    "client-token": lambda instance, fleet: instance.token or "",
    "instance-state-name": lambda instance, fleet: fleet.state(instance)[1],
    "instance-state-code": lambda instance, fleet: str(fleet.state(instance)[0]),
    "private-ip-address": lambda instance, fleet: instance.address,
}


@dataclass
class Instance:
    """What the endpoint knows of an instance; times are the endpoint's (`now()`)."""

    id: str
    address: str
    zone: str
    subnet: str
    type: str
    token: str | None
    params: dict
    launched: float
    terminated: float | None = None
    visible_at: float = 0.0
    running_at: float = 0.0
    forgotten: bool = False
    stopped: bool = False
    protected: bool = False
    reason: tuple = ("Client.UserInitiatedShutdown", "Client.UserInitiatedShutdown: User initiated shutdown")


@dataclass
class _Token:
    fingerprint: tuple
    instances: list = field(default_factory=list)


class Fleet:
    """Carries out actions. `endpoint` gives now(), the delays, the addresses and the call-backs."""

    def __init__(self, endpoint):
        self.endpoint = endpoint
        self.moto = Moto(endpoint.region)
        self.lock = threading.RLock()
        self.instances = {}
        self.capacity = {}
        self._tokens = {}
        self.zones = self._zones()

    def _zones(self):
        """{subnet id: zone} of the default VPC."""
        _, root = self.moto.call({"Action": "DescribeSubnets", "Version": "2016-11-15"})
        return {item.findtext("subnetId"): item.findtext("availabilityZone")
                for item in root.iterfind("subnetSet/item")}

    def by_address(self, address):
        """The living Instance at `address`, or None."""
        return next((each for each in self.instances.values() if each.address == address and not each.terminated), None)

    def state(self, instance):
        """(code, name) as EC2 has them, at the present time."""
        now = self.endpoint.now()
        if instance.terminated is not None:
            stopping = now < instance.terminated + self.endpoint.stop_delay
            return (32, "shutting-down") if stopping else (48, "terminated")
        if instance.stopped:
            return 80, "stopped"
        return (0, "pending") if now < instance.running_at else (16, "running")

    def perform(self, params):
        """Carries out one checked request; returns (status, XML root, its namespace or not)."""
        action = params["Action"]
        with self.lock:
            own = {"RunInstances": self._run, "DescribeInstances": self._describe,
                   "TerminateInstances": self._terminate, "CreateTags": self._tag, "DeleteTags": self._tag}
            return own.get(action, self.moto.call)(params)

    # RunInstances

    def _run(self, params):
        subnet = params.get("SubnetId") or params.get("NetworkInterface.1.SubnetId")
        zone = params.get("Placement.AvailabilityZone")
        if subnet is not None:
            if subnet not in self.zones:
                raise Refused(400, "InvalidSubnetID.NotFound", f"The subnet ID '{subnet}' does not exist")
            zone = self.zones[subnet]
        if params.get("DryRun") == "true":
            return self.moto.call(self._for_moto(params, 1))
        entry = self._token_entry(params, zone)
        if entry and entry.instances:
            return 200, self._same_again(entry)
        count = self._take(subnet, params.get("InstanceType", "m1.small"),
                           int(params["MinCount"]), int(params["MaxCount"]))
        status, root = self.moto.call(self._for_moto(params, count))
        if status == 200:
            made = [self._record(item, params) for item in root.iterfind("instancesSet/item")]
            if entry:
                entry.instances += made
            for instance, item in zip(made, root.iterfind("instancesSet/item")):
                self._rewrite(item, instance, starting=True)
                self.endpoint.call_back(self.endpoint.on_launch, instance.id, instance.address, dict(params))
                if self.endpoint.doom:
                    instance.reason = self.endpoint.doom
                    self.mark_terminated(instance)
        return status, root

    def _token_entry(self, params, zone):
        """The token's _Token, new or met before; None for a request without one.

        Its scope is the zone if the request names one (itself or through a subnet), else the Region.
        """
        token = params.get("ClientToken")
        if not token:
            return None
        fingerprint = tuple(sorted((name, value) for name, value in params.items()
                                   if name not in ("ClientToken", "DryRun", "Version")))
        # Kept from the first request on, also when that one found no capacity.
        entry = self._tokens.setdefault((token, zone), _Token(fingerprint))
        if entry.fingerprint != fingerprint:
            raise Refused(400, "IdempotentParameterMismatch", "Arguments on this idempotent request are inconsistent "
                          f"with arguments used in previous request(s): {token}")
        if any(instance.terminated for instance in entry.instances) and not self.endpoint.old_tokens:
            raise Refused(400, "IdempotentInstanceTerminated", "The client token corresponds to an instance that has "
                          f"been terminated: {entry.instances[0].id}")
        return entry

    def _same_again(self, entry):
        """The answer of the first time, with the instances as they are now."""
        described = {"Action": "DescribeInstances", "Version": "2016-11-15"}
        described |= {f"InstanceId.{number}": each.id for number, each in enumerate(entry.instances, 1)}
        _, root = self.moto.call(described)
        answer = ElementTree.Element("RunInstancesResponse")
        answer.append(root.find("requestId"))
        answer.extend(root.find("reservationSet/item"))
        for item in answer.iterfind("instancesSet/item"):
            self._rewrite(item, self.instances[item.findtext("instanceId")])
        return answer

    def _take(self, subnet, kind, least, most):
        """Takes up to `most` from the capacity table; returns how many, or raises when under `least`."""
        quota = self.endpoint.quota
        living = sum(1 for each in self.instances.values() if not each.terminated)
        if quota is not None and living + least > quota:
            raise Refused(400, "InstanceLimitExceeded", f"Your quota allows for {quota} more running instance(s).")
        if quota is not None:
            most = min(most, quota - living)
        for key in ((subnet, kind), (subnet, None), (None, kind), (None, None)):
            if key in self.capacity:
                if self.capacity[key] < least:
                    where = self.zones.get(subnet, "any zone")
                    raise Refused(500, "InsufficientInstanceCapacity", f"We currently do not have sufficient {kind} "
                                  f"capacity in the Availability Zone you requested ({where}).")
                taken = min(most, self.capacity[key])
                self.capacity[key] -= taken
                return taken
        return most

    def _for_moto(self, params, count):
        # moto launches MinCount, and insists on profiles, keys and templates that were made in it.
        foreign = ("IamInstanceProfile.", "KeyName", "LaunchTemplate.", "PrivateIpAddress", "SecurityGroup",
                   "NetworkInterface.1.SecurityGroupId", "NetworkInterface.1.PrivateIpAddress",
                   "DisableApiTermination")
        kept = {name: value for name, value in params.items() if not name.startswith(foreign)}
        return {**kept, "MinCount": str(count), "MaxCount": str(count)}

    def _record(self, item, params, address=None, age=0.0):
        now = self.endpoint.now()
        instance = Instance(
            id=item.findtext("instanceId"), address=address or self.endpoint.next_address(),
            zone=item.findtext("placement/availabilityZone"), subnet=item.findtext("subnetId"),
            type=item.findtext("instanceType"), token=params.get("ClientToken"), params=dict(params),
            launched=now - age, visible_at=now + self.endpoint.visible_delay if not age else 0.0,
            running_at=now - age + self.endpoint.boot_delay,
            protected=params.get("DisableApiTermination") == "true")
        self.instances[instance.id] = instance
        return instance

    def seed(self, address, tags, age, kind):
        """Enters an instance that was there before the test; see Ec2Endpoint.seed."""
        params = {"Action": "RunInstances", "Version": "2016-11-15", "ImageId": self.endpoint.image,
                  "InstanceType": kind, "MinCount": "1", "MaxCount": "1"}
        if tags:
            params["TagSpecification.1.ResourceType"] = "instance"
        for number, (key, value) in enumerate(tags.items(), 1):
            params[f"TagSpecification.1.Tag.{number}.Key"] = key
            params[f"TagSpecification.1.Tag.{number}.Value"] = value
        with self.lock:
            _, root = self.moto.call(params)
            return self._record(root.find("instancesSet/item"), {}, address, age or 1e-9).id

    def tags(self, instance_id):
        """{key: value} of an instance's tags; none for one that is not there."""
        _, root = self.moto.call({"Action": "DescribeInstances", "Version": "2016-11-15", "InstanceId.1": instance_id})
        return {item.findtext("key"): item.findtext("value") for item in root.iterfind(".//instancesSet/item/tagSet/item")}

    def take_over(self, item, params):
        """Enters an instance that a group has launched."""
        instance = self._record(item, params)
        self.endpoint.call_back(self.endpoint.on_launch, instance.id, instance.address, params)

    # The other actions

    def _describe(self, params):
        self._must_be_visible(params)
        params, ours = self._split_filters(params)
        status, root = self.moto.call(params)
        for reservation in root.findall("reservationSet/item"):
            instances = reservation.find("instancesSet")
            for item in list(instances):
                instance = self.instances[item.findtext("instanceId")]
                if instance.forgotten or not self._visible(instance) or not all(
                        any(fnmatch.fnmatchcase(_OUR_FILTERS[name](instance, self), value) for value in values)
                        for name, values in ours):
                    instances.remove(item)
                else:
                    self._rewrite(item, instance)
            if not len(instances):
                root.find("reservationSet").remove(reservation)
        return status, root

    def _split_filters(self, params):
        """(params with the filters that moto can do, [(name, values)] of those that are done here)."""
        filters = {}
        rest = {}
        for name, value in params.items():
            if name.startswith("Filter."):
                _, number, what = name.split(".", 2)
                filters.setdefault(int(number), {})[what] = value
            else:
                rest[name] = value
        ours, theirs = [], []
        for number in sorted(filters):
            parts = filters[number]
            values = [value for what, value in parts.items() if what.startswith("Value.")]
            (ours if parts.get("Name") in _OUR_FILTERS else theirs).append((parts.get("Name"), values))
        for number, (name, values) in enumerate(theirs, 1):
            rest[f"Filter.{number}.Name"] = name
            rest |= {f"Filter.{number}.Value.{index}": value for index, value in enumerate(values, 1)}
        return rest, ours

    def _terminate(self, params):
        self._must_be_visible(params)
        if params.get("DryRun") != "true":
            for name, value in params.items():
                if name.startswith("InstanceId.") and self.instances[value].protected:
                    raise Refused(400, "OperationNotPermitted", f"The instance '{value}' may not be terminated. Modify "
                                  "its 'disableApiTermination' instance attribute and try again.")
        before = {each.id: self.state(each) for each in self.instances.values()}
        status, root = self.moto.call(params)
        if status == 200:
            for item in root.iterfind("instancesSet/item"):
                instance = self.instances[item.findtext("instanceId")]
                code, name = before[instance.id]
                item.find("previousState/code").text, item.find("previousState/name").text = str(code), name
                self.mark_terminated(instance)
                code, name = (48, "terminated") if code == 48 else (32, "shutting-down")
                item.find("currentState/code").text, item.find("currentState/name").text = str(code), name
        return status, root

    def mark_terminated(self, instance):
        """Ends an instance and tells the test, once."""
        with self.lock:
            if instance.terminated is None:
                instance.terminated = self.endpoint.now()
                self.endpoint.call_back(self._end, instance.id)

    def _end(self, instance_id):
        """A machine hears of its end after the caller does, and may be that caller."""
        time.sleep(SHUTDOWN)
        if self.endpoint.on_terminate:
            self.endpoint.on_terminate(instance_id)

    def _tag(self, params):
        self._must_be_visible(params)
        return self.moto.call(params)

    def _visible(self, instance):
        return self.endpoint.now() >= instance.visible_at

    def _must_be_visible(self, params):
        for name, value in params.items():
            if name.startswith(("InstanceId.", "ResourceId.")) and value.startswith("i-"):
                instance = self.instances.get(value)
                if instance is None or instance.forgotten or not self._visible(instance):
                    raise Refused(400, "InvalidInstanceID.NotFound", f"The instance ID '{value}' does not exist")

    def _rewrite(self, item, instance, starting=False):
        """Makes moto's description of an instance ours: address, state, times; and no public address."""
        code, name = (0, "pending") if starting else self.state(instance)
        item.find("instanceState/code").text, item.find("instanceState/name").text = str(code), name
        item.find("launchTime").text = time.strftime("%Y-%m-%dT%H:%M:%S.000Z", time.gmtime(instance.launched))
        if self.endpoint.no_launch_times:
            item.remove(item.find("launchTime"))
        _set(item, "clientToken", instance.token or "")
        for child in item.findall("stateReason"):
            item.remove(child)
        if code in (32, 48, 80):
            reason = ElementTree.SubElement(item, "stateReason")
            _set(reason, "code", instance.reason[0])
            _set(reason, "message", instance.reason[1])
        for parent in list(item.iter()):
            for child in list(parent):
                if child.tag in ("association", "ipAddress"):
                    parent.remove(child)
                elif child.tag == "dnsName":
                    child.text = None
                elif child.tag == "privateIpAddress":
                    child.text = instance.address
                elif child.tag == "privateDnsName":
                    child.text = f"ip-{instance.address.replace('.', '-')}.ec2.internal"
        if code == 48:  # AWS takes the address and the interface away
            for tag in ("privateIpAddress", "networkInterfaceSet", "subnetId", "vpcId"):
                for child in item.findall(tag):
                    item.remove(child)
            _set(item, "privateDnsName", "")


def _set(item, tag, text):
    found = item.find(tag)
    if found is None:
        found = ElementTree.SubElement(item, tag)
    found.text = text
