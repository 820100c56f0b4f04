"""Checks a received request's Signature Version 4 with botocore's own signer, as EC2 would."""

import hmac
import re
from datetime import datetime, timezone

from botocore.auth import SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.compat import HTTPHeaders
from botocore.credentials import Credentials

_AUTHORIZATION = re.compile(
    r"AWS4-HMAC-SHA256 Credential=([^/,\s]+)/(\d{8})/([^/,\s]+)/([^/,\s]+)/aws4_request,\s*"
    r"SignedHeaders=([^,\s]+),\s*Signature=([0-9a-f]{64})")
_MAX_SKEW = 300


class Refused(Exception):
    """Why a request is turned away: `status`, EC2's `code`, `message`."""

    def __init__(self, status, code, message):
        super().__init__(f"{status} {code}: {message}")
        self.status, self.code, self.message = status, code, message


def check(method, target, headers, body, *, secrets, region, now):
    """Verifies a request; returns (access key, service of its scope) or raises Refused.

    `target`: path and query as received. `headers`: list of (name, value). `secrets`: function of an
    access key, returning (secret key, session token or None, expiry as a time or None), or None if the
    key is unknown. `now`: the endpoint's time, in seconds.
    """
    values = {}
    for name, value in headers:
        values.setdefault(name.lower(), []).append(value)

    def single(name):
        if len(values.get(name, [])) > 1:
            raise Refused(400, "InvalidRequest", f"the header {name} was sent more than once")
        return values.get(name, [None])[0]

    authorization, date = single("authorization"), single("x-amz-date")
    if authorization is None:
        raise Refused(400, "MissingAuthenticationToken", "Request is missing Authentication Token")
    match = _AUTHORIZATION.fullmatch(authorization)
    if not match:
        raise Refused(400, "IncompleteSignature", f"cannot read the Authorization header: {authorization}")
    key, day, scope_region, service, names, signature = match.groups()
    if date is None or not re.fullmatch(r"\d{8}T\d{6}Z", date):
        raise Refused(403, "SignatureDoesNotMatch", "X-Amz-Date is missing or not yyyymmddThhmmssZ")
    if day != date[:8]:
        raise Refused(403, "SignatureDoesNotMatch", f"Date in Credential scope {day} does not match {date}")
    if service not in ("ec2", "autoscaling", "sts") or scope_region != region:
        raise Refused(401, "AuthFailure", f"Credential should be scoped to ec2 in {region}: {scope_region}/{service}")
    _check_signed_names(names.split(";"), values)

    known = secrets(key)
    secret, token, expires = known or (None, None, None)
    if known is None or token != single("x-amz-security-token"):
        if service == "ec2":
            raise Refused(401, "AuthFailure", "AWS was not able to validate the provided access credentials")
        raise Refused(403, "InvalidClientTokenId", "The security token included in the request is invalid.")
    if expires is not None and now >= expires:
        if service == "ec2":
            raise Refused(400, "RequestExpired", "Request has expired.")
        raise Refused(403, "ExpiredToken", "The security token included in the request is expired")
    signed = [(name, value) for name, value in headers if name.lower() in names.split(";")]
    expected = _signature(method, target, signed, body, Credentials(key, secret, token), service, region, date)
    if not hmac.compare_digest(expected, signature):
        raise Refused(403, "SignatureDoesNotMatch", "The request signature we calculated does not match the signature "
                      "you provided. Check your AWS Secret Access Key and signing method.")
    # Last, as with AWS: who cannot sign is not told about clocks.
    moment = datetime.strptime(date, "%Y%m%dT%H%M%SZ").replace(tzinfo=timezone.utc).timestamp()
    if now - moment > _MAX_SKEW:
        raise Refused(400, "RequestExpired", f"Request has expired. Timestamp date is {date}")
    if moment - now > _MAX_SKEW:
        raise Refused(401, "AuthFailure", "AWS was not able to validate the provided access credentials")
    return key, service


def _check_signed_names(names, values):
    if names != sorted(set(names)) or any(name != name.lower() for name in names):
        raise Refused(403, "SignatureDoesNotMatch", f"SignedHeaders must be sorted, lower-case and unique: {names}")
    absent = [name for name in names if name not in values]
    if absent:
        raise Refused(403, "SignatureDoesNotMatch", f"signed, but not sent: {absent}")
    needed = {"host", "x-amz-date"} | {name for name in values if name.startswith("x-amz-")}
    if not needed <= set(names):
        raise Refused(403, "SignatureDoesNotMatch", f"must be signed as well: {sorted(needed - set(names))}")


def _signature(method, target, headers, body, credentials, service, region, date):
    signed = HTTPHeaders()
    for name, value in headers:
        signed[name] = value
    request = AWSRequest(method=method, url=f"http://endpoint{target}", data=body)
    request.headers = signed
    request.context["timestamp"] = date
    signer = SigV4Auth(credentials, service, region)
    # With no such header the signer hashes the body; a claimed hash must be true, so it is never believed.
    if "x-amz-content-sha256" in signed:
        true_hash = signer.payload(request)
        if signed["x-amz-content-sha256"] != true_hash:
            raise Refused(400, "XAmzContentSHA256Mismatch", "X-Amz-Content-SHA256 does not match what was computed")
    return signer.signature(signer.string_to_sign(request, signer.canonical_request(request)), request)
