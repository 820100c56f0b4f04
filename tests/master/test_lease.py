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
    match = re.fullmatch(r"GRANT (\S+) (\d+) (\d+) (\d+)", line)
    assert match, line
    return match[1], int(match[2]), int(match[3])


def machines(line):
    """How many machines a GRANT allows."""
    grant(line)
    return int(line.split()[4])


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


def enter(master, *names, host="127.0.0.1"):
    """Writes entries into hosts.d; a name `app1/i-1` has an instance."""
    for number, name in enumerate(names):
        name, _, instance = name.partition("/")
        (master.hosts / name).write_text(f"{host} {8000 + number} {instance or '-'}\n")


def asked(peer, line):
    """What the answer to a request is, as `3` or `cooldown`; what is granted is given back."""
    verb, word, *_ = words = answer(peer, line).split()
    if verb == "WAIT":
        return word
    peer.send(f"FINISH {word} failed 0 not now: only asked")
    return words[4]


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
    a.send(f"FINISH {lease} ok 1 i-0123456789abcdef0 is in, and all is well")
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


def test_a_launch_begins_the_cooldown_and_nothing_else_does(start):
    master = start(cooldown="40s")
    a, b = master.node("a"), master.node("b")
    epochs = []
    for end in ("failed 0 no capacity left", "ok 0 it was there already"):
        lease, _, epoch = grant(a.ask("SCALE"))
        a.send(f"FINISH {lease} {end}")
        assert [b.line(), b.line()] == ["SCALE a", "FINISH a"]
        assert b.status()["COOLDOWN"] == []
        epochs.append(epoch)
    lease, _, epoch = grant(b.ask("SCALE"))
    assert epochs[0] < epochs[1] < epoch
    b.send(f"FINISH {lease} ok 2")
    b.expect_nothing()
    for peer in (a, b):
        assert 38 <= wait(answer(peer, "SCALE"), "cooldown", 40)
        [[left]] = peer.status()["COOLDOWN"]
        assert 38 <= int(left) <= 40
    assert asked(a, "SCALE force") == "booting"  # by hand, over the cooldown
    assert asked(a, "SCALE 1 force") == "1"


def test_the_cooldown_ends_and_begins_when_a_machine_comes_to_serve(start):
    master = start(cooldown="1s")
    a = master.node("a")
    a.send(f"FINISH {grant(a.ask('SCALE'))[0]} ok 1")
    wait(answer(a, "SCALE"), "cooldown", 1)
    wait_until(lambda: asked(a, "SCALE") == "booting", 2, "the cooldown is over, and the machine on its way", every=0.05)
    enter(master, "new")
    a.hear("FLEET 1 1")
    line, after = granted_after_waiting(a, "cooldown", 1)
    assert grant(line)[2] == 2 and 0.7 < after < 1.5


def test_only_the_holder_can_finish(start):
    master = start(lease="10s")
    a, b = master.node("a"), master.node("b")
    lease = grant(a.ask("SCALE"))[0]
    assert b.line() == "SCALE a"
    for peer, name in ((b, lease), (b, "1-x"), (a, "1-x"), (a, lease + "x")):
        assert peer.ask(f"FINISH {name} ok 1").startswith("ERROR ")
    for line in (f"FINISH {lease}", f"FINISH {lease} maybe"):
        assert a.ask(line).startswith("ERROR ")
    state = b.status()
    assert state["LEASE"][0][0] == "a" and state["COOLDOWN"] == []
    a.expect_nothing()
    a.send(f"FINISH {lease} ok 1")
    assert b.line() == "FINISH a"
    assert a.ask(f"FINISH {lease} ok 1").startswith("ERROR ")  # twice


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
    assert a.ask(f"FINISH {lease} ok 1").startswith("ERROR ")


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
    back.send(f"FINISH {mine[0]} ok 1")
    assert b.line() == "FINISH a"


def test_a_lease_that_is_over_or_another_nodes_cannot_be_held(start):
    master = start(lease="1s", cooldown="0")
    a, b = master.node("a"), master.node("b")
    first = grant(a.ask("SCALE"))[0]
    assert b.line() == "SCALE a"
    for name in (first, first + "x", "1-x", "0-x", "x"):
        assert b.ask(f"HOLD {name}").startswith("WAIT "), name
    assert b.status()["LEASE"][0][0] == "a"
    a.send(f"FINISH {first} ok 0")
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
    a.send(f"FINISH {first[0]} ok 0")
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
    a.send(f"FINISH {mine[0]} ok 1")
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
    a.send(f"FINISH {grant(a.ask('SCALE'))[0]} ok 1")
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

