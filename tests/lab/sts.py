"""AssumeRoleWithWebIdentity: temporary credentials for a token that the endpoint knows."""

import time
from xml.etree import ElementTree

from .signature import Refused

ACTION = "AssumeRoleWithWebIdentity"


def assume_role(endpoint, params):
    """The answer's XML root."""
    role = endpoint.web_identities.get(params["WebIdentityToken"])
    if role is None:
        raise Refused(400, "InvalidIdentityToken", "The web identity token provided could not be validated")
    if role != params["RoleArn"]:
        raise Refused(403, "AccessDenied", f"Not authorized to perform sts:{ACTION}")
    key, secret, token, expires = endpoint.hand_out(3600)
    root = ElementTree.Element(f"{ACTION}Response")
    made = ElementTree.SubElement(ElementTree.SubElement(root, f"{ACTION}Result"), "Credentials")
    for name, text in (("AccessKeyId", key), ("SecretAccessKey", secret), ("SessionToken", token),
                       ("Expiration", time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(expires)))):
        ElementTree.SubElement(made, name).text = text
    return root
