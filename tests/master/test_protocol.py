"""The text protocol against a real master: greeting, lines and what is none. (The lease: test_lease.py.)"""

import re
import secrets
import socket
import threading
import time

import pytest
from cli import environment, refusal, run
from lab import wait_until
from peers import SECRET, Master, Peer, proof


@pytest.fixture(scope="module")
def master(binary, tmp_path_factory):
    """One for all that changes nothing in it."""
    with Master(binary, tmp_path_factory.mktemp("master") / "etc") as one:
        yield one


@pytest.fixture(scope="module")
def open_master(binary, tmp_path_factory):
    """One without a secret."""
    with Master(binary, tmp_path_factory.mktemp("open") / "etc", secret="") as one:
        yield one


def nonce():
    return secrets.token_hex(16)


# The greeting

def test_without_a_secret_the_welcome_follows_at_once(open_master):
    assert open_master.connect().ask("HELLO 2 app1 00") == f"WELCOME {socket.gethostname()}"


def test_with_a_secret_both_ends_prove_themselves(master):
    assert master.connect().greet("app1") == socket.gethostname()


def test_nonces_are_random_and_never_come_twice(master):
    seen = set()
    for _ in range(50):
        peer = master.connect()
        for _ in range(2):
            seen.add(re.fullmatch("CHALLENGE ([0-9a-f]{32})", peer.ask(f"HELLO 2 app1 {nonce()}"))[1])
        peer.close()
    assert len(seen) == 100


def refused_proof(master, peer, answer):
    """The master says ERROR and hangs up on this AUTH."""
    peer.send(f"AUTH {answer}", "STATUS")
    [line] = peer.hung_up()
    assert line.startswith("ERROR ")
    assert SECRET not in master.log.read_text()


def test_a_wrong_proof_ends_the_connection(master):
    mine = nonce()
    right = []
    for make in (lambda challenge: proof("wrong", "node", "app1", mine, challenge),
                 lambda challenge: proof(SECRET, "master", "app1", mine, challenge),
                 lambda challenge: proof(SECRET, "node", "app2", mine, challenge),
                 lambda challenge: proof(SECRET, "node", "app1", challenge, mine),
                 lambda challenge: proof(SECRET, "node", "app1", mine, challenge).upper(),
                 lambda challenge: proof(SECRET, "node", "app1", mine, challenge)[:-2],
                 lambda challenge: "", lambda challenge: "00" * 32, lambda challenge: "zz" * 32):
        peer = master.connect()
        challenge = peer.ask(f"HELLO 2 app1 {mine}").split()[1]
        answer = make(challenge)
        if answer:
            refused_proof(master, peer, answer)
        else:
            assert peer.ask("AUTH").startswith("ERROR ")  # not even a proof: it may try again
            right.append(peer.ask(f"AUTH {proof(SECRET, 'node', 'app1', mine, challenge)}"))
    assert [line.split()[0] for line in right] == ["WELCOME"]


def test_a_proof_of_another_connection_is_worth_nothing(master):
    mine, first = nonce(), master.connect()
    challenge = first.ask(f"HELLO 2 app1 {mine}").split()[1]
    answer = proof(SECRET, "node", "app1", mine, challenge)
    assert first.ask(f"AUTH {answer}").startswith("WELCOME ")
    second = master.connect()
    second.ask(f"HELLO 2 app1 {mine}")
    refused_proof(master, second, answer)
    # Nor one for an earlier challenge of the same connection.
    third = master.connect()
    challenge = third.ask(f"HELLO 2 app1 {mine}").split()[1]
    third.ask(f"HELLO 2 app1 {mine}")
    refused_proof(master, third, proof(SECRET, "node", "app1", mine, challenge))


def test_the_masters_own_proof_does_not_open_it(master):
    # What it proves itself with to one is sent back to it by another, with its own name and nonces.
    mine, name, first = nonce(), socket.gethostname(), master.connect()
    challenge = first.ask(f"HELLO 2 {name} {mine}").split()[1]
    reflected = first.ask(f"AUTH {proof(SECRET, 'node', name, mine, challenge)}").split()[2]
    for own in (mine, challenge):
        second = master.connect()
        second.ask(f"HELLO 2 {name} {own}")
        refused_proof(master, second, reflected)


