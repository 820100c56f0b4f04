"""The endpoint's HTTP side: reads a request, has it checked and carried out, answers as EC2 or fails as told."""

import random
import socket
import struct
import uuid
from dataclasses import dataclass, field
from email.utils import formatdate
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import parse_qsl, urlsplit
from xml.etree import ElementTree

from . import parameters, policy, signature, sts
from .moto_backend import render
from .signature import Refused

_NAMESPACES = {"ec2": "http://ec2.amazonaws.com/doc/2016-11-15/",
               "autoscaling": "http://autoscaling.amazonaws.com/doc/2011-01-01/",
               "sts": "https://sts.amazonaws.com/doc/2011-06-15/"}
_MAX_BODY = 1 << 20

# Ways to fail that are no answer of EC2's; with "-after" behind it, the request is carried out first.
BREAKAGES = ("reset", "hang", "truncate", "endless", "empty200", "garbage", "bodiless", "page")

STATUSES = {"RequestLimitExceeded": 503, "EC2ThrottledException": 503, "Unavailable": 503, "ServiceUnavailable": 503,
            "InternalError": 500, "InternalFailure": 500, "InsufficientInstanceCapacity": 500,
            "AuthFailure": 401, "SignatureDoesNotMatch": 403, "UnauthorizedOperation": 403, "Blocked": 403,
            "DryRunOperation": 412}  # all others: 400


@dataclass
class Request:
    """One received request. `verdict`: "ok", EC2's error code, or the kind of failure that was asked for."""

    time: float
    action: str | None
    params: dict
    headers: dict
    client: str
    service: str | None = None
    verdict: str = ""
    status: int | None = None
    carried_out: bool = False
    repeated: list = field(default_factory=list, repr=False)
    response: bytes = field(default=b"", repr=False)


class Server(ThreadingHTTPServer):
    """An HTTP server on a socket that listens already, wherever that was made; with TLS if given a context."""

    daemon_threads = True

    def __init__(self, listener, handler, tls=None):
        super().__init__(listener.getsockname(), handler, bind_and_activate=False)
        self.socket.close()
        # The handshake is left to the connection's own thread: a client that stalls must not block others.
        self.socket = tls.wrap_socket(listener, server_side=True, do_handshake_on_connect=False) if tls else listener
        self.connections = set()

    def process_request(self, request, client_address):
        self.connections.add(request)
        super().process_request(request, client_address)

    def shutdown_request(self, request):
        self.connections.discard(request)
        super().shutdown_request(request)

    def handle_error(self, request, client_address):
        pass  # a client that went away is part of the tests

    def close(self):
        """Stops serving and closes all connections."""
        self.shutdown()
        self.server_close()
        for connection in list(self.connections):
            try:
                connection.shutdown(socket.SHUT_RDWR)
            except OSError:
                pass


