"""One picture of what each policy made of a load: a panel each, all on one scale."""

from xml.sax.saxutils import escape

WIDTH, LEFT, RIGHT, PANEL, HEAD, FOOT = 960, 46, 14, 96, 26, 34
PLOT = WIDTH - LEFT - RIGHT
STYLE = ("text{font:12px sans-serif;fill:#333}.h{font-size:17px;font-weight:bold}.t{font-weight:bold}.g{fill:#666}.e{text-anchor:end}"
         ".m{text-anchor:middle}.need{fill:#d4d4d4}.serving{stroke:#1f4e9c;stroke-width:1.6;fill:none}"
         ".over{fill:#d62020}.axis{stroke:#999;fill:none}.grid{stroke:#e8e8f0}")
UNITS = ((86400, "day"), (3600, "hour"), (60, "minute"))


def columns(changes, length, pick):
    """Of each pixel the `pick` of the values that held in it; `changes` are (second, value)."""
    values, at = [], 0
    for column in range(PLOT):
        begin, end = length * column / PLOT, length * (column + 1) / PLOT
        while at + 1 < len(changes) and changes[at + 1][0] <= begin:
            at += 1
        seen, following = [changes[at][1]], at + 1
        while following < len(changes) and changes[following][0] < end:
            seen.append(changes[following][1])
            following += 1
        values.append(pick(seen))
    return values


def over(load, serving, length):
    """[(begin, end)] of the times at more than 50%, in seconds."""
    edges = sorted({at for at, _ in load} | {at for at, _ in serving} | {0})
    spans, i, j = [], 0, 0
    for begin, end in zip(edges, [*edges[1:], length]):
        while i + 1 < len(load) and load[i + 1][0] <= begin:
            i += 1
        while j + 1 < len(serving) and serving[j + 1][0] <= begin:
            j += 1
        if load[i][1] > serving[j][1] / 2 and end > begin:
            if spans and begin - spans[-1][1] < length / PLOT:  # no eye would see them apart
                spans[-1][1] = end
            else:
                spans.append([begin, end])
    return spans


def ticks(length):
    """(seconds between two marks, seconds of one unit, its name), with 12 marks at most."""
    for step in (60, 300, 600, 1800, 3600, 7200, 4 * 3600, 12 * 3600, 86400):
        if length / step <= 12:
            break
    unit, name = next((unit, name) for unit, name in UNITS if step >= unit)
    return step, unit, name


def as_svg(name, what, told, played):
    """One self-contained SVG of `played` on the load of `told`, which is what `simulate --json` said."""
    load, length = told["load"], told["seconds"]
    needed = [value * 2 for value in columns(load, length, max)]
    # What others launch far beyond the need may leave the picture, so that the need can be seen in it.
    most = max(max(needed), min(max(max(machines for _, machines in each.serving) for each in played), 1.6 * max(needed)), 2)
    height = 76 + len(played) * (HEAD + PANEL) + FOOT
    out = [f'<svg xmlns="http://www.w3.org/2000/svg" width="{WIDTH}" height="{height}" viewBox="0 0 {WIDTH} {height}" role="img">',
           f"<title>{escape(name)}: machines and load</title><style>{STYLE}</style>"
           '<rect width="100%" height="100%" fill="#fff"/>',
           f'<text x="14" y="26" class="h">{escape(name)}</text><text x="14" y="46" class="g">{escape(what)}</text>']
    x = 14
    for shape, label in (('<rect x="{x}" y="57" width="16" height="10" class="need"/>', "machines needed for 50%"),
                         ('<path d="M{x} 62h16" class="serving"/>', "machines that serve"),
                         ('<rect x="{x}" y="60" width="16" height="5" class="over"/>', "over 50%")):
        out.append(f'{shape.format(x=x)}<text x="{x + 22}" y="66">{label}</text>')
        x += 50 + 6.6 * len(label)
    top = 76
    changes = [(column, value) for column, value in enumerate(needed) if not column or value != needed[column - 1]]
    steps = "".join(f"H{LEFT + column}V{PANEL * (1 - value / most):.1f}" for column, value in changes)
    out.append(f'<defs><path id="need" class="need" d="M{LEFT} {PANEL}{steps}H{LEFT + PLOT}V{PANEL}z"/>'
               f'<clipPath id="plot"><rect x="{LEFT}" y="-2" width="{PLOT}" height="{PANEL + 4}"/></clipPath></defs>')
    step, unit, unit_name = ticks(length)
    for each in played:
        numbers = (f"{each.over:.1f} min over 50%, {each.full:.1f} at 100%, {each.unmet:.1f}% of the work unmet, "
                   f"{each.hours:.1f} machine-hours")
        out.append(f'<text x="{LEFT}" y="{top + 20}"><tspan class="t">{escape(each.name)}</tspan><tspan dx="12" class="g">{numbers}'
                   '</tspan></text>')
        top += HEAD
        out.append(f'<g transform="translate(0 {top})">')
        for value in grid(most):
            y = PANEL * (1 - value / most)
            out.append(f'<path d="M{LEFT} {y:.1f}h{PLOT}" class="grid"/><text x="{LEFT - 6}" y="{y + 4:.1f}" class="e g">{value}</text>')
        out.append('<use href="#need"/>')
        spans = [(LEFT + PLOT * begin / length, max(PLOT * (end - begin) / length, 0.4))
                 for begin, end in over(load, each.serving, length)]
        strokes = "".join(f"M{left:.1f} {PANEL}v-5h{width:.1f}v5z" for left, width in spans)
        out.append(f'<path d="{strokes}" class="over"/>')
        out.append(f'<path clip-path="url(#plot)" d="{line(each.serving, length, most)}" class="serving"/>'
                   f'<path d="M{LEFT} 0V{PANEL}h{PLOT}" class="axis"/></g>')
        top += PANEL
    for mark in range(0, int(length) + 1, step):
        x = LEFT + PLOT * mark / length
        kind = "e" if x > WIDTH - 30 else "m"
        out.append(f'<text x="{x:.1f}" y="{top + 15}" class="{kind}">{mark / unit:g}</text>')
    out.append(f'<text x="{LEFT + PLOT / 2}" y="{top + 29}" class="m g">{unit_name}s</text></svg>')
    return "\n".join(out) + "\n"


def line(serving, length, most):
    """The steps of the machines that serve; those within one pixel as one upright stroke."""
    low, high = columns(serving, length, min), columns(serving, length, max)
    d, before = "", None
    for column, (least, greatest) in enumerate(zip(low, high)):
        down, up = (f"{PANEL * (1 - min(value / most, 1.05)):.0f}" for value in (least, greatest))
        if before is None:
            d = f"M{LEFT} {up}"
        elif (down, up) != before:
            d += f"H{LEFT + column}V{down}" + (f"V{up}" if up != down else "")
        before = down, up
    return d + f"H{LEFT + PLOT}"


def grid(most):
    """Round numbers of machines, three or four of them."""
    step = next(step for step in (1, 2, 5, 10, 20, 50, 100) if most / step <= 4)
    return range(0, int(most) + 1, step)
