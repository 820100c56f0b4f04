"""An HTTP proxy that knows nothing but CONNECT, and writes down who wanted where."""

import base64
import socket
import socketserver
import threading


class Proxy:
    """`url`, on 127.0.0.1; `targets` lists the `host:port` of every CONNECT, in order.

    `upstream(target)`: the (host, port) that it connects to; default: the target itself. `login`: `user:password`
    that a client has to give (407 without).
    """

    def __init__(self, upstream=None, login=None):
        self.targets, self.refused = [], 0
        proxy = self

        class Handler(socketserver.StreamRequestHandler):
            def handle(self):
                method, target, _ = self.rfile.readline().decode().split()
                headers = {}
                while line := self.rfile.readline().decode().strip():
                    name, _, value = line.partition(":")
                    headers[name.lower()] = value.strip()
                proxy.targets.append(target)
                wanted = login and f"Basic {base64.b64encode(login.encode()).decode()}"
                if wanted and headers.get("proxy-authorization") != wanted:
                    proxy.refused += 1
                    return self.wfile.write(b"HTTP/1.1 407 Proxy Authentication Required\r\nContent-Length: 0\r\n\r\n")
                if method != "CONNECT":
                    return self.wfile.write(b"HTTP/1.1 405 Method Not Allowed\r\nContent-Length: 0\r\n\r\n")
                where = upstream(target) if upstream else (lambda host, port: (host, int(port)))(*target.rsplit(":", 1))
                with socket.create_connection(where, 10) as there:
                    self.wfile.write(b"HTTP/1.1 200 Connection established\r\n\r\n")
                    back = threading.Thread(target=_pump, args=(there, self.connection), daemon=True)
                    back.start()
                    _pump(self.connection, there)
                    back.join()

        class Server(socketserver.ThreadingTCPServer):
            daemon_threads, allow_reuse_address, block_on_close = True, True, False

            def handle_error(self, request, client_address):
                pass  # a client that went away is part of the tests

        self._server = Server(("127.0.0.1", 0), Handler)
        self.url = f"http://{login + '@' if login else ''}127.0.0.1:{self._server.server_address[1]}"

    def __enter__(self):
        threading.Thread(target=self._server.serve_forever, args=(0.05,), daemon=True).start()
        return self

    def __exit__(self, *_):
        self._server.shutdown()
        self._server.server_close()


def _pump(source, sink):
    try:
        while data := source.recv(65536):
            sink.sendall(data)
        sink.shutdown(socket.SHUT_WR)
    except OSError:
        pass
