"""The table of `make bench`: what is measured, and what it is beside."""

import statistics
from dataclasses import dataclass, field


@dataclass
class Figure:
    """Values of one contender. `target`: at most so many times of it may the measured thing take."""
    name: str
    values: list
    target: float | None = None


@dataclass
class Group:
    """What is measured, with what it is beside. `unit`: s, B or a word; `limit`: the most that it may be."""
    title: str
    unit: str
    ours: Figure
    others: list = field(default_factory=list)
    limit: float | None = None

    def rows(self):
        """(name, [min, median, max], ratio, target, verdict) per line, all but the numbers as text."""
        scale, unit = _scale(self.unit, [value for each in (self.ours, *self.others) for value in each.values])

        def row(figure, ratio="", target="", fine=None):
            values = figure.values and (min(figure.values), statistics.median(figure.values), max(figure.values))
            numbers = [_number(value / scale) for value in values] if values else ["missing", "", ""]
            verdict = {None: "", True: "✓", False: "✗"}[fine]
            return figure.name, [*numbers, unit if values else ""], ratio, target, verdict

        if not self.ours.values:
            yield row(self.ours)
            return
        mine = statistics.median(self.ours.values)
        limit = self.limit and f"< {_number(self.limit / scale)} {unit}"
        yield row(self.ours, "", limit or "", self.limit and mine < self.limit)
        for other in self.others:
            if not other.values:
                yield row(other)
                continue
            theirs = statistics.median(other.values)
            share = mine / theirs if theirs else 0 if mine == 0 else float("inf")
            target = "" if other.target is None else f"<= {_ratio(other.target)}"
            yield row(other, _ratio(share), target, other.target and share <= other.target)


def _ratio(share):
    if share == 0:
        return "0"
    return f"1/{1 / share:.0f}" if share < 0.1 else f"1/{1 / share:.1f}" if share < 0.8 else f"{share:.3g}"


def _number(value):
    return f"{value:.0f}" if value >= 100 else f"{value:.3g}"


def _scale(unit, values):
    smallest = min((value for value in values if value > 0), default=1)
    steps = {"s": ((0.5, 1, "s"), (5e-4, 1e-3, "ms"), (0, 1e-6, "µs")),
             "B": ((1e5, 1e6, "MB"), (0, 1e3, "KB"))}.get(unit, ((0, 1, unit),))
    return next((scale, name) for least, scale, name in steps if smallest >= least)


HEAD = ("min", "median", "max")


def as_text(group):
    """The lines of one group for a terminal, 80 columns wide."""
    lines = [group.title]
    for name, numbers, ratio, target, verdict in group.rows():
        low, mid, high, unit = numbers
        lines.append(f"  {name:<31}{low:>8}{mid:>7}{high:>7} {unit:<6}{ratio:>7}  {target:<8} {verdict}".rstrip())
    return "\n".join(lines)


def as_markdown(groups, about):
    """The whole table as Markdown."""
    lines = ["# Speed and cost, measured", "", about, "",
             "| | min | median | max | | ratio of the medians | target | |", "|---|--:|--:|--:|---|--:|---|---|"]
    for group in groups:
        lines.append(f"| **{group.title}** | | | | | | | |")
        lines += [f"| {name} | {' | '.join(numbers)} | {ratio} | {target.replace('<', '&lt;')} | {verdict} |"
                  for name, numbers, ratio, target, verdict in group.rows()]
    return "\n".join(lines) + "\n"
