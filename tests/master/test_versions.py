"""Peers of another version of the protocol: the one before is told what to upgrade, a later one is understood."""

import re
import socket
import threading

from cli import refusal
from lab import wait_until
from loopback import Loopback
from peers import Peer

# What each side says has words after those that are known, as far as they are all there.
KNOWN = re.compile(r"(HELLO \S+ \S+ \S+|LOAD \d+|PING|PONG|WELCOME \S+|GRANT \S+ \d+ \d+ \d+|WAIT \S+ \d+|FLEET \d+ \d+|LOOK)$")
NEWS = "WEATHER rainy 7"


class Later:
    """Between nodes and a master, and either takes the other for one of a later version."""

    def __init__(self, port):
        self.master, self.refused, self.carried = port, 0, []
        self.server = socket.create_server(("127.0.0.1", 0))
        self.port = self.server.getsockname()[1]
        threading.Thread(target=self._serve, daemon=True).start()

    def _serve(self):
        while True:
            try:
                node = self.server.accept()[0]
            except OSError:
                return
            master = socket.create_connection(("127.0.0.1", self.master))
            for pair in ((node, master, True), (master, node, False)):
                threading.Thread(target=self._carry, args=pair, daemon=True).start()

    def _carry(self, source, target, to_master):
        welcome = False
        with source.makefile() as lines, source, target:
            for line in map(str.rstrip, lines):
                if line.startswith("ERROR ") and "WEATHER" in line:
                    self.refused += 1  # which a later node would know to pass over
                    continue
                self.carried.append(line)
                said = f"{line} and more" if KNOWN.match(line) else line
                # Only who has been greeted may say what nobody knows.
                news = [NEWS] if welcome or not to_master and line.startswith("WELCOME") else []
                welcome |= line.startswith(("LOAD", "WELCOME", "SCALE", "REPORT"))
                try:
                    target.sendall("".join(f"{each}\n" for each in [said, *news]).encode())
                except OSError:
                    return

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.server.close()


def test_a_later_version_is_understood_by_both_sides(tmp_path, binary):
    with Loopback(binary, tmp_path) as site, Later(site.master.port) as later:
        site.sections["master"]["tunnel_ports"] = later.port
        site.configure()
        done = site.scale_up()
        assert done.returncode == 0 and site.listed() == site.ec2.launched and len(site.ec2.launched) == 1, done
        assert site.cli("status").startswith("master ")
        verbs = {line.split()[0] for line in later.carried}
        assert {"HELLO", "WELCOME", "SCALE", "GRANT", "FINISH", "FLEET"} <= verbs and later.refused > 0, later.carried


def test_the_version_before_is_told_what_to_upgrade_on_both_sides(cli, binary, tmp_path):
    """0.1.0's words, of a master and of a node."""
    with socket.create_server(("127.0.0.1", 0)) as old:
        cli.write(f"[master]\ntunnel_ports = {old.getsockname()[1]}\n")

        def serve():
            with Peer(old.accept()[0]) as peer:
                assert peer.line().startswith("HELLO 2 ")
                peer.send("ERROR this master speaks version 1")

        server = threading.Thread(target=serve, daemon=True)
        server.start()
        assert "upgrade autoscaler on that HAProxy host" in refusal(cli.call("status"), 69)
        server.join(5)
    with Loopback(binary, tmp_path / "site") as site:
        peer = site.master.connect()
        assert "upgrade autoscaler on this node" in peer.ask("HELLO 1 old 00")
        wait_until(lambda: "old: refused, it speaks another version" in site.master.log.read_text(), 5, "the log says so")
        assert "old" in site.cli("status")
