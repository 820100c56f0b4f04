#!/usr/bin/env python3
"""Breaks each rule in a scratch copy of the source, and lets the simulation find it, or the tests of the parts.

Usage: tests/mutate.py [NAME...]; prints the first failing seed of each. One build has all of them, each asleep until
BROKEN names it. It is no part of `make test`, as it takes minutes. SEEDS is how many seeds to try (20000), SCRATCH a
directory whose builds are used again.
"""
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent

# File under src/core, what stands there, and what stands there instead: @name@ is true while that is broken.
MUTATIONS = [
    # The lease.
    ("master/lease/ask.rs", "            Some(lease) => return refuse(Reason::Holder,", "            Some(lease) if !@grant while held@ => return refuse(Reason::Holder,"),
    ("master/lease/ask.rs", "            None => {}\n        }\n        if ask.machines == Some(0) {", "            _ => {}\n        }\n        if ask.machines == Some(0) {"),
    ("master/lease.rs", "self.grow_after = self.grow_after.max(now + self.rules.cooldown);", "if !@no cooldown after a launch@ { self.grow_after = self.grow_after.max(now + self.rules.cooldown); }"),
    ("master/lease.rs", "grow_after: now + saved.grow_cooldown,", "grow_after: if @cooldown not read from disk@ { now } else { now + saved.grow_cooldown },"),
    ("master/lease/saved.rs", '["lease", id, node, verb, ref more @ ..] => {', '["lease", id, node, verb, ref more @ ..] if !@lease not read from disk@ => {'),
    ("master/lease.rs", "starting_until: if restarted { now + rules.lease }", "starting_until: if restarted && !@no `starting`@ { now + rules.lease }"),
    ("master/lease.rs", "self.epoch += 1 + std::mem::take(&mut self.gap);", "if !@epoch does not grow@ { self.epoch += 1 + std::mem::take(&mut self.gap); }"),
    ("master/lease.rs", "take_if(|lease| lease.id == id && lease.node == node)", "take_if(|lease| @FINISH from anyone@ || (lease.id == id && lease.node == node))"),
    ("master/lease.rs", "            && lease.bearer == Some(peer)\n        {", "            && (lease.bearer == Some(peer) || @LOAD of anyone renews@)\n        {"),
    ("master/lease.rs", "        if newest.is_none_or(|epoch| epoch > self.failed_epoch) {", "        if !@no back-off after FAILED@ && newest.is_none_or(|epoch| epoch > self.failed_epoch) {"),
    ("master/lease/backoff.rs", "self.in_a_row = self.in_a_row.saturating_add(1);", "self.in_a_row = if @a master's back-off does not double@ { 1 } else { self.in_a_row.saturating_add(1) };"),
    ("master/lease.rs", ".map(|failing| Backoff::restore(failing, rules.cooldown, now)),", ".map(|failing| if @back-off not read from disk@ { Backoff::default() } else { Backoff::restore(failing, rules.cooldown, now) }),"),
    # How many.
    ("master/need.rs", "self.max_hosts.saturating_sub(self.hosts)", "(self.max_hosts + usize::from(@max_hosts off by one@)).saturating_sub(self.hosts)"),
    ("master/need.rs", "let step = if self.max_step == 0 {", "let step = if self.max_step == 0 || @no max_step@ {"),
    ("master/asking.rs", "hosts: self.fleet.entries.len() + self.arbiter.booting(now),", "hosts: self.fleet.entries.len() + if @what boots is forgotten@ { 0 } else { self.arbiter.booting(now) },"),
    ("master/asking.rs", "left_today: self.arbiter.left_today(now),", "left_today: self.arbiter.left_today(now).filter(|_| !@no daily cap@),"),
    ("master/departure.rs", "if fleet.up <= rules.min_hosts || too_few || others.count == 0 {", "if (fleet.up <= rules.min_hosts && !@fewer than min_hosts stay@) || too_few || others.count == 0 {"),
    ("master/departure.rs", "others.count = others.count.min(fleet.others_up(node));", "if !@RETIRE with nobody else UP@ { others.count = others.count.min(fleet.others_up(node)); }"),
    ("master/departure.rs", "match others.have_room(load, rules.threshold) {", "match others.have_room(load, rules.threshold) || @the others have no room@ {"),
    ("master/fleet.rs", "young(e.since.unwrap_or(0))", "(@restarting for ever@ || young(e.since.unwrap_or(0)))"),
    ("master/look.rs", "out.push(Output::Send(peer, FromMaster::Look));", "if !@nobody is told to look@ { out.push(Output::Send(peer, FromMaster::Look)); }"),
    ("node/grow.rs", "match granted.min(room).min(most) {", "match (if @more than was granted@ { room } else { granted }).min(room).min(most) {"),
    ("node/grow.rs", "*count = (*count).min(self.masters.machines(now).0);", "if !@more than was granted@ { *count = (*count).min(self.masters.machines(now).0); }"),
    # The plan.
    ("plan/mod.rs", "let hosts = rules.max_hosts.saturating_sub(counted);", "let hosts = (rules.max_hosts + usize::from(@max_hosts of EC2 off by one@)).saturating_sub(counted);"),
    ("plan/mod.rs", "        && newest < rules.cooldown\n", "        && newest < rules.cooldown && !@no cooldown by EC2's word@\n"),
    ("plan/mod.rs", "    let most = rules.max_launches_per_day;\n    if most == 0 {", "    let most = rules.max_launches_per_day;\n    if most == 0 || @no daily cap by EC2's word@ {"),
    ("plan/mod.rs", "if age < rules.boot_timeout || survey.healthy.contains(id) {", "if (age < rules.boot_timeout && !@ends what boots@) || (survey.healthy.contains(id) && !@ends what is healthy@) {"),
    ("plan/mod.rs", "if !survey.all_have_opinions() {", "if !survey.all_have_opinions() && !@ends without asking every HAProxy@ {"),
    ("plan/mod.rs", "} else if survey.sees {", "} else if survey.sees || @ends what it does not reach@ {"),
    ("plan/mod.rs", "if up == 0 || (down >= 2 && 2 * down >= entries) {", "if !@the fault is never elsewhere@ && (up == 0 || (down >= 2 && 2 * down >= entries)) {"),
    ("plan/mod.rs", "            && !myself.is_some_and(|me| is_machine(me, &m.machine))\n            && !id", "            && (@its plan ends itself@ || !myself.is_some_and(|me| is_machine(me, &m.machine)))\n            && !id"),
    ("plan/mod.rs", "if rules.replace_after.is_zero() {", "if rules.replace_after.is_zero() || @nothing that is DOWN goes@ {"),
    ("plan/mod.rs", ".filter(|at| serves && member.lines[**at].is_none());", ".filter(|at| serves && !@nothing is entered by a plan@ && member.lines[**at].is_none());"),
    ("plan/mod.rs", "let goes = member.is_gone || (", "let goes = (member.is_gone && !@entries of what is gone stay@) || ("),
    ("plan/mod.rs", "lacking: rules.min_hosts.saturating_sub(there),", "lacking: if @no min_hosts@ { 0 } else { rules.min_hosts.saturating_sub(there) },"),
    ("plan/mod.rs", "m.counts() && (silent || *state == State::Up);", "m.counts() && (silent || @who is DOWN stays for it@ || *state == State::Up);"),
    ("plan/survey.rs", "!self.is_gone && !self.is_kept()", "!self.is_gone && (!self.is_kept() || @what a person keeps counts@)"),
    ("plan/survey.rs", "i.life == Life::Live && i.in_service)", "(i.life == Life::Live || @stopped ones are entered and ended@) && i.in_service)"),
    ("plan/survey.rs", "        (Some(one), Some(other)) => one == other,\n        _ => machine.host == line.address && ", "        (Some(one), Some(other)) if !@an address proves it@ => one == other,\n        _ => machine.host == line.address && "),
    ("plan/token.rs", 'fleet.join(" "),', 'if @token without the fleet@ { String::new() } else if @token of each call\'s own@ { static CALLS: std::sync::atomic::AtomicU64 = std::sync::atomic::AtomicU64::new(0); CALLS.fetch_add(1, std::sync::atomic::Ordering::Relaxed).to_string() } else { fleet.join(" ") },'),
    # The node.
    ("node/masters.rs", "first.extend(master.lease.as_ref().map(|lease| FromNode::Hold {", "first.extend(master.lease.as_ref().filter(|_| !@no HOLD@).map(|lease| FromNode::Hold {"),
    ("node/masters.rs", "self.lease.as_ref().is_some_and(|lease| lease.expires > now)", "self.lease.as_ref().is_some_and(|lease| lease.expires > now || @acts after its lease ran out@)"),
    ("node/masters.rs", ".all(|master| master.leased(now) || master.link.is_none())", ".all(|master| master.leased(now) || master.link.is_none() || @acts without every master@)"),
    ("backoff.rs", "self.in_a_row = self.in_a_row.saturating_add(1);", "self.in_a_row = if @a node's back-off does not double@ { 1 } else { self.in_a_row.saturating_add(1) };"),
    ("node/finish.rs", "pause.backoff.reset();", "if !@a node's back-off is not reset@ { pause.backoff.reset(); }"),
    ("node/asking.rs", "pause.until.take_if(|_| !pause.firm && for_it);", "pause.until.take_if(|_| @another's end ends the back-off@ || (!pause.firm && for_it));"),
    ("node/leave.rs", "let Some(error) = told.iter().find_map(|(_, result)| result.as_ref().err()).cloned() else {", "let Some(error) = told.iter().find_map(|(_, result)| result.as_ref().err()).cloned().filter(|_| !@leaves before it is drained@) else {"),
    ("node/grow.rs", "(Some(mut launch), _) if takes =>", "(Some(mut launch), _) if takes || @launches what nobody takes@ =>"),
    ("node/newcomers.rs", "if self.settings.plan.ec2 && error.kind() != Kind::Busy => {", "if self.settings.plan.ec2 && error.kind() != Kind::Busy && !@a newcomer ends unasked@ => {"),
    ("node/newcomers.rs", "self.masters.tell_all(&failed, &mut self.out);", "if !@FAILED is not said@ { self.masters.tell_all(&failed, &mut self.out); }"),
    ("node/newcomers.rs", " && ending(n);", " && (ending(n) || @the plan's end goes to a newcomer@);"),
    ("node/look.rs", "            self.mending.remove(&key);\n        }\n    }\n\n    /// This one is terminated", "            if !@what is entered is never entered again@ { self.mending.remove(&key); }\n        }\n    }\n\n    /// This one is terminated"),
    ("node/look.rs", "self.looks.again = Some(now + AFTER_AN_END);\n            if", "if !@who may not look spins@ { self.looks.again = Some(now + AFTER_AN_END); }\n            if"),
    ("node/interruption.rs", "            Warning::Rebalance => None,\n        };", "            Warning::Rebalance => @a hint is taken for a fact@.then_some(now),\n        };"),
]

