"""moto, asked in this process: its WSGI application is called directly, without a socket."""

import functools
import io
import random
import threading
import uuid
from urllib.parse import urlencode
from xml.etree import ElementTree

# moto keeps its state in globals of this process, and not for several threads at once.
_lock = threading.Lock()


@functools.cache
def _application():
    # Importing moto takes seconds; only tests with an endpoint pay for it.
    from moto.server import DomainDispatcherApplication, create_backend_app
    return DomainDispatcherApplication(create_backend_app)


class Moto:
    """One account of its own in moto, so that endpoints in one process share nothing."""

    def __init__(self, region):
        self.region = region
        self.account = "".join(random.choices("123456789", k=12))

    def call(self, params, service="ec2"):
        """Asks moto; `params` is the request's dict. Returns (HTTP status, XML root element)."""
        body = urlencode(params).encode()
        environ = {
            "REQUEST_METHOD": "POST", "PATH_INFO": "/", "QUERY_STRING": "", "SERVER_NAME": "localhost",
            "SERVER_PORT": "80", "SERVER_PROTOCOL": "HTTP/1.1", "REMOTE_ADDR": "127.0.0.1",
            "HTTP_HOST": f"{service}.{self.region}.amazonaws.com", "HTTP_X_MOTO_ACCOUNT_ID": self.account,
            "HTTP_AUTHORIZATION": f"AWS4-HMAC-SHA256 Credential=LAB/20200101/{self.region}/{service}/aws4_request, "
                                  "SignedHeaders=host, Signature=0",
            "CONTENT_TYPE": "application/x-www-form-urlencoded", "CONTENT_LENGTH": str(len(body)),
            "wsgi.input": io.BytesIO(body), "wsgi.errors": io.StringIO(), "wsgi.url_scheme": "http",
            "wsgi.version": (1, 0), "wsgi.multithread": True, "wsgi.multiprocess": False, "wsgi.run_once": False,
        }
        answer = {}

        def start_response(status, headers, exc_info=None):
            answer["status"] = int(status.split()[0])

        with _lock:
            text = b"".join(_application()(environ, start_response))
        root = strip_namespace(ElementTree.fromstring(text.strip()))
        for element in root.iter():
            if element.tag.lower() == "requestid":
                element.text = str(uuid.uuid4())
        return answer["status"], root


def strip_namespace(root):
    """Removes the namespace from every tag below `root`, for handling; render() puts it back."""
    for element in root.iter():
        element.tag = element.tag.rpartition("}")[2]
    return root


def render(root, namespace=None):
    """The XML document of `root` as bytes, in EC2's `namespace` (none for errors)."""
    if namespace:
        root.set("xmlns", namespace)
    return b'<?xml version="1.0" encoding="UTF-8"?>\n' + ElementTree.tostring(root)
