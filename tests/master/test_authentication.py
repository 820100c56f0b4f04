"""Node and master prove themselves to each other: what a recording, a mirror and somebody in the middle get out of it.
(Wrong proofs of all kinds: test_protocol.py.)"""

import secrets
import socket
import threading

import pytest
from cli import refusal
from peers import SECRET, Master, Peer, proof


@pytest.fixture(scope="module")
def master(binary, tmp_path_factory):
    with Master(binary, tmp_path_factory.mktemp("master") / "etc") as one:
        yield one


class Middle:
    """Somebody who got one of the tunnel ports of an app server before a master did. Each connection that the node
    makes is met by `meet(node, middle)`, with a Peer that speaks to the node."""

    def __init__(self, cli, meet):
        self.listener = socket.create_server(("127.0.0.1", 0))
        cli.write(f"[master]\ntunnel_ports = {self.port}\n[cluster]\nsecret = {SECRET}\n")
        self.heard, self.failure = [], None
        self.thread = threading.Thread(target=self._serve, args=(meet,), daemon=True)
        self.thread.start()

    @property
    def port(self):
        return self.listener.getsockname()[1]

    def _serve(self, meet):
        try:
            with Peer(self.listener.accept()[0]) as node:
                meet(node, self)
        except (AssertionError, OSError) as error:
            self.failure = error

    def hear(self, peer):
        """The next line, kept for later."""
        line = peer.line()
        self.heard.append(line)
        return line

    def close(self):
        self.thread.join(10)
        self.listener.close()
        assert self.failure is None, self.failure


def relay(master, change=lambda line: line):
    """Passes the lines of both sides on, each through `change`."""
    def meet(node, middle):
        upstream = master.connect()
        for _ in range(2):  # HELLO and CHALLENGE, AUTH and WELCOME
            upstream.send(change(middle.hear(node)))
            answer = change(middle.hear(upstream))
            node.send(answer)
            if answer.startswith("ERROR"):
                return
        status = middle.hear(node)
        if status is None:  # it has hung up
            return
        upstream.send(status)
        while (line := middle.hear(upstream)) != "END":
            node.send(line)
        node.send("END")
    return meet


def test_a_relay_that_changes_nothing_is_not_seen_and_learns_no_secret(cli, master):
    """What the protocol cannot stop: the two ends prove themselves through whoever passes their lines on, and what
    follows the greeting carries no proof of its own. docs/security.md says what that is good for, and for how long."""
    middle = Middle(cli, relay(master))
    assert socket.gethostname() in cli("status")
    middle.close()
    assert [line.split()[0] for line in middle.heard[:4]] == ["HELLO", "CHALLENGE", "AUTH", "WELCOME"]
    assert SECRET not in " ".join(middle.heard)
    # Nor can it do anything with it afterwards: what it has heard opens no other connection.
    _, _, node, nonce = middle.heard[0].split()
    for line in (middle.heard[2], middle.heard[3].replace("WELCOME", "AUTH").replace(f" {socket.gethostname()}", "")):
        peer = master.connect()
        assert peer.ask(f"HELLO 2 {node} {nonce}").startswith("CHALLENGE ")
        assert [answer.split()[0] for answer in [peer.ask(line)]] == ["ERROR"] and peer.hung_up() == []


def one_word_changed(verb, at, to):
    """Changes word `at` of the line with this verb."""
    def change(line):
        words = line.split()
        if words[0] == verb:
            words[at] = to
        return " ".join(words)
    return change


@pytest.mark.parametrize("verb, at", [("HELLO", 2), ("HELLO", 3), ("CHALLENGE", 1), ("AUTH", 1), ("WELCOME", 1), ("WELCOME", 2)])
def test_a_relay_can_change_no_word_of_the_greeting(cli, master, verb, at):
    """Not the node's name, not the master's, no nonce and no proof: two masters cannot be taken for one another."""
    middle = Middle(cli, relay(master, one_word_changed(verb, at, "00" * 16 if at != 2 or verb == "WELCOME" else "other")))
    complaint = refusal(cli.call("status"), 69)
    assert SECRET not in complaint and ("prove" in complaint or "proof" in complaint), complaint
    middle.close()


def test_a_recorded_master_convinces_no_node(cli, master):
    """CHALLENGE and WELCOME of a real greeting, played back: the node's nonce is another one."""
    recording = Middle(cli, relay(master))
    cli("status")
    recording.close()
    challenge, welcome = recording.heard[1], recording.heard[3]

    def play(node, middle):
        middle.hear(node)
        node.send(challenge)
        middle.hear(node)
        node.send(welcome)

    middle = Middle(cli, play)
    assert "prove" in refusal(cli.call("status"), 69)
    middle.close()
    # And it gives away no proof that it has given before, although the challenge is the same.
    assert middle.heard[0] != recording.heard[0] and middle.heard[1] != recording.heard[2]


def test_a_nodes_nonces_never_come_twice(cli):
    seen = set()
    for _ in range(20):
        middle = Middle(cli, lambda node, middle: middle.hear(node))
        cli.call("status")
        middle.close()
        seen.add(middle.heard[0].split()[3])
    assert len(seen) == 20 and all(len(nonce) == 32 for nonce in seen)


def test_a_peer_that_uses_its_nonce_again_gains_nothing(master):
    """The master's own nonce makes each proof another one."""
    mine, answers = secrets.token_hex(16), set()
    for _ in range(5):
        peer = master.connect()
        challenge = peer.ask(f"HELLO 2 app1 {mine}").split()[1]
        answers.add(peer.ask(f"AUTH {proof(SECRET, 'node', 'app1', mine, challenge)}"))
    assert len(answers) == 5 and all(answer.startswith("WELCOME ") for answer in answers)


def test_a_nonce_cannot_move_a_word_from_one_claim_into_another(master):
    """The signed text has its words apart by blanks, and no word holds one: `a b` and `c` is no `a` and `b c`."""
    for hello in ("HELLO 2 app1", "HELLO 2  app1  "):
        assert master.connect().ask(hello).startswith("ERROR "), hello
    # What stands behind the nonce may mean something one day, and is no part of it.
    for hello in ("HELLO 2 app1 00 11", "HELLO 2 app1 00"):
        peer = master.connect()
        challenge = peer.ask(hello).split()[1]
        assert peer.ask(f"AUTH {proof(SECRET, 'node', 'app1', '00', challenge)}").startswith("WELCOME ")


@pytest.mark.parametrize("order", ["{new} {old}", "{old} {new}", "{new}   {old}"])
def test_a_master_with_two_secrets_takes_either_and_proves_itself_by_the_same(binary, tmp_path, order):
    new, old = "n" * 16, "o" * 32
    with Master(binary, tmp_path / "m", secret=order.format(new=new, old=old)) as master:
        for secret in (new, old):
            assert master.connect().greet("app1", secret) == socket.gethostname()
        for secret in (order.format(new=new, old=old), new + old):
            with pytest.raises((ValueError, AssertionError, ConnectionResetError)):
                master.connect().greet("app2", secret)
        assert "app2: refused, its [cluster] secret is not this master's" in master.log.read_text()


def test_a_node_without_a_secret_is_not_let_in_and_says_so(cli, master):
    cli.write(f"[master]\ntunnel_ports = {master.port}\n")
    assert "secret" in refusal(cli.call("status"), 69)
