"""The table of `make bench` as one picture: how many times of its neighbour each thing takes, and what is aimed at."""

import math
import statistics
from xml.sax.saxutils import escape

ROW, TOP, LEFT, WIDTH, RIGHT = 18, 76, 520, 460, 60
LEAST, MOST = 1e-3, 1e2  # ratios at the ends of the axis
STYLE = ("text{font:12px sans-serif;fill:#222}.dim{fill:#666}.axis{stroke:#ccc}.one{stroke:#888}"
         ".good{fill:#2a7f3f}.bad{fill:#b3261e}.plain{fill:#4a6fa5}.target{stroke:#222;stroke-width:2}")


def bars(groups):
    """(group's title, what it is beside, ratio of the medians, target or None) of all that can be compared."""
    for group in groups:
        for other in group.others:
            if group.ours.values and other.values and statistics.median(other.values) > 0:
                yield group.title, other.name, (statistics.median(group.ours.values) /
                                                statistics.median(other.values)), other.target


def as_svg(groups, about):
    """One self-contained SVG: a dot per comparison on a logarithmic axis, a bar across it where there is a target."""
    rows = list(bars(groups))
    height = TOP + ROW * len(rows) + 40
    out = [f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {LEFT + WIDTH + RIGHT} {height}" '
           f'width="{LEFT + WIDTH + RIGHT}" height="{height}"><style>{STYLE}</style>'
           '<rect width="100%" height="100%" fill="#fff"/>',
           '<text x="10" y="22" style="font-size:16px;font-weight:bold">autoscaler beside others: its time, memory or '
           'size as a share of theirs</text>',
           f'<text x="10" y="40" class="dim">{escape(about.splitlines()[0].rstrip("."))}; left of 1 is less. The short bar is the '
           'target: green where it is reached.</text>']
    bottom = TOP + ROW * len(rows)
    for exponent in range(round(math.log10(LEAST)), round(math.log10(MOST)) + 1):
        x = _x(10 ** exponent)
        label = f"1/{10 ** -exponent:,}" if exponent < 0 else f"{10 ** exponent}"
        out.append(f'<line x1="{x:.1f}" y1="{TOP - 8}" x2="{x:.1f}" y2="{bottom}" '
                   f'class="{"axis" if exponent else "one"}"/>'
                   f'<text x="{x:.1f}" y="{TOP - 14}" text-anchor="middle" class="dim">{label}</text>')
    for number, (title, name, ratio, target) in enumerate(rows):
        y = TOP + ROW * number + ROW / 2
        kind = "plain" if target is None else "good" if ratio <= target else "bad"
        label = f"{title} / {name}"
        label = label if len(label) <= 84 else f"{label[:83]}…"
        out.append(f'<text x="{LEFT - 12}" y="{y + 4}" text-anchor="end" style="font-size:11px">{escape(label)}</text>'
                   f'<circle cx="{_x(ratio):.1f}" cy="{y}" r="4" class="{kind}"/>'
                   f'<text x="{LEFT + WIDTH + 8}" y="{y + 4}" class="dim">{_words(ratio)}</text>')
        if target is not None:
            out.append(f'<line x1="{_x(target):.1f}" y1="{y - 7}" x2="{_x(target):.1f}" y2="{y + 7}" class="target"/>')
    return "\n".join([*out, "</svg>"]) + "\n"


def _x(ratio):
    share = (math.log10(min(max(ratio, LEAST), MOST)) - math.log10(LEAST)) / (math.log10(MOST) - math.log10(LEAST))
    return LEFT + WIDTH * share


def _words(ratio):
    return f"1/{1 / ratio:,.0f}" if 0 < ratio < 0.095 else f"{ratio:.2g}"