def test_full_counts_entries_and_what_boots_beside_them(start):
    master = start(max_hosts=3, cooldown="0", lease="10s", max_launches_per_day=4)
    a = master.node("a")
    enter(master, "app1", "app2")
    a.hear("FLEET 2 2")
    a.send("LOAD 100")
    assert asked(a, "SCALE") == "1"  # three are missing, and there is room for one
    a.send(f"FINISH {grant(answer(a, 'SCALE 9'))[0]} ok 1")
    for line in ("SCALE 1", "SCALE 1 force"):
        wait(answer(a, line), "full", 10)
    assert asked(a, "SCALE 0") == "0"
    a.send("FAILED 1 it never answered")
    wait(answer(a, "SCALE 1"), "failing", 1)
    line, _ = granted_after_waiting(a, "failing", 1)
    assert machines(line) == 1
    # The day has room for four; a lease that runs out counts as all that it allowed.
    a.send(f"FINISH {grant(line)[0]} failed 3 of them none came")
    (master.hosts / "app2").unlink()
    a.hear("FLEET 1 1")
    wait_until(lambda: asked(a, "SCALE 1") == "full", 5, "four launches a day", every=0.05)
    assert 86_000 < wait(answer(a, "SCALE 1"), "full", 86_400)


def test_as_many_as_are_missing(start):
    master = start(threshold=50, max_hosts=20, cooldown="0", lease="2s")
    a, b = master.node("a"), master.node("b")
    enter(master, "app1", "app2", "app3")
    a.hear("FLEET 3 3")
    for loads, missing in (((100, 100), "4"), ((60, 60), "1"), ((50, 50), "1"), ((75, 74), "2"), ((95, 0), "1")):
        for peer, load in zip((a, b), loads):
            peer.send(f"LOAD {load}", "PING")
            peer.lines_until("PONG")
        assert asked(a, "SCALE") == missing, loads
        assert asked(a, "SCALE 7") == "7"
    for peer in (a, b):
        peer.send("LOAD 100", "PING")
        peer.lines_until("PONG")
    a.send(f"FINISH {grant(answer(a, 'SCALE'))[0]} ok 4 i-1 i-2 i-3 i-4")
    assert asked(a, "SCALE") == "booting"
    enter(master, "app4")
    a.hear("FLEET 4 4")
    assert asked(a, "SCALE") == "2"  # five of eight are there or on their way
    a.send("FAILED 3 dead")
    granted = granted_after_waiting(a, "failing", 1)[0]
    assert machines(granted) == 5
    # The number is that of the lease, also after a restart.
    assert answer(a, "SCALE") == granted
    a.close()
    back = master.node("a")
    assert back.ask(f"HOLD {grant(granted)[0]}") == granted
    master.restart()
    back = master.node("a")
    assert back.ask(f"HOLD {grant(granted)[0]}") == granted


def test_max_step_and_min_hosts(start):
    master = start(threshold=50, max_hosts=20, max_step=2, min_hosts=5, cooldown="0", lease="10s")
    a = master.node("a")
    enter(master, "app1", "app2")
    a.hear("FLEET 2 2")
    a.send("LOAD 1")
    assert asked(a, "SCALE") == "2"
    a.send(f"FINISH {grant(answer(a, 'SCALE'))[0]} ok 2")
    assert asked(a, "SCALE") == "1"


def test_one_hot_machine_gets_one_more_per_window(start):
    master = start(threshold=50, cooldown="0", scale_down_window="2s", lease="10s")
    a, b = master.node("a"), master.node("b")
    enter(master, "app1", "app2", "app3")
    a.hear("FLEET 3 3")
    a.send("LOAD 90")
    b.send("LOAD 0")
    b.expect_nothing()
    a.send(f"FINISH {grant(answer(a, 'SCALE'))[0]} ok 1")
    enter(master, "app4")
    a.hear("FLEET 4 4")
    wait(answer(a, "SCALE"), "cooldown", 2)
    assert asked(a, "SCALE force") == "1"
    line, after = granted_after_waiting(a, "cooldown", 2)
    assert machines(line) == 1 and after < 2.5


# Back-off

