"""Loads of a plain shape, as traces: what the policies are compared on beside recordings.

Each is the work in machines at 100% over time. The noise is a fixed sequence, so the bytes are always the same.
"""

import math
import random
from pathlib import Path

MACHINES = 40  # a trace says the percent of so many machines, so that it can say more than those that serve can do
STEP = 20  # seconds a row


def steps(*pairs):
    """(minute, work) from which on it holds."""
    return lambda minute: [work for begin, work in pairs if begin <= minute][-1]


def sawtooth(minute):
    return 1 + 7 * (minute % 45) / 45


def slow_ramp(minute):
    return 0.8 + 13 * min(max(minute - 10, 0) / 180, 1) if minute < 240 else 0.8


def night_dip(minute):
    hour = minute / 60
    return 5 - 4.2 / (1 + math.exp(-3 * (hour - 4))) + 4.2 / (1 + math.exp(-3 * (hour - 10)))


def spikes(minute):
    return 8 if minute >= 20 and (minute - 20) % 45 < 2 else 0.9


def pulses(minute):
    return 5 if minute % 60 >= 50 else 0.6


# name: (what it is, minutes, work at a minute, noise as a share of it)
SHAPES = {
    "double-step": ("0.9, four, nine and 0.9 machines' work, half an hour each",
                    120, steps((0, 0.9), (30, 4), (60, 9), (90, 0.9)), 0),
    "sawtooth": ("from one to eight machines' work in 45 minutes, and at once back, four times", 180, sawtooth, 0),
    "noise": ("four machines' work, 25% more or less each 20 s", 180, steps((0, 4)), 0.25),
    "slow-ramp": ("up to fourteen machines' work in three hours, an hour of that, and back", 270, slow_ramp, 0.02),
    "night-dip": ("a day of five machines' work, and less than one from four to ten o'clock", 840, night_dip, 0.05),
    "spikes": ("two minutes of eight machines' work every 45 minutes, else 0.9", 180, spikes, 0),
    "pulses": ("ten minutes of five machines' work an hour, else 0.6", 360, pulses, 0.02),
}


def text(name):
    """The trace called `name`, as `simulate` reads it."""
    what, minutes, work, noise = SHAPES[name]
    chance = random.Random(name)
    rows = [f"# {what}", "time,percent,machines"]
    for second in range(0, 60 * minutes + 1, STEP):
        percent = 100 / MACHINES * work(second / 60) * (1 + chance.uniform(-noise, noise))
        rows.append(f"{second},{percent:.3f},{MACHINES}")
    return "\n".join(rows) + "\n"


def write(directory):
    """Writes all into `directory`; returns the paths."""
    paths = []
    for name in SHAPES:
        paths.append(Path(directory) / f"{name}.csv")
        paths[-1].write_text(text(name))
    return paths
