"""`make policies`: the real policy, by `simulate`, beside models of others on the same loads; writes docs/policies.md.

Arguments: the binary, and, instead of all, traces. Then nothing is written, and the table goes to stdout.
"""

import json
import subprocess
import sys
import tempfile
from pathlib import Path

import load_shapes
from other_policies import OTHERS, Limit, Played, play
from policies_chart import as_svg

ROOT = Path(__file__).resolve().parents[2]
PAGE = ROOT / "docs/policies.md"
START, MOST, BOOT = 2, 40, 60
SETTINGS = ("--boot-time", f"{BOOT}s", "--max-hosts", MOST, "--scale-down-threshold", 40)
OURS = "autoscaler"

# Name and what it is, of those that are not made: load_shapes knows the others.
RECORDED = {
    "step-x9": "0.4 machines' work, and from the tenth minute on nine",
    "ramp": "from one machine's work to ten in twenty minutes, and no way back",
    "busy-day": "a day of up to eight machines' work, a fifth more or less each minute",
    "elb": "four days of requests at a load balancer, in means of five minutes",
    "tweets": "five days of messages about one company, in means of five minutes: one machine's work, and at times sixteen",
}
SHIPPED = ("day", "flash-crowd", "slow-leak")

HEAD = """\
# How it compares

What the policy of `autoscaler` does with a load, beside what people run instead, by the rules of their documentation:
EC2 Auto Scaling with target tracking (one-minute metrics) and with step scaling, Kubernetes' HorizontalPodAutoscaler,
and nomad-autoscaler's target-value. `make policies` writes this page: `autoscaler simulate` replays each load through
the code that runs in `daemon` and `master`; the others are models in `tests/commands/other_policies.py`, which names its sources.

All aim at 50% CPU, have {boot} s from launch to service, start with {start} machines (the shipped traces with as many as
they are of), and may have up to {most}. `autoscaler` runs with its defaults and `scale_down_threshold = 40`. *Over 50%* is
how long the machines had more to do than that, *at 100%* how long they had as much as they could or more, *unmet* the
share of the work that no machine had time for. *Nothing but the boot* is a limit and no policy: it knows the true load
at once.

In the pictures, grey is what it takes to stay at 50%, blue are the machines that serve, and red is time over 50%.

"""


def simulate(binary, trace, *options):
    """The JSON of `simulate` on `trace`."""
    argv = [str(binary), "simulate", str(trace), "--json", *map(str, (*SETTINGS, *options))]
    done = subprocess.run(argv, capture_output=True, text=True)
    if done.returncode:
        sys.exit(done.stderr.strip())
    return json.loads(done.stdout)


def ours(run):
    """A run of `simulate` as Played."""
    played = Played(OURS)
    played.over, played.full, played.unmet = run["over_minutes"], run["full_minutes"], run["unmet_percent"]
    played.hours, played.most, played.serving = run["machine_hours"], run["most_machines"], run["serving"]
    return played


def compare(binary, trace, *options, start=START):
    """(what `simulate` says, [Played of ours, of the others, and of the limit])."""
    told = simulate(binary, trace, "--start", start, *options)
    demand = [(round(second), machines) for second, machines in told["load"]]
    models = [policy() for policy in (*OTHERS, Limit)]
    length = round(told["seconds"])
    return told, [ours(told["runs"][0]), *(play(model, demand, length, start, BOOT, MOST) for model in models)]


def better(one, other):
    """Is `one` better in both, the time over the threshold and the machine-hours?"""
    return one.over < other.over and one.hours < other.hours


def rows(played):
    """The table of one load."""
    lines = ["| | over 50%, min | at 100%, min | unmet, % | machine-hours | most machines |", "|---|--:|--:|--:|--:|--:|"]
    for each in played:
        name = f"**{each.name}**" if each.name == OURS else each.name
        lines.append(f"| {name} | {each.over:.1f} | {each.full:.1f} | {each.unmet:.2f} | {each.hours:.1f} | {each.most} |")
    return "\n".join(lines)


def verdict(results):
    """How often each other is better in both or worse in both."""
    lines = ["| | better than `autoscaler` in both | worse in both |", "|---|---|---|"]
    for at in range(1, len(OTHERS) + 1):
        name = results[0][3][at].name
        wins = [trace for trace, _, _, played in results if better(played[at], played[0])]
        losses = [trace for trace, _, _, played in results if better(played[0], played[at])]
        lines.append(f"| {name} | {', '.join(wins) or 'never'} | {', '.join(losses) or 'never'} |")
    return "\n".join(lines)


def loads(scratch):
    """(name, what it is, path, machines at the beginning) of all."""
    for path in load_shapes.write(scratch):
        yield path.stem, load_shapes.SHAPES[path.stem][0], path, START
    for name, what in RECORDED.items():
        yield name, what, ROOT / f"tests/loads/{name}.csv", START
    for name in SHIPPED:
        path = ROOT / f"packaging/traces/{name}.csv"
        first, *_, last = path.read_text().splitlines()
        yield f"shipped {name}", first.strip("# ."), path, int(last.split(",")[2])


def main(binary, *traces):
    if traces:
        for trace in traces:
            _, played = compare(binary, trace)
            print(f"{trace}\n{rows(played)}\n")
        return
    with tempfile.TemporaryDirectory() as scratch:
        results = []
        for name, what, path, start in loads(scratch):
            told, played = compare(binary, path, start=start)
            results.append((name, what, told, played))
            print(f"{name}: {played[0].over:.1f} min over, {played[0].hours:.1f} machine-hours", file=sys.stderr)
    pictures = PAGE.with_suffix("")
    pictures.mkdir(exist_ok=True)
    parts = [HEAD.format(boot=BOOT, start=START, most=MOST), "## In short\n\nMinutes over 50% and machine-hours, both:\n\n",
             verdict(results), "\n\nThe settings: ", results[0][2]["runs"][0]["settings"], ".\n"]
    for name, what, told, played in results:
        file = f"{name.replace(' ', '-')}.svg"
        (pictures / file).write_text(as_svg(name, what, told, played))
        parts.append(f"\n## {name.capitalize()}\n\n{what[0].upper()}{what[1:]}.\n\n{rows(played)}\n\n![{name}]({pictures.name}/{file})\n")
    PAGE.write_text("".join(parts))
    print(f"made {PAGE.relative_to(ROOT)}")


if __name__ == "__main__":
    main(*sys.argv[1:])