def test_failures_in_a_row_double_the_back_off_also_over_a_restart(start):
    master = start(cooldown="1s", lease="1s")
    a = master.node("a")

    def fail():
        a.send(f"FINISH {grant(granted_after_waiting(a, 'failing', 4)[0])[0]} failed 1 it never answered")
        return wait(answer(a, "SCALE"), "failing", 8)
    assert [fail(), fail(), fail()] == [1, 2, 4]
    wait(answer(a, "SCALE 1 force"), "failing", 4)
    assert asked(a, "SCALE 0") == "0"
    master.restart()
    a = master.node("a")
    line, _ = granted_after_waiting(a, "starting", 1)
    if line.startswith("WAIT"):
        wait(line, "failing", 4)
    assert fail() == 8
    # A machine that comes to serve ends it.
    enter(master, "new")
    a.hear("FLEET 1 1")
    wait(answer(a, "SCALE"), "cooldown", 1)
    line, _ = granted_after_waiting(a, "cooldown", 1)
    grant(line)


def test_a_failed_departure_holds_up_no_scale_up_and_the_reverse(start):
    master = start(cooldown="20s", lease="10s", scale_down_cooldown="0")
    a, b = master.node("a"), master.node("b")
    enter(master, "app1", "app2")
    a.hear("FLEET 2 2")
    for peer in (a, b):
        peer.send("LOAD 1")
        peer.expect_nothing()
    for text, then in (("not now: master lb2: few, 9 s", "0"), ("EC2: UnauthorizedOperation", "failing")):
        a.send(f"FINISH {grant(answer(a, 'RETIRE force'))[0]} failed 0 {text}")
        assert asked(a, "RETIRE force") == then
    assert asked(b, "RETIRE") == "failing"
    assert asked(b, "SCALE force") == "1"
    b.send("FAILED 1 dead")
    assert asked(b, "SCALE force") == "failing"


# Leaving

def test_who_may_leave(start):
    master = start(threshold=50, min_hosts=1, cooldown="0", scale_down_cooldown="0", scale_down_window="2s", lease="10s")
    a, b = master.node("a"), master.node("b")
    a.send("LOAD 10")
    wait(a.ask("RETIRE"), "few", 10)
    enter(master, "app1", "app2")
    a.hear("FLEET 2 2")
    assert asked(a, "RETIRE") == "few"  # nobody else reports
    b.send("LOAD 0")
    b.expect_nothing()
    assert asked(a, "RETIRE") == "0"  # no machines to launch
    b.send("LOAD 31", "LOAD 3")
    b.lines_until("FINISH a")
    assert asked(a, "RETIRE") == "loaded"  # 31 and 10 are over 40

    def later():
        b.send("LOAD 3")
        return asked(a, "RETIRE") == "0"
    wait_until(later, 5, "its highest load is over", every=0.2)
    (master.hosts / "app2").unlink()
    a.hear("FLEET 1 1")
    assert asked(a, "RETIRE") == asked(a, "RETIRE force") == "few"


def test_a_departure_begins_scale_down_cooldown_only(start):
    master = start(cooldown="0", scale_down_cooldown="20s", lease="10s")
    a, b = master.node("a"), master.node("b")
    enter(master, "app1", "app2", "app3")
    a.hear("FLEET 3 3")
    for peer in (a, b):
        peer.send("LOAD 1")
        peer.expect_nothing()
    a.send(f"FINISH {grant(answer(a, 'RETIRE'))[0]} ok 0")
    assert b.lines_until("FINISH a") == ["SCALE a"]
    assert 18 <= wait(answer(b, "RETIRE"), "cooldown", 20)
    assert asked(b, "SCALE") == "1" and b.status()["COOLDOWN"] == []
    assert asked(b, "RETIRE force") == "0"


# LOOK

def test_one_node_is_told_to_look_when_an_entry_comes_or_goes(start):
    master = start(lease="10s")
    a, b = master.node("a"), master.node("b")
    for peer in (a, b):
        peer.send("LOAD 1")
        peer.expect_nothing()
    asks = master.node("status")
    asks.status()
    for number, looks in enumerate((a, b, a), 1):
        enter(master, *[f"app{n}" for n in range(number)])
        looks.hear("LOOK")
    (master.hosts / "app0").unlink()
    b.hear("LOOK")
    for peer in (a, b, asks):
        peer.expect_nothing()
        assert "LOOK" not in peer.told


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
    a.send(f"FINISH {lease} ok 1")
    assert b.line() == "FINISH a"
    state = b.status()
    assert state["LEASE"] == [] and 39 <= int(state["COOLDOWN"][0][0]) <= 40
    # A node that has gone is shown with its age.
    a.close()
    wait_until(lambda: any(name == "a" and int(ago) >= 1 for name, _, ago in b.status()["NODE"]), 5, "a gets older")
