"""STS: temporary credentials for a token that the endpoint knows, and for a role that the caller may assume."""

import time
from xml.etree import ElementTree

from .signature import Refused

UNSIGNED = "AssumeRoleWithWebIdentity"  # its token is what counts


def perform(endpoint, params):
    """The answer's XML root."""
    action = params["Action"]
    lifetime = int(params.get("DurationSeconds", 3600))
    if action == UNSIGNED:
        role = endpoint.web_identities.get(params["WebIdentityToken"])
        if role is None:
            raise Refused(400, "InvalidIdentityToken", "The web identity token provided could not be validated")
    elif action == "AssumeRole":
        role = params["RoleArn"] if endpoint.roles.get(params["RoleArn"], ()) == params.get("ExternalId") else None
    else:
        raise Refused(400, "InvalidAction", f"The lab's STS does not know {action}")
    if role != params["RoleArn"]:
        raise Refused(403, "AccessDenied", f"Not authorized to perform sts:{action}")
    key, secret, token, expires = endpoint.hand_out(lifetime)
    root = ElementTree.Element(f"{action}Response")
    made = ElementTree.SubElement(ElementTree.SubElement(root, f"{action}Result"), "Credentials")
    for name, text in (("AccessKeyId", key), ("SecretAccessKey", secret), ("SessionToken", token),
                       ("Expiration", time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(expires)))):
        ElementTree.SubElement(made, name).text = text
    return root
