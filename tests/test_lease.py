"""Who may scale: the lease, the cooldown and what survives a restart of the master, over raw sockets."""

import re
import time

import pytest
from lab import wait_until
from peers import Master


@pytest.fixture
def start(binary, tmp_path):
    """`start(lease="1s", cooldown="1m", …)`: a master of the test's own."""
    running = []

    def make(**settings):
        master = Master(binary, tmp_path / f"master{len(running)}", **settings)
        running.append(master)
        return master.__enter__()

    yield make
    for master in running:
        master.__exit__()


def grant(line):
    """(lease, seconds, epoch) of a GRANT."""
    match = re.fullmatch(r"GRANT (\S+) (\d+) (\d+)", line)
    assert match, line
    return match[1], int(match[2]), int(match[3])


def wait(line, reason, most):
    """The seconds of a WAIT for `reason`, which are at most `most`."""
    match = re.fullmatch(rf"WAIT {reason} (\d+)", line)
    assert match and 1 <= int(match[1]) <= most, line
    return int(match[1])


def answer(peer, line):
    """The answer to `line`; what is told to everybody meanwhile is passed over."""
    told = peer.ask(line)
    while told.startswith(("SCALE ", "FINISH ")):
        told = peer.line()
    return told


def granted_after_waiting(peer, reason, most):
    """Asks until the answer is no longer WAIT `reason`, within `most` seconds; returns it and the time it took."""
    begin = time.monotonic()

    def other():
        line = answer(peer, "SCALE")
        if line.startswith(f"WAIT {reason} "):
            wait(line, reason, most)
            return None
        return line
    return wait_until(other, most + 1, f"no WAIT {reason} any more", every=0.05), time.monotonic() - begin


# One holder

def test_one_gets_it_and_the_others_are_told_to_hold_still(start):
    master = start(lease="2500ms")
    a, b, c, unknown = master.node("a"), master.node("b"), master.node("c"), master.connect()
    lease, seconds, epoch = grant(a.ask("SCALE"))
    assert (seconds, epoch) == (3, 1)  # whole seconds, rounded up
    assert b.line() == c.line() == "SCALE a"
    wait(b.ask("SCALE"), "holder", 3)
    wait(c.ask("RETIRE"), "holder", 3)
    assert grant(a.ask("SCALE")) == (lease, seconds, epoch)  # asked twice
    assert b.status()["LEASE"][0][0] == "a"
    a.send(f"FINISH {lease} ok i-0123456789abcdef0 is in, and all is well")
    assert b.line() == c.line() == "FINISH a"
    for peer in (a, b, c, unknown):
        peer.expect_nothing()
    assert b.status()["LEASE"] == []


def test_three_in_the_same_moment_are_one_holder(start):
    master = start()
    peers = [master.node(name) for name in "abc"]
    for peer in peers:
        peer.send("SCALE")
    # Whoever is first is granted; to the others, the word of that comes before their own answer.
    answers = [next(line for line in iter(peer.line, None) if not line.startswith("SCALE ")) for peer in peers]
    assert sum(line.startswith("GRANT ") for line in answers) == 1
    assert sum(line.startswith("WAIT holder ") for line in answers) == 2


def test_ok_begins_the_cooldown_and_failed_does_not(start):
    master = start(cooldown="40s")
    a, b = master.node("a"), master.node("b")
    lease, _, first = grant(a.ask("SCALE"))
    a.send(f"FINISH {lease} failed no capacity left")
    assert [b.line(), b.line()] == ["SCALE a", "FINISH a"]
    assert b.status()["COOLDOWN"] == []
    lease, _, second = grant(b.ask("SCALE"))
    assert second > first
    b.send(f"FINISH {lease} ok")
    b.expect_nothing()
    for peer in (a, b):
        assert 38 <= wait(answer(peer, "SCALE"), "cooldown", 40)
        [[left]] = peer.status()["COOLDOWN"]
        assert 38 <= int(left) <= 40


def test_the_cooldown_ends(start):
    master = start(cooldown="1s")
    a = master.node("a")
    a.send(f"FINISH {grant(a.ask('SCALE'))[0]} ok")
    line, after = granted_after_waiting(a, "cooldown", 1)
    assert grant(line)[2] == 2 and 0.8 < after < 1.5


def test_only_the_holder_can_finish(start):
    master = start(lease="10s")
    a, b = master.node("a"), master.node("b")
    lease = grant(a.ask("SCALE"))[0]
    assert b.line() == "SCALE a"
    for peer, name in ((b, lease), (b, "1-x"), (a, "1-x"), (a, lease + "x")):
        assert peer.ask(f"FINISH {name} ok").startswith("ERROR ")
    for line in (f"FINISH {lease}", f"FINISH {lease} maybe"):
        assert a.ask(line).startswith("ERROR ")
    state = b.status()
    assert state["LEASE"][0][0] == "a" and state["COOLDOWN"] == []
    a.expect_nothing()
    a.send(f"FINISH {lease} ok")
    assert b.line() == "FINISH a"
    assert a.ask(f"FINISH {lease} ok").startswith("ERROR ")  # twice


