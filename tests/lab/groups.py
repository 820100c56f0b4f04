"""Auto Scaling groups of an endpoint: moto's, with what AWS does and moto does not.

Bounds that hold, machines that come a while after they were asked for, and members in the lab's fleet.
"""

import threading

from .parameters import VERSIONS
from .signature import Refused


class Groups:
    """Carries out the actions of Auto Scaling. `delay`: seconds until a group does what it was told."""

    def __init__(self, endpoint):
        self.endpoint, self.fleet, self.delay = endpoint, endpoint.fleet, 0.0
        self._lifecycles = {}  # instance id -> the state that it is shown in
        self._wanted = {}  # name -> the desired capacity that the group has not come to yet

    def create(self, name, *, tags=None, least=0, most=10, desired=0):
        """Makes a group with a launch template of the same name; `tags` go to its instances."""
        with self.fleet.lock:
            self._must("CreateLaunchTemplate", "ec2", LaunchTemplateName=name, **{
                "LaunchTemplateData.ImageId": self.endpoint.image, "LaunchTemplateData.InstanceType": "t3.small"})
            labels = {}
            for number, (key, value) in enumerate((tags or {}).items(), 1):
                labels |= {f"Tags.member.{number}.{what}": text for what, text in (
                    ("ResourceId", name), ("ResourceType", "auto-scaling-group"), ("Key", key), ("Value", value),
                    ("PropagateAtLaunch", "true"))}
            self._must("CreateAutoScalingGroup", AutoScalingGroupName=name, MinSize=str(least), MaxSize=str(most),
                       DesiredCapacity=str(desired), VPCZoneIdentifier=next(iter(self.fleet.zones)), **labels,
                       **{"LaunchTemplate.LaunchTemplateName": name})
            self._follow()

    def tag(self, name, key, value):
        """Instances that the group launches from now on get this tag."""
        with self.fleet.lock:
            self._must("CreateOrUpdateTags", **{f"Tags.member.1.{what}": text for what, text in (
                ("ResourceId", name), ("ResourceType", "auto-scaling-group"), ("Key", key), ("Value", value),
                ("PropagateAtLaunch", "true"))})

    def launch(self, name):
        """The group launches one more for a reason of its own."""
        with self.fleet.lock:
            wanted = int(self._describe(name)[0].findtext("DesiredCapacity")) + 1
            self._must("SetDesiredCapacity", AutoScalingGroupName=name, DesiredCapacity=str(wanted))
            self._follow()

    def set_lifecycle(self, instance_id, state):
        """Shows the member in a lifecycle state, such as Standby or Terminating:Wait; None: in its own again."""
        with self.fleet.lock:
            self._lifecycles[instance_id] = state

    def desired(self, name):
        """The desired capacity, as it was asked for."""
        with self.fleet.lock:
            return int(self._wanted.get(name) or self._describe(name)[0].findtext("DesiredCapacity"))

    def of(self, instance_id):
        """The name of the group that the instance is in; None for none."""
        with self.fleet.lock:
            return next((group.findtext("AutoScalingGroupName") for group in self._describe() if any(
                each.text == instance_id for each in group.iterfind("Instances/member/InstanceId"))), None)

    def tags(self, name):
        """{key: value} of the group's own tags; none for a group that is not there."""
        with self.fleet.lock:
            return {each.findtext("Key"): each.findtext("Value")
                    for group in (self._describe(name) if name else []) for each in group.iterfind("Tags/member")}

    def perform(self, params):
        """Carries out one checked request; returns (status, XML root)."""
        own = {"DescribeAutoScalingGroups": self._show, "SetDesiredCapacity": self._set,
               "TerminateInstanceInAutoScalingGroup": self._terminate}
        action = own.get(params["Action"])
        if action is None:
            raise Refused(400, "InvalidAction", f"The lab's Auto Scaling does not know {params['Action']}")
        with self.fleet.lock:
            return action(params)

    def _show(self, params):
        status, root = self.fleet.moto.call(params, "autoscaling")
        for group in root.iterfind("DescribeAutoScalingGroupsResult/AutoScalingGroups/member"):
            wanted = self._wanted.get(group.findtext("AutoScalingGroupName"))
            if wanted is not None:
                group.find("DesiredCapacity").text = str(wanted)
            for member in group.iterfind("Instances/member"):
                instance = self.fleet.instances[member.findtext("InstanceId")]
                if self.fleet.state(instance)[1] == "pending":
                    member.find("LifecycleState").text = "Pending"
                if state := self._lifecycles.get(instance.id):
                    member.find("LifecycleState").text = state
        return status, root

    def _set(self, params):
        name, wanted = params["AutoScalingGroupName"], int(params["DesiredCapacity"])
        group = self._known(name)
        for bound, holds, word in (("MaxSize", int.__le__, "above max"), ("MinSize", int.__ge__, "below min")):
            limit = int(group.findtext(bound))
            if not holds(wanted, limit):
                raise Refused(400, "ValidationError", f"New SetDesiredCapacity value {wanted} is {word} value {limit} "
                              "for the AutoScalingGroup.")
        self._wanted[name] = wanted
        answer = self.fleet.moto.call(params | {"DesiredCapacity": group.findtext("DesiredCapacity")}, "autoscaling")
        threading.Timer(self.delay, self._come_to, (name, wanted)).start()
        return answer

    def _come_to(self, name, wanted):
        with self.fleet.lock:
            if self._wanted.get(name) == wanted:
                del self._wanted[name]
                self._must("SetDesiredCapacity", AutoScalingGroupName=name, DesiredCapacity=str(wanted))
                self._follow()

    def _terminate(self, params):
        name = params["InstanceId"]
        group = self.of(name)
        if group is None:
            raise Refused(400, "ValidationError", "Instance Id not found - No managed instance found for instance ID: "
                          f"{name}")
        if params["ShouldDecrementDesiredCapacity"] == "true":
            [group] = self._describe(group)
            least = int(group.findtext("MinSize"))
            if int(group.findtext("DesiredCapacity")) <= least:
                raise Refused(400, "ValidationError", f"Currently, desiredSize equals minSize ({least}). Terminating "
                              "instance without replacement will violate group's min size constraint.")
        answer = self.fleet.moto.call(params, "autoscaling")
        self.fleet.mark_terminated(self.fleet.instances[name])
        self._follow()
        return answer

    def _known(self, name):
        found = self._describe(name)
        if not found:
            raise Refused(400, "ValidationError", f"AutoScalingGroup name not found - AutoScalingGroup '{name}' not found")
        return found[0]

    def _describe(self, *names):
        given = {f"AutoScalingGroupNames.member.{number}": name for number, name in enumerate(names, 1)}
        root = self._must("DescribeAutoScalingGroups", **given)
        return root.findall("DescribeAutoScalingGroupsResult/AutoScalingGroups/member")

    def _follow(self):
        """Takes over what moto has launched for its groups."""
        for group in self._describe():
            for member in group.iterfind("Instances/member/InstanceId"):
                if member.text not in self.fleet.instances:
                    root = self._must("DescribeInstances", "ec2", **{"InstanceId.1": member.text})
                    self.fleet.take_over(root.find("reservationSet/item/instancesSet/item"),
                                         {"AutoScalingGroupName": group.findtext("AutoScalingGroupName")})

    def _must(self, action, service="autoscaling", **params):
        status, root = self.fleet.moto.call({"Action": action, "Version": VERSIONS[service], **params}, service)
        assert status == 200, [each.text for each in root.iter()]
        return root
