"""The app server of the lab, run as a program: PORT NAME DELAY healthy|sick [BIND]."""

import socket
import sys
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


def main(port, name, delay, health, bind="::"):
    """Serves until killed; says `listening` once it does."""

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self):
            if self.path == "/":
                self.answer(200, name)
            elif self.path == "/healthz":
                self.answer(200 if health == "healthy" else 503, health)
            else:
                self.answer(404, "not found")

        def do_HEAD(self):
            self.do_GET()

        def answer(self, status, text):
            body = f"{text}\n".encode()
            self.send_response(status)
            self.send_header("Content-Type", "text/plain")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            if self.command != "HEAD":
                self.wfile.write(body)

        def log_message(self, *_):
            pass

    time.sleep(float(delay))
    if ":" in bind:  # "::" takes IPv4 as well
        ThreadingHTTPServer.address_family = socket.AF_INET6
    server = ThreadingHTTPServer((bind, int(port)), Handler)
    print("listening", flush=True)
    server.serve_forever()


main(*sys.argv[1:])