def handler(endpoint):
    """The http.server handler class that serves `endpoint`'s Query API."""

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self):
            if self.headers.get("Transfer-Encoding"):
                self.close_connection = True
                return self.send_error(411)
            length = int(self.headers.get("Content-Length") or 0)
            if length > _MAX_BODY:
                self.close_connection = True
                return self.send_error(413)
            body = self.rfile.read(length)
            request = _read(self, body, endpoint.now())
            try:
                _authenticate(self, request, body, endpoint)
                fault = endpoint.take_fault(request.action)
                if fault is not None:
                    return self._fail(request, fault)
                self._carry_out(request)
            except Refused as refusal:
                request.verdict, request.status = refusal.code, refusal.status
                request.response = _error(refusal, request.service)
            endpoint.record(request)
            self._answer(request)

        do_GET = do_PUT = do_POST

        def _carry_out(self, request):
            """Fills in the answer; a refusal by the rules counts as an answer too."""
            request.carried_out = True
            try:
                parameters.check(request.service, request.params)
                if endpoint.policy and request.service != "sts":
                    policy.enforce(endpoint.policy, request.service, request.params, endpoint)
                status, root = endpoint.perform(request.service, request.params)
                request.status = status
                code = root.findtext(".//Errors/Error/Code") or root.findtext(".//Error/Code")
                request.verdict = code or "ok"
                request.response = render(root, None if code else _NAMESPACES[request.service])
            except Refused as refusal:
                request.verdict, request.status = refusal.code, refusal.status
                request.response = _error(refusal, request.service)

        def _answer(self, request):
            self._head(request.status)
            body = request.response
            while body:  # uneven pieces, for nobody may rely on where they end
                size = random.randint(1, 700)
                self._chunk(body[:size])
                body = body[size:]
            self.wfile.write(b"0\r\n\r\n")

        def _head(self, status, *, length=None):
            self.send_response_only(status)
            self.send_header("Server", "AmazonEC2")
            self.send_header("Date", formatdate(endpoint.now(), usegmt=True))
            self.send_header("Content-Type", "text/xml;charset=UTF-8")
            if length is None:
                self.send_header("Transfer-Encoding", "chunked")
            else:
                self.send_header("Content-Length", str(length))
            self.end_headers()

        def _chunk(self, data):
            self.wfile.write(b"%x\r\n%b\r\n" % (len(data), data))

        def _fail(self, request, fault):
            kind = fault.kind.removesuffix("-after")
            if fault.kind.endswith("-after") or kind == "truncate":
                self._carry_out(request)
            request.verdict = fault.kind
            if kind not in BREAKAGES:
                request.status = fault.status or STATUSES.get(kind, 400)
                request.response = _error(Refused(request.status, kind, fault.message or f"{kind}, as asked for"),
                                          request.service)
                endpoint.record(request)
                return self._answer(request)
            if kind in ("bodiless", "page"):
                request.status = fault.status or 503
            released = endpoint.released  # before the test can know of this request and release it
            endpoint.record(request)
            getattr(self, f"_{kind}")(request, released)

        def _reset(self, request, released):
            self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            self._hang_up()

        def _hang(self, request, released):
            while not released.wait(0.05):
                if _gone(self.connection):
                    break
            self._hang_up()

        def _truncate(self, request, released):
            self._head(200)
            half = request.response[:len(request.response) // 2]
            self.wfile.write(b"%x\r\n%b" % (len(request.response), half))
            self._hang_up()

        def _endless(self, request, released):
            self._head(200)
            self._chunk(b'<?xml version="1.0"?>\n<Response>')
            while not released.is_set():
                self._chunk(b"<item>and on it goes</item>" * 2000)
            self._hang_up()

        def _empty200(self, request, released):
            self._head(200, length=0)

        def _garbage(self, request, released):
            text = b"<html><body>\xff\x00 captive portal: please log in & <b>enjoy"
            self._head(200, length=len(text))
            self.wfile.write(text)

        def _bodiless(self, request, released):
            self._head(request.status, length=0)

        def _page(self, request, released):
            text = b"<html><head><title>Error</title></head><body><h1>Please try again</h1></body></html>"
            self._head(request.status, length=len(text))
            self.wfile.write(text)

        def _hang_up(self):
            self.close_connection = True
            self.rfile.close()  # it would hold the socket open
            self.connection.close()

        def log_message(self, *_):
            pass

    return Handler


def _gone(connection):
    """Whether the client has closed its side."""
    try:
        return connection.recv(1, socket.MSG_PEEK | socket.MSG_DONTWAIT) == b""
    except BlockingIOError:
        return False
    except (OSError, ValueError):  # reset; or TLS, which cannot peek: then wait to be released
        return not hasattr(connection, "cipher")


def _read(handler, body, now):
    query = urlsplit(handler.path).query
    form = handler.headers.get("Content-Type", "").partition(";")[0].strip() == "application/x-www-form-urlencoded"
    pairs = parse_qsl(query, keep_blank_values=True)
    if form:
        pairs += parse_qsl(body.decode("utf-8", "replace"), keep_blank_values=True)
    params = dict(pairs)
    request = Request(now, params.get("Action"), params, dict(handler.headers.items()), handler.client_address[0])
    request.repeated = sorted({name for name, _ in pairs if [each for each, _ in pairs].count(name) > 1})
    return request


def _authenticate(handler, request, body, endpoint):
    if request.action == sts.UNSIGNED:  # the token is what counts
        request.service = "sts"
        return
    _, request.service = signature.check(
        handler.command, handler.path, handler.headers.items(), body,
        secrets=endpoint.credentials.get, region=endpoint.region, now=endpoint.now())
    if request.repeated:
        raise Refused(400, "InvalidParameter", f"given more than once: {', '.join(request.repeated)}")


def _error(refusal, service):
    """The error document as the service writes it, as bytes."""
    auto = service in ("autoscaling", "sts")
    root = ElementTree.Element("ErrorResponse" if auto else "Response")
    error = ElementTree.SubElement(root if auto else ElementTree.SubElement(root, "Errors"), "Error")
    if auto:
        ElementTree.SubElement(error, "Type").text = "Sender"
    ElementTree.SubElement(error, "Code").text = refusal.code
    ElementTree.SubElement(error, "Message").text = refusal.message
    ElementTree.SubElement(root, "RequestId" if auto else "RequestID").text = str(uuid.uuid4())
    return render(root, _NAMESPACES[service] if auto else None)
