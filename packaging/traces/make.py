#!/usr/bin/env python3
"""Makes the three traces beside this file: one row a minute, the mean CPU in percent, and of how many machines.

Each describes its pattern in its first lines. The noise is a fixed sequence, so the bytes are always the same.
"""

import math
from pathlib import Path


def noise(width):
    """Numbers between -width and width from a linear congruential generator (that of POSIX's rand example)."""
    state = 1
    while True:
        state = (state * 1103515245 + 12345) % 2**31
        yield width * (state / 2**30 - 1)


def day(minute, wobble):
    hour = minute / 60
    lunch = 34 * math.exp(-((hour - 13) / 3) ** 2)
    evening = 50 * math.exp(-((hour - 20) / 2) ** 2)
    return 9 + lunch + evening + wobble


def flash_crowd(minute, wobble):
    since = minute - 60
    crowd = 0 if since < 0 else min(since / 3, 1) * 68 * 0.5 ** (max(since - 3, 0) / 25)
    return 22 + crowd + wobble


def slow_leak(minute, wobble):
    since = minute if minute < 660 else minute - 660
    return 18 + since / 660 * 66 + wobble


TRACES = [
    ("day.csv", day, 24 * 60, 2, 4, "A day of 4 machines: quiet at night, a broad hill around 13:00, a higher one around "
     "20:00.", "9 + 34 exp(-((h - 13) / 3)^2) + 50 exp(-((h - 20) / 2)^2) percent, h in hours"),
    ("flash-crowd.csv", flash_crowd, 4 * 60, 2, 3, "Four hours of 3 machines: after the first, a link makes the rounds.",
     "22 percent; from 01:00 on 68 more within 3 minutes, of which half goes every 25 minutes"),
    ("slow-leak.csv", slow_leak, 12 * 60, 1.5, 2, "Twelve hours of 2 machines: something in the app eats more and more "
     "CPU, until it is started anew at 11:00.", "18 percent, and 6 more every hour"),
]

for name, load, minutes, width, machines, what, formula in TRACES:
    rows = [f"{minute // 60:02}:{minute % 60:02},{max(load(minute, wobble), 0):.1f},{machines}\n"
            for minute, wobble in zip(range(minutes), noise(width))]
    head = f"# {what}\n# {formula}; +-{width} of noise.\n# Each row holds until the next. Made by make.py.\ntime,percent,machines\n"
    (Path(__file__).parent / name).write_text(head + "".join(rows))