SWITCH = """
pub fn is_broken(name: &str) -> bool {
    static BROKEN: std::sync::OnceLock<String> = std::sync::OnceLock::new();
    BROKEN.get_or_init(|| std::env::var("BROKEN").unwrap_or_default()) == name
}
"""


def break_all(scratch: Path) -> tuple[list[str], int]:
    """The names, in the order of the table, and how many places have changed."""
    names, missed = [], 0
    for file, old, new in MUTATIONS:
        path = scratch / "src/core" / file
        text = path.read_text()
        if text.count(old) != 1:
            print(f"{file} has changed, {text.count(old)} places fit: {old.strip()[:70]}")
            missed += 1
            continue
        names += [name for name in re.findall(r"@([^@\n]+)@", new.replace(" @ ..", "")) if name not in names]
        asleep = lambda found: f'crate::error::is_broken("{found[1]}")'
        path.write_text(text.replace(old, re.sub(r"@([^@ \n][^@\n]*)@", asleep, new)))
    with (scratch / "src/error.rs").open("a") as file:
        file.write(SWITCH)
    return names, missed


def build(scratch: Path) -> str:
    """The path of the tests."""
    # Its own C library has the faster allocator.
    host = re.search(r"host: (\S+)", subprocess.check_output(["rustc", "-vV"], text=True))[1]
    command = ["cargo", "test", "--offline", "--profile", "simulation", "--target", host, "--no-run", "--message-format", "json"]
    env = os.environ | {"RUSTFLAGS": "-Awarnings"}
    done = subprocess.run(command, cwd=scratch, env=env, stdout=subprocess.PIPE, text=True)
    lines = [json.loads(line) for line in done.stdout.splitlines() if line.startswith("{")]
    paths = [line["executable"] for line in lines if line.get("executable")]
    if done.returncode or not paths:
        sys.exit("\n".join(line["message"]["rendered"] for line in lines if "message" in line)[:4000] or "no build")
    return paths[0]


