"""Instance metadata, version 2 only: what an instance learns about itself and its role's credentials."""

import json
import secrets
import threading
import time
from http.server import BaseHTTPRequestHandler

_TTL_HEADER = "X-aws-ec2-metadata-token-ttl-seconds"
_TOKEN_HEADER = "X-aws-ec2-metadata-token"
_ROLES = "/latest/meta-data/iam/security-credentials/"


class Metadata:
    """The metadata service of an endpoint, at `url`. The caller's address tells which instance asks.

    Settable: `mode` "on", "off" (403), "hang" or "v1" (no tokens, and none needed); `role` (None: 404); `lifetime` of credentials in
    seconds; `code` of the credentials' answer; `default_instance`, for a caller whose address belongs to
    no instance (all of them, on 127.0.0.1). `requests` lists (method, path, status or None
    for no answer).
    """

    def __init__(self, endpoint):
        self.endpoint = endpoint
        self.mode, self.role, self.code, self.lifetime = "on", "lab-role", "Success", 6 * 3600
        self.default_instance = None
        self.spot = False  # are all instances spot instances?
        self.notices = {}  # instance id -> "interruption" or "rebalance"
        self.requests = []
        self.released = threading.Event()
        self._tokens = {}
        self._credentials = None

    def rotate(self):
        """Makes new credentials for the role; those handed out before stay good until they expire."""
        key, secret, token, expires = self.endpoint.hand_out(self.lifetime)
        self._credentials = {
            "Code": self.code, "LastUpdated": _iso(self.endpoint.now()), "Type": "AWS-HMAC",
            "AccessKeyId": key, "SecretAccessKey": secret, "Token": token, "Expiration": _iso(expires)}

    def expire_tokens(self):
        """Makes every session token given out so far invalid (401)."""
        self._tokens.clear()

    def answer(self, method, path, headers, caller):
        """(status, text) for one request; `headers` is any case-insensitive mapping."""
        if self.mode == "off" or "X-Forwarded-For" in headers:
            return 403, "Forbidden"
        if self.mode == "v1" and method == "GET":
            text = self._value(path, caller)
            return (404, "Not Found") if text is None else (200, text)
        if self.mode == "v1":
            return 405, "Method Not Allowed"
        if path == "/latest/api/token":
            if method != "PUT":
                return 405, "Method Not Allowed"
            ttl = headers.get(_TTL_HEADER, "")
            if not ttl.isdigit() or not 1 <= int(ttl) <= 21600:
                return 400, "Bad Request"
            token = secrets.token_urlsafe(40)
            self._tokens[token] = time.monotonic() + int(ttl)
            return 200, token
        if method != "GET":
            return 405, "Method Not Allowed"
        if self._tokens.get(headers.get(_TOKEN_HEADER), 0) <= time.monotonic():
            return 401, "Unauthorized"
        text = self._value(path, caller)
        return (404, "Not Found") if text is None else (200, text)

    def _value(self, path, caller):
        if path.rstrip("/") == _ROLES.rstrip("/"):
            return self.role
        if path == f"{_ROLES}{self.role}":
            if self._credentials is None:
                self.rotate()
            return json.dumps({**self._credentials, "Code": self.code}, indent=2)
        region = self.endpoint.region
        if path == "/latest/meta-data/placement/region":
            return region
        instance = self.endpoint.fleet.by_address(caller) or self.endpoint.fleet.instances.get(self.default_instance)
        if instance is None:
            return None
        if path == "/latest/dynamic/instance-identity/document":
            return json.dumps({"region": region, "availabilityZone": instance.zone, "instanceId": instance.id,
                               "privateIp": instance.address, "instanceType": instance.type,
                               "accountId": self.endpoint.fleet.moto.account}, indent=2)
        notice, soon = self.notices.get(instance.id), _iso(self.endpoint.now() + 120)
        if notice == "interruption" and path == "/latest/meta-data/spot/instance-action":
            return json.dumps({"action": "terminate", "time": soon})
        if notice == "rebalance" and path == "/latest/meta-data/events/recommendations/rebalance":
            return json.dumps({"noticeTime": soon})
        return {
            "/latest/meta-data/instance-life-cycle": "spot" if self.spot else "on-demand",
            "/latest/meta-data/instance-id": instance.id,
            "/latest/meta-data/local-ipv4": instance.address,
            "/latest/meta-data/instance-type": instance.type,
            "/latest/meta-data/placement/availability-zone": instance.zone,
        }.get(path)


def _iso(moment):
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(moment))


def handler(metadata):
    """The http.server handler class that serves `metadata`."""

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self):
            if metadata.mode == "hang":
                metadata.requests.append((self.command, self.path, None))
                metadata.released.wait()
                self.close_connection = True
                return
            self.rfile.read(int(self.headers.get("Content-Length") or 0))
            status, text = metadata.answer(self.command, self.path, self.headers, self.client_address[0])
            metadata.requests.append((self.command, self.path, status))
            body = text.encode()
            self.send_response(status)
            self.send_header("Content-Type", "text/plain")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        do_PUT = do_POST = do_GET

        def log_message(self, *_):
            pass

    return Handler