@pytest.mark.parametrize("trick", ["no challenge", "no proof", "reflection", "another secret"])
def test_a_node_takes_no_master_that_cannot_prove_itself(cli, trick):
    with socket.create_server(("127.0.0.1", 0)) as fake:
        cli.write(f"[master]\ntunnel_ports = {fake.getsockname()[1]}\n[cluster]\nsecret = {SECRET}\n")

        def serve():
            with Peer(fake.accept()[0]) as peer:
                _, _, node, its_nonce = peer.line().split()
                if trick == "no challenge":
                    return peer.send("WELCOME evil", "END")
                theirs = its_nonce if trick == "reflection" else nonce()
                answer = peer.ask(f"CHALLENGE {theirs}").split()[1]
                assert answer == proof(SECRET, "node", node, its_nonce, theirs)
                forged = {"no proof": "", "reflection": answer,
                          "another secret": proof("x", "master", "evil", its_nonce, theirs)}[trick]
                peer.send(f"WELCOME {node if trick == 'reflection' else 'evil'} {forged}".rstrip(), "END")

        server = threading.Thread(target=serve, daemon=True)
        server.start()
        complaint = refusal(cli.call("status"), 69)
        server.join(5)
        assert "prove" in complaint and SECRET not in complaint


def test_nobody_gets_anything_before_the_greeting(master):
    peer = master.connect()
    for line in ("SCALE", "RETIRE", "STATUS", "LOAD 5", "HOLD 1-a", "FINISH 1-a ok 1", "AUTH 00"):
        assert peer.ask(line).startswith("ERROR "), line
    assert peer.ask("HELLO 1 app1 00").startswith("ERROR ")
    assert peer.ask("PING") == "PONG"
    assert peer.greet("app1")


def test_a_version_of_the_past_is_told_what_to_upgrade_and_one_to_come_is_taken(open_master):
    peer = open_master.connect()
    answer = peer.ask("HELLO 1 old 00")
    assert answer.startswith("ERROR ") and "version 2" in answer and "upgrade autoscaler on this node" in answer
    assert peer.ask("HELLO 7 new 00 and words that nobody knows yet").startswith("WELCOME ")
    assert peer.ask("FROB a b c").startswith("ERROR ")
    assert peer.ask("PING of another kind") == "PONG"
    peer.send("LOAD 7 8 9")
    assert ["new", "7", "0"] in peer.status()["NODE"]
    wait_until(lambda: "old: refused, it speaks another version" in open_master.log.read_text(), 5, "the log says so")


def test_what_a_node_hears_after_its_welcome(binary, tmp_path):
    with Master(binary, tmp_path / "m", threshold="60 %", window="9s", procfs="/proc", max_step=3) as master:
        peer = master.node("app1")
        peer.expect_nothing()
        # Those keys of [scaling] that the file sets and that are not the node's own; then how many there are.
        assert peer.told == ["SET threshold 60%", "SET cooldown 1m", "SET max_step 3", "SET", "FLEET 0 0"]


def test_a_second_greeting_is_an_error_and_changes_nothing(master):
    peer = master.node("app1")
    assert peer.ask("HELLO 2 app2 00").startswith("ERROR ")
    assert peer.ask("AUTH 00").startswith("ERROR ")
    assert peer.status() is not None


# Lines

def test_lines_split_over_packets_and_several_in_one(open_master):
    peer = open_master.connect()
    for byte in b"HELLO 2 app1 00\n":
        peer.send(bytes([byte]))
    assert peer.line().startswith("WELCOME ")
    peer.send(b"PING\r\nPING\nPI")
    assert [peer.line(), peer.line()] == ["PONG", "PONG"]
    peer.send(b"NG\r\nFROB\nPING\n")
    assert peer.line() == "PONG"
    assert peer.line().startswith("ERROR ")
    assert peer.line() == "PONG"


def test_by_hand_with_nc(open_master):
    peer = open_master.connect()
    peer.send(b"HELLO 2 me x\nLOAD 55%\nSTATUS\nPING\n")
    peer.socket.shutdown(socket.SHUT_WR)
    lines = peer.hung_up()
    assert lines[0].startswith("WELCOME ") and "NODE me 55 0" in lines and lines[-1] == "PONG"


@pytest.mark.parametrize("line", ["FROB", "", " ", "scale", "SCALE now", "LOAD", "LOAD x", "LOAD -1", "LOAD 101", "LOAD nan",
                                  "LOAD inf", "HOLD", "FINISH", "FINISH 1-a", "FINISH 1-a maybe 1", "FINISH 1-a ok", "FAILED", "FAILED x",
                                  "SCALE -1", "GRANT 1 2 3 4",
                                  "HELLO 2 a", "x" * 511], ids=lambda line: line[:20] or "empty")
def test_what_is_no_message_is_an_error_and_the_connection_stays(master, line):
    peer = master.node("app1")
    answer = peer.ask(line)
    assert re.fullmatch(r"ERROR [ -~]+", answer) and len(answer) < 512
    peer.expect_nothing()


@pytest.mark.parametrize("line", ["PONG", "ERROR what", "LOAD 0", "LOAD 100", "LOAD 87.5"])
def test_what_needs_no_answer_gets_none(master, line):
    peer = master.node("app1")
    peer.send(line)
    peer.expect_nothing()


