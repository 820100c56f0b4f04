"""Checks a request's parameters against the AWS service models that botocore carries."""

import base64
import binascii
import functools
import re

import botocore.session

from .signature import Refused

VERSIONS = {"ec2": "2016-11-15", "autoscaling": "2011-01-01", "sts": "2011-06-15"}
_MAX_USER_DATA = 16384


@functools.cache
def _model(service):
    return botocore.session.Session().get_service_model(service)


@functools.cache
def preload():
    """Reads the EC2 model, which takes a third of a second the first time."""
    _model("ec2").operation_model("RunInstances")


def check(service, params):
    """Raises Refused if `params` (a dict of strings) is no request that the service knows."""
    action = params.get("Action")
    if not action:
        raise Refused(400, "MissingAction", "The request must contain the parameter Action")
    if params.get("Version") != VERSIONS[service]:
        raise Refused(400, "NoSuchVersion" if service == "ec2" else "InvalidAction",
                      f"The requested version ({params.get('Version')}) of service {service} does not exist")
    if action not in _model(service).operation_names:
        raise Refused(400, "InvalidAction", f"The action {action} is not valid for this web service.")
    shape = _model(service).operation_model(action).input_shape
    for name, value in params.items():
        if name in ("Action", "Version"):
            continue
        kind = _type_of(shape, name.split("."), service)
        if kind is None:
            raise Refused(400, "UnknownParameter", f"The parameter {name} is not recognized")
        if kind == "boolean" and value not in ("true", "false"):
            raise Refused(400, "InvalidParameterValue", f"Invalid value '{value}' for {name}: true or false")
        if kind in ("integer", "long") and not re.fullmatch(r"-?\d+", value):
            raise Refused(400, "InvalidParameterValue", f"Invalid value '{value}' for {name}: a number")
    if service == "ec2":
        _check_values(action, shape, params)


def _type_of(shape, words, service):
    """The type of the scalar that `words` (a dotted name) leads to below `shape`; None if to none."""
    if not words:
        return shape.type_name if shape.type_name not in ("structure", "list", "map") else None
    if shape.type_name == "structure":
        for name, member in shape.members.items():
            if _wire_name(name, member, service) == words[0]:
                return _type_of(member, words[1:], service)
    if shape.type_name == "list":
        if service != "ec2":  # the plain query protocol writes NAME.member.N
            if words[0] != "member":
                return None
            words = words[1:]
        if words and re.fullmatch(r"[1-9]\d*", words[0]):
            return _type_of(shape.member, words[1:], service)
    return None


def _wire_name(name, member, service):
    names = member.serialization
    if service != "ec2":
        return names.get("name", name)
    if "queryName" in names:
        return names["queryName"]
    return names["name"][0].upper() + names["name"][1:] if "name" in names else name


def _check_values(action, shape, params):
    for name in shape.required_members:
        wire = _wire_name(name, shape.members[name], "ec2")
        if not any(given == wire or given.startswith(f"{wire}.") for given in params):
            raise Refused(400, "MissingParameter", f"The request must contain the parameter {wire}")
    for name in params:  # lists are numbered from 1 without a gap
        stem, _, number = name.rpartition(".")
        if number.isdigit() and int(number) > 1 and f"{stem}.{int(number) - 1}" not in params:
            raise Refused(400, "InvalidParameter", f"{name} without {stem}.{int(number) - 1}")
    token = params.get("ClientToken", "")
    if len(token) > 64 or not token.isascii():
        raise Refused(400, "InvalidParameterValue", "Client token must be at most 64 ASCII characters")
    if "UserData" in params:
        try:
            data = base64.b64decode(params["UserData"], validate=True)
        except binascii.Error:
            raise Refused(400, "InvalidUserData.Malformed", "Invalid BASE64 encoding of user data") from None
        if len(data) > _MAX_USER_DATA:
            raise Refused(400, "InvalidParameterValue", f"User data is limited to {_MAX_USER_DATA} bytes")
    if action == "RunInstances":
        if not 1 <= int(params["MinCount"]) <= int(params["MaxCount"]):
            raise Refused(400, "InvalidParameterValue", "MinCount and MaxCount: 1 <= MinCount <= MaxCount")
        if "SubnetId" in params and any(name.startswith("NetworkInterface.") for name in params):
            raise Refused(400, "InvalidParameterCombination", "Network interfaces and an instance-level subnet ID "
                          "may not be specified on the same request")