def main() -> int:
    scratch = Path(os.environ.get("SCRATCH") or tempfile.mkdtemp(prefix="mutate."))
    shutil.rmtree(scratch / "src", ignore_errors=True)
    for part in ("src", ".cargo"):
        if (ROOT / part).exists():
            shutil.copytree(ROOT / part, scratch / part, dirs_exist_ok=True)
    for part in ("Cargo.toml", "Cargo.lock"):
        shutil.copy(ROOT / part, scratch)
    names, missed = break_all(scratch)
    tests = build(scratch)
    for name in [""] + (sys.argv[1:] or names):
        env = os.environ | {"SEEDS": os.environ.get("SEEDS", "20000"), "BROKEN": name}
        command = [tests, "simulation::", "--nocapture", "--test-threads=1"]
        done = subprocess.run(command, env=env, capture_output=True, text=True)
        found = re.search(r"# (.*)\nSEED=(\d+)", done.stdout)
        if not name:
            if done.returncode:
                sys.exit("it fails with nothing broken\n" + done.stdout[-600:])
            continue
        said = f"seed {found[2]}: {found[1]}" if found else "NOT FOUND"
        if not found:
            # What two rules forbid, the whole site does not show.
            done = subprocess.run([tests, "core::", "--skip", "whatever"], env=env, capture_output=True, text=True)
            failed = re.findall(r"test core::(\S+) \.\.\. FAILED", done.stdout)
            said = f"found by {', '.join(failed[:3])}" if failed else said
        missed += said == "NOT FOUND"
        print(f"{name}: {said}", flush=True)
    return missed > 0


if __name__ == "__main__":
    sys.exit(main())