# Its end

def test_it_ends_by_its_time(start):
    master = start(lease="1s")
    a, b = master.node("a"), master.node("b")
    begin = time.monotonic()
    lease, _, epoch = grant(a.ask("SCALE"))
    assert b.line() == "SCALE a"
    assert b.line() == "FINISH a"
    assert 0.9 < time.monotonic() - begin < 1.8
    # That is no success: no cooldown.
    assert grant(b.ask("SCALE"))[2] > epoch
    assert a.lines_until("SCALE b") in ([], ["FINISH a"])
    assert a.ask(f"FINISH {lease} ok").startswith("ERROR ")


def test_load_of_the_holder_renews_it_and_of_nobody_else(start):
    master = start(lease="1s")
    a, b = master.node("a"), master.node("b")
    a.ask("SCALE")
    assert b.line() == "SCALE a"
    end = time.monotonic() + 2.2
    while time.monotonic() < end:
        a.send("LOAD 90")
        wait(b.ask("SCALE"), "holder", 1)
        time.sleep(0.2)
    begin = time.monotonic()
    a.send("LOAD 90")
    a.expect_nothing()
    while True:  # the other's goes on
        b.send("LOAD 5", "PING")
        if b.line() == "FINISH a":
            break
        assert time.monotonic() - begin < 2, "renewed by another node"
        time.sleep(0.1)
    assert time.monotonic() - begin > 0.8


def test_load_of_a_daemon_that_was_started_anew_does_not_renew_it(start):
    master = start(lease="1s")
    a, b = master.node("a"), master.node("b")
    begin = time.monotonic()
    a.ask("SCALE")
    assert b.line() == "SCALE a"
    a.close()
    again = master.node("a")
    wait(again.ask("SCALE"), "holder", 1)
    while True:
        again.send("LOAD 90")
        b.send("PING")
        if b.line() == "FINISH a":
            break
        assert time.monotonic() - begin < 2, "renewed by a daemon that does not hold it"
        time.sleep(0.1)


# Coming back

def test_a_lost_connection_alone_does_not_end_it(start):
    master = start(lease="2s")
    a, b = master.node("a"), master.node("b")
    mine = grant(a.ask("SCALE"))
    assert b.line() == "SCALE a"
    a.close()
    wait(b.ask("SCALE"), "holder", 2)
    back = master.node("a")
    assert grant(back.ask(f"HOLD {mine[0]}")) == mine
    end = time.monotonic() + 2.5
    while time.monotonic() < end:  # it bears the lease now
        back.send("LOAD 90")
        wait(b.ask("SCALE"), "holder", 2)
        time.sleep(0.3)
    back.send(f"FINISH {mine[0]} ok")
    assert b.line() == "FINISH a"


def test_a_lease_that_is_over_or_another_nodes_cannot_be_held(start):
    master = start(lease="1s", cooldown="0")
    a, b = master.node("a"), master.node("b")
    first = grant(a.ask("SCALE"))[0]
    assert b.line() == "SCALE a"
    for name in (first, first + "x", "1-x", "0-x", "x"):
        assert b.ask(f"HOLD {name}").startswith("WAIT "), name
    assert b.status()["LEASE"][0][0] == "a"
    a.send(f"FINISH {first} ok")
    assert b.line() == "FINISH a"
    for name in (first, "1-x", "x", "-"):
        assert a.ask(f"HOLD {name}").startswith("WAIT "), name
    second = grant(b.ask("SCALE"))[0]
    assert a.line() == "SCALE b"
    wait(a.ask(f"HOLD {first}"), "holder", 1)
    assert a.line(2) == "FINISH b"  # by its time
    assert answer(b, f"HOLD {second}").startswith("WAIT ")


@pytest.mark.parametrize("epoch", [2 ** 64 - 1, 2 ** 63, 10 ** 30])
def test_no_lease_that_a_node_makes_up_turns_the_epoch_back(start, epoch):
    master = start(cooldown="0", lease="1s")
    a = master.node("a")
    first = grant(a.ask("SCALE"))
    a.send(f"FINISH {first[0]} ok")
    made_up = a.ask(f"HOLD {epoch}-x")
    if made_up.startswith("GRANT "):
        a.send(f"FINISH {epoch}-x ok")
    assert grant(a.ask("SCALE"))[2] > first[2]


