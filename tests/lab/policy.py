"""Enforces an IAM policy on an endpoint's requests, by the Service Authorization Reference for EC2 and Auto Scaling.

What is asked for (actions, resources, condition keys) and the conditions of statements are worked out here; whether
the statements that remain allow an action on a resource is moto's word.
"""

import functools
import json
import re

from .signature import Refused


def enforce(policy, service, params, endpoint):
    """Raises Refused as AWS does, unless `policy` (a document) allows the request and all that it entails."""
    for action, resource, context in _wanted(service, params, endpoint):
        endpoint.exercised.add(action)
        if not _allows(policy, action, resource, context):
            who = f"arn:aws:sts::{endpoint.fleet.moto.account}:assumed-role/lab-role/i-0"
            text = (f"User: {who} is not authorized to perform: {action} on resource: {resource} because no identity-based "
                    f"policy allows the {action} action.")
            if service == "ec2":
                raise Refused(403, "UnauthorizedOperation", f"You are not authorized to perform this operation. {text} "
                              f"Encoded authorization failure message: {'x' * 500}")
            raise Refused(403, "AccessDenied", text)


def _allows(policy, action, resource, context):
    statements = []
    for statement in policy["Statement"]:
        conditions = dict(statement.get("Condition", {}))
        equal = conditions.pop("StringEquals", {})
        assert not conditions, f"not known here: {conditions}"
        if all(context.get(key) == value for key, value in equal.items()):
            statements.append({key: value for key, value in statement.items() if key != "Condition"})
    return _moto()(json.dumps({"Statement": statements})).is_action_permitted(action, resource).name == "PERMITTED"


@functools.cache
def _moto():
    from moto.iam.access_control import IAMPolicy
    return IAMPolicy


def _wanted(service, params, endpoint):
    """(action, ARN, {condition key: value}) of everything that a request needs."""
    action = f"{service}:{params['Action']}"
    arn = functools.partial("arn:aws:{}:{}:{}:{}".format, service, endpoint.region, endpoint.fleet.moto.account)
    if params["Action"].startswith("Describe"):
        return [(action, "*", {})]
    if params["Action"] == "RunInstances":
        return list(_launch(action, arn, params, endpoint))
    if params["Action"] == "TerminateInstances":
        ids = [value for name, value in params.items() if name.startswith("InstanceId.")]
        return [(action, arn(f"instance/{each}"), _tags("ResourceTag", endpoint.fleet.tags(each))) for each in ids]
    if service == "autoscaling":
        name = params.get("AutoScalingGroupName") or endpoint.groups.of(params["InstanceId"])
        tags = _tags("ResourceTag", endpoint.groups.tags(name))
        return [(action, arn(f"autoScalingGroup:uuid:autoScalingGroupName/{name}"), tags)]
    raise AssertionError(f"what {action} needs is not known here")


def _launch(action, arn, params, endpoint):
    tags = {}
    for name, kind in params.items():
        if match := re.fullmatch(r"(TagSpecification\.\d+)\.ResourceType", name):
            keys = (key for key in params if re.fullmatch(rf"{re.escape(match[1])}\.Tag\.\d+\.Key", key))
            tags[kind] = {params[key]: params[key.removesuffix("Key") + "Value"] for key in keys}
    region = endpoint.region
    yield action, f"arn:aws:ec2:{region}::image/{params.get('ImageId', 'ami-0')}", {}
    for resource, given in (("network-interface/*", True), ("security-group/sg-0", True), ("volume/*", True),
                            ("subnet/subnet-0", True), ("key-pair/k", "KeyName" in params),
                            ("launch-template/lt-0", any(name.startswith("LaunchTemplate.") for name in params))):
        if given:
            yield action, arn(resource), _tags("RequestTag", tags.get(resource.split("/")[0], {}))
    yield action, arn("instance/*"), _tags("RequestTag", tags.get("instance", {}))
    for kind, own in tags.items():
        yield "ec2:CreateTags", arn(f"{kind}/*"), {"ec2:CreateAction": "RunInstances"} | _tags("RequestTag", own)
    if any(name.startswith("IamInstanceProfile.") for name in params):
        account = endpoint.fleet.moto.account
        yield "iam:PassRole", f"arn:aws:iam::{account}:role/ROLE", {"iam:PassedToService": "ec2.amazonaws.com"}


def _tags(kind, tags):
    return {f"aws:{kind}/{key}": value for key, value in tags.items()}