@pytest.mark.parametrize("data", [b"x" * 512 + b"\n", b"x" * 100_000, b"SCALE " + b" " * 600 + b"\n", b"\x16\x03\x01\x02\n",
                                  b"PI\0NG\n", b"\xff\xfe\n", "LÖAD 5\n".encode(), b"\x1b[2J\n"], ids=lambda d: repr(d[:12]))
def test_what_is_no_line_ends_the_connection_and_no_other(master, data):
    other, peer = master.node("app1"), master.node("app2")
    try:
        peer.send(data)
    except OSError:
        pass  # it may have hung up by now
    assert all(line.startswith("ERROR ") for line in peer.hung_up())
    other.expect_nothing()


def test_the_longest_line_is_512_bytes_with_its_end(master):
    peer = master.node("app1")
    assert peer.ask("ERROR " + "x" * 505 + "\nPING") == "PONG"
    peer.send("ERROR " + "x" * 506)
    peer.hung_up()


def test_node_names_that_do_not_fit_into_a_line_are_refused(open_master):
    for name in ("x" * 129, "x" * 200):
        assert open_master.connect().ask(f"HELLO 2 {name} 00").startswith("ERROR ")
    assert open_master.connect().ask(f"HELLO 2 {'x' * 128} 00").startswith("WELCOME ")


@pytest.mark.native
def test_one_that_never_reads_is_cut_off_and_holds_nobody_up(binary, tmp_path):
    with Master(binary, tmp_path / "m") as master:
        other = master.node("other")
        for number in range(30):  # so that an answer is long, and the greedy one's buffers are soon full
            master.node(f"app{number}").send("LOAD 5")
        greedy, cut_off = master.node("greedy"), threading.Event()

        def pour():
            try:
                while True:
                    greedy.send(b"STATUS\n" * 500)
            except OSError:
                cut_off.set()

        pourer = threading.Thread(target=pour, daemon=True)
        pourer.start()
        end = time.monotonic() + 20
        while not cut_off.wait(0.01):
            assert other.ask("PING", timeout=2) == "PONG"
            assert time.monotonic() < end, "it is still connected"
        assert other.ask("PING", timeout=2) == "PONG"
        assert master.memory() < 8 * 1024


@pytest.mark.native
def test_one_that_pours_out_lines_does_not_pile_them_up(binary, tmp_path):
    with Master(binary, tmp_path / "m") as master:
        other, greedy, over = master.node("other"), master.node("greedy"), threading.Event()

        def pour():
            while not over.is_set():
                greedy.send(b"PONG\n" * 1000)  # nothing to answer

        pourer = threading.Thread(target=pour)
        pourer.start()
        try:
            end = time.monotonic() + 1.5
            while time.monotonic() < end:
                assert other.ask("PING", timeout=2) == "PONG"
            assert master.memory() < 8 * 1024
        finally:
            over.set()
            pourer.join()


def test_two_hundred_at_once(master):
    peers = [master.connect() for _ in range(200)]
    for number, peer in enumerate(peers):
        peer.greet(f"app{number}")
    for peer in peers:
        peer.send("PING")
    assert {peer.line() for peer in peers} == {"PONG"}
    for peer in peers:
        peer.close()


def test_three_heartbeats_of_silence_end_a_connection(master):
    silent, unknown, trickling, beating = master.node("a"), master.connect(), master.node("c"), master.node("d")
    begin, ends, over = time.monotonic(), {}, threading.Event()

    def watch(name, peer):
        peer.hung_up(timeout=20)
        ends[name] = time.monotonic() - begin
        if len(ends) == 3:
            over.set()

    def beat(peer, data, pause):
        try:
            peer.send(data)
            while not over.wait(pause):
                peer.send(data)
        except OSError:
            pass  # ended

    threads = [threading.Thread(target=watch, args=pair) for pair in (("silent", silent), ("unknown", unknown),
                                                                      ("trickling", trickling))]
    threads += [threading.Thread(target=beat, args=(trickling, b"x", 1)), threading.Thread(target=beat, args=(beating, b"LOAD 1\n", 5))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    assert set(ends) == {"silent", "unknown", "trickling"}
    assert all(14 < after < 17 for after in ends.values()), ends
    beating.expect_nothing()


# The command that asks

def test_status_greets_as_a_node_and_is_not_counted_as_one(cli, binary, tmp_path):
    with Master(binary, tmp_path / "m") as master:
        master.node("app1").send("LOAD 42")
        cli.write(f"[master]\ntunnel_ports = {master.port}\n[cluster]\nsecret = {SECRET}\n")
        done = run(cli.argv("status"), env=environment())
        assert done.returncode == 0 and "app1" in done.stdout and "42" in done.stdout
        [node] = master.node("app2").status()["NODE"]
        assert node[:2] == ["app1", "42"]