def test_after_sigkill_the_holder_can_hold_and_nobody_else_gets_it(start):
    master = start(lease="2s")
    mine = grant(master.node("a").ask("SCALE"))
    master.restart()
    a, b = master.node("a"), master.node("b")
    wait(b.ask("SCALE"), "starting", 2)
    wait(b.ask("RETIRE"), "starting", 2)
    assert b.ask(f"HOLD {mine[0]}").startswith("WAIT ")
    assert grant(a.ask(f"HOLD {mine[0]}")) == mine
    end = time.monotonic() + 2.5
    while time.monotonic() < end:
        a.send("LOAD 90")
        assert b.ask("SCALE").startswith("WAIT ")
        time.sleep(0.3)
    wait(b.ask("SCALE"), "holder", 2)
    a.send(f"FINISH {mine[0]} ok")
    assert b.line() == "FINISH a"


def test_after_a_restart_the_first_grant_comes_after_one_lease_with_a_later_epoch(start):
    master = start(lease="1s")
    first = grant(master.node("a").ask("SCALE"))
    master.restart()
    line, after = granted_after_waiting(master.node("b"), "starting", 1)
    assert grant(line)[2] > first[2] and grant(line)[0] != first[0] and 0.5 < after < 1.6
    # The former holder comes too late.
    wait(master.node("a").ask(f"HOLD {first[0]}"), "holder", 1)


def test_a_master_that_never_ran_before_need_not_wait(start):
    assert grant(start().node("a").ask("SCALE"))[2] == 1


def test_the_cooldown_survives_a_restart(start):
    master = start(lease="1s", cooldown="30s")
    a = master.node("a")
    a.send(f"FINISH {grant(a.ask('SCALE'))[0]} ok")
    a.expect_nothing()
    for _ in range(2):
        master.restart()
        peer = master.node("b")
        assert 25 <= int(peer.status()["COOLDOWN"][0][0]) <= 30
    line, _ = granted_after_waiting(peer, "starting", 1)
    assert 25 <= wait(line, "cooldown", 30)


@pytest.mark.parametrize("state", ["", "\0\xff", "epoch x\ncooldown -1\nlease\n", "epoch 99999999999999999999999\n"], ids=repr)
def test_a_state_file_that_cannot_be_made_out_blocks_for_one_lease_at_most(start, state):
    master = start(lease="1s")
    master.kill()
    (master.dir / "state/master").write_text(state)
    master.start()
    line, _ = granted_after_waiting(master.node("a"), "starting", 1)
    grant(line)


# How many hosts there are

def test_full_counts_hosts_d_and_retire_goes_the_other_way(start):
    master = start(max_hosts=2, min_hosts=1, cooldown="0", lease="10s")
    a, b = master.node("a"), master.node("b")

    def settle(wish, verb):
        """Asks until the answer begins with `verb`; gives a lease back."""
        def asked():
            line = a.ask(wish)
            if line.startswith("GRANT "):
                a.send(f"FINISH {grant(line)[0]} failed")
            return line if line.startswith(verb) else None
        return wait_until(asked, 5, f"{wish} is answered with {verb}", every=0.1)

    wait(a.ask("RETIRE"), "full", 10)
    (master.hosts / "app1").write_text("127.0.0.1 80 -\n")
    (master.hosts / "app2").write_text("127.0.0.2 80 -\n")
    wait(settle("SCALE", "WAIT full"), "full", 10)
    grant(settle("RETIRE", "GRANT"))
    (master.hosts / "app2").unlink()
    grant(settle("SCALE", "GRANT"))
    wait(settle("RETIRE", "WAIT full"), "full", 10)
    b.send("PING")
    assert set(b.lines_until("PONG")) == {"SCALE a", "FINISH a"}


# What STATUS says

def test_status(start):
    master = start(lease="10s", cooldown="40s")
    a, b = master.node("a"), master.node("b")
    assert a.status() == {"NODE": [], "LEASE": [], "COOLDOWN": []}  # no LOAD yet
    a.send("LOAD 87.4")
    b.send("LOAD 3", "PING")
    assert b.line() == "PONG"
    lease = grant(a.ask("SCALE"))[0]
    assert b.line() == "SCALE a"
    state = b.status()
    assert [node[:2] for node in sorted(state["NODE"])] == [["a", "87"], ["b", "3"]]
    assert all(int(ago) <= 1 for _, _, ago in state["NODE"])
    [[holder, left]] = state["LEASE"]
    assert holder == "a" and 9 <= int(left) <= 10 and state["COOLDOWN"] == []
    a.send(f"FINISH {lease} ok")
    assert b.line() == "FINISH a"
    state = b.status()
    assert state["LEASE"] == [] and 39 <= int(state["COOLDOWN"][0][0]) <= 40
    # A node that has gone is shown with its age.
    a.close()
    wait_until(lambda: any(name == "a" and int(ago) >= 1 for name, _, ago in b.status()["NODE"]), 5, "a gets older")
