#!/usr/bin/env python3
"""Breaks each rule in a scratch copy of the source, and lets the simulation find it.

Usage: tests/mutate.py [NAME...]; prints the first failing seed of each. It is no part of `make test`, as each takes a
build. SEEDS is how many seeds to try (100000), SCRATCH a directory whose builds are used again.
"""
import os
import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent

# Name: file under src/core, what stands there, and what breaks the rule.
MUTATIONS = {
    "grant while held": (
        "lease.rs",
        "            Some(lease) => return refuse(Reason::Holder, lease.expires),\n            None => {}\n        }",
        "            _ => {}\n        }",
    ),
    "no cooldown after ok": ("lease.rs", "self.grow_after = now + self.rules.cooldown;", ""),
    "cooldown not read from disk": ("lease.rs", "grow_after: now + saved.grow_cooldown.min(rules.cooldown),", "grow_after: now,"),
    "lease not read from disk": ("lease/saved.rs", '["lease", id, node, "SCALE"] => saved.held = lease(id, node, Wish::Grow),', ""),
    "no `starting`": ("lease.rs", "if saved.is_some() { now + rules.lease } else { now }", "now"),
    "epoch does not grow": ("lease.rs", "self.epoch += 1 + std::mem::take(&mut self.gap);", ""),
    "FINISH from anyone": ("lease.rs", "self.lease.take_if(|lease| lease.id == id && lease.node == node)?", "self.lease.take()?"),
    "LOAD of anyone renews": ("lease.rs", "            && lease.bearer == Some(peer)\n        {\n            lease.expires", "        {\n            lease.expires"),
    "max_hosts off by one": ("master.rs", "hosts >= rules.max_hosts,", "hosts > rules.max_hosts,"),
    "min_hosts off by one": ("master.rs", "hosts <= rules.min_hosts ||", "hosts < rules.min_hosts ||"),
    "max_hosts of EC2 off by one": ("fleet.rs", "if live >= rules.max_hosts {", "if live > rules.max_hosts {"),
    "no cooldown by EC2's word": ("fleet.rs", "&& newest < rules.cooldown", "&& newest < Duration::ZERO"),
    "token without the fleet": ("fleet.rs", 'fleet.join(" "),', '"",'),
    "token of each call's own": (
        "fleet.rs",
        'fleet.join(" "),',
        "{ static CALLS: std::sync::atomic::AtomicU64 = std::sync::atomic::AtomicU64::new(0);\n"
        "            CALLS.fetch_add(1, std::sync::atomic::Ordering::Relaxed) },",
    ),
    "terminates without asking every HAProxy": ("fleet.rs", "    if survey.listings.iter().any(Option::is_none) {\n        return Vec::new();\n    }\n", ""),
    "terminates young orphans": ("fleet.rs", "orphans(survey).filter(|i| age(i, survey) >= rules.boot_timeout)", "orphans(survey)"),
    "no HOLD": ("node/masters.rs", "Some(master.owed.take().or(hold))", "{ let _ = hold; Some(master.owed.take()) }"),
    "acts after its lease ran out": ("node/masters.rs", "self.lease.as_ref().is_some_and(|lease| lease.expires > now)", "{ let _ = now; self.lease.is_some() }"),
    "acts without every master": ("node/masters.rs", ".all(|master| master.leased(now) || master.link.is_none())", ".any(|master| master.leased(now))"),
    "back-off does not double": ("backoff.rs", "self.next = (self.next * 2).min(self.cap);", ""),
    "back-off is not reset": ("node/ending.rs", "self.backoff.reset();", ""),
    "another's end ends the back-off": ("node/mod.rs", "if matches!(self.phase, Phase::Waiting { firm: false, .. }) {\n                    self.phase", "if matches!(self.phase, Phase::Waiting { .. }) {\n                    self.phase"),
    "leaves before it is drained": ("node/shrink.rs", "if self.say_drained(&machine, told) {", "if !self.say_drained(&machine, told) || true {"),
    "untagged machines leave": ("node/shrink.rs", "self.stays = true;", "self.myself = Some(Machine { instance: Some(\"i-0\".into()), host: \"10.0.0.1\".into(), port: 80 }); return self.work(Wish::Shrink, Step::Survey, now);"),
    "never looks for what was left": ("node/repair.rs", "if !left.is_empty() {", "if false {"),
    "a late entry ends another's work": ("node/mod.rs", "Outcome::EnteredLate(machine, told) => self.entered_late(&machine, &told, now),", "Outcome::EnteredLate(machine, told) => self.entered_late(&machine, &told, now),\n            Outcome::Entered(machine, told) if self.repairs.owed().len() > 0 => self.entered_late(&machine, &told, now),"),
}


def main() -> int:
    scratch = Path(os.environ.get("SCRATCH") or tempfile.mkdtemp(prefix="mutate."))
    missed = 0
    for name in sys.argv[1:] or MUTATIONS:
        file, old, new = MUTATIONS[name]
        shutil.rmtree(scratch / "src", ignore_errors=True)
        for part in ("src", ".cargo"):
            shutil.copytree(ROOT / part, scratch / part, dirs_exist_ok=True)
        for part in ("Cargo.toml", "Cargo.lock"):
            shutil.copy(ROOT / part, scratch)
        path = scratch / "src/core" / file
        text = path.read_text()
        if text.count(old) != 1:
            print(f"{name}: {file} has changed, {text.count(old)} places fit")
            missed += 1
            continue
        path.write_text(text.replace(old, new))
        test = ["cargo", "test", "--offline", "--profile", "simulation", "simulation::whatever", "--", "--nocapture"]
        env = os.environ | {"SEEDS": os.environ.get("SEEDS", "100000"), "RUSTFLAGS": "-Awarnings"}
        done = subprocess.run(test, cwd=scratch, env=env, capture_output=True, text=True)
        found = re.search(r"# (.*)\nSEED=(\d+)", done.stdout)
        missed += found is None
        said = f"seed {found[2]}: {found[1]}" if found else f"NOT FOUND\n{done.stdout[-300:]}{done.stderr[-600:]}"
        print(f"{name}: {said}", flush=True)
    return missed > 0


if __name__ == "__main__":
    sys.exit(main())
