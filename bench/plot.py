"""Two plots of a run as SVG: every workload next to the limit, and what hello costs everybody.

Both are rows of dots with their quartiles on a logarithmic axis, since the costs lie up to three
orders of magnitude apart. Peers differ by shape as well as by colour.
"""

import dataclasses
import html
import math
from typing import Dict, List, Optional, Sequence, Tuple

from results import Quartiles, Results, quartiles

WIDTH = 900
LEFT, RIGHT = 265, 30
LINE = 15
FONT = 13

# Colours that people with any colour vision tell apart (Okabe and Ito), and a shape for each.
SERIES: Dict[str, Tuple[str, str]] = {
    "embedded": ("#0072b2", "circle"),
    "daemon": ("#009e73", "square"),
    "mod_wsgi": ("#d55e00", "circle"),
    "mod_wsgi_daemon": ("#e69f00", "square"),
    "uwsgi": ("#cc79a7", "triangle"),
    "granian": ("#56b4e9", "diamond"),
    "gunicorn": ("#8a8a8a", "cross"),
    "waitress": ("#8a8a8a", "plus"),
}
OTHER = ("#8a8a8a", "circle")

# The card brings its background along, so the text is readable on a page of either kind.
STYLE = """
  .card { fill: #ffffff; stroke: #d0d7de }
  .grid { stroke: #d8dee4 }
  .limit { stroke: #57606a; stroke-width: 1.5; stroke-dasharray: 5 3 }
  text { font: %dpx system-ui, sans-serif; fill: #1f2328 }
  .title { font-size: 16px; font-weight: 600 }
  .soft { fill: #57606a }
  @media (prefers-color-scheme: dark) {
    .card { fill: #161b22; stroke: #3d444d }
    .grid { stroke: #30363d }
    .limit { stroke: #9198a1 }
    text { fill: #e6edf3 }
    .soft { fill: #9198a1 }
  }
""" % FONT


@dataclasses.dataclass(frozen=True)
class Row:
    """Its dots, one below the other: the series (see SERIES), what it is at, and a text or none."""

    title: str
    dots: Sequence[Tuple[str, Quartiles, str]]

    @property
    def height(self) -> int:
        return LINE * max(1, len(self.dots)) + LINE


def workloads_plot(results: Results) -> Optional[str]:
    """CPU per request as a multiple of the bare handler's; None if that took no part."""
    rows, shown = [], {}
    for workload, title in results.workloads.items():
        dots = []
        for peer in SERIES:
            values = results.ratio(peer, "bare", workload)
            if values:
                dots.append((peer, values, ""))
                shown[peer] = results.peers[peer]
        if dots:
            rows.append(Row(title, dots))
    if not rows:
        return None
    return draw(
        "CPU time per request, as a multiple of a bare C handler's in the same httpd",
        "times the bare C handler's (logarithmic); bars are quartiles, further left is better",
        rows, shown, limit=1.0,
    )


def hello_plot(results: Results) -> Optional[str]:
    """CPU time of hello, one row per peer."""
    found = []
    for peer, title in results.peers.items():
        values = results.of(peer, "hello")
        if values and not peer.endswith("-again"):
            found.append((peer, title, quartiles(values)))
    if not found:
        return None
    found.sort(key=lambda item: item[2][1])
    rows = [
        Row(title, [(peer, values, label(values[1]) + " us")])
        for peer, title, values in found
    ]
    return draw(
        "hello, 16 connections: CPU time of all server processes per request",
        "microseconds (logarithmic); bars are quartiles, further left is better", rows, {},
    )


def label(value: float) -> str:
    return "{:,.0f}".format(value) if value >= 10 else "%g" % round(value, 2)


def draw(
    title: str, axis: str, rows: Sequence[Row], legend: Dict[str, str],
    limit: Optional[float] = None,
) -> str:
    values = [value for row in rows for _, spread, _ in row.dots for value in spread]
    low, high = bounds(values + ([limit] if limit else []))
    # Room for the text at the right of the last dot.
    right = WIDTH - RIGHT - (70 if any(text for row in rows for *_, text in row.dots) else 0)
    span = right - LEFT

    def x(value: float) -> float:
        return LEFT + span * math.log(value / low) / math.log(high / low)

    top = 60 + 22 * -(-len(legend) // 3)
    bottom = top + sum(row.height for row in rows)
    parts = [text(20, 30, title, "title")]
    for index, (peer, name) in enumerate(legend.items()):
        across, down = 30 + 290 * (index % 3), 56 + 22 * (index // 3)
        parts += [mark(peer, across, down - 4), text(across + 14, down, name)]
    for tick in ticks(low, high):
        parts.append(line(x(tick), top, x(tick), bottom, "grid"))
        parts.append(text(x(tick), bottom + 18, label(tick), "soft", "middle"))
    if limit:
        parts.append(line(x(limit), top, x(limit), bottom, "limit"))
    y = top
    for row in rows:
        parts.append(line(20, y, right, y, "grid"))
        parts.append(text(LEFT - 14, y + row.height / 2 + 4, row.title, "", "end"))
        for index, (peer, (first, middle, last), said) in enumerate(row.dots):
            across, down = x(middle), y + LINE * (index + 1)
            colour = SERIES.get(peer, OTHER)[0]
            parts.append(
                '<line x1="%.1f" y1="%.1f" x2="%.1f" y2="%.1f" stroke="%s" stroke-width="2" '
                'stroke-opacity="0.6"/>' % (x(first), down, x(last), down, colour))
            parts.append(mark(peer, across, down))
            if said:
                parts.append(text(max(across, x(last)) + 12, down + 4, said, "soft"))
        y += row.height
    parts.append(text((LEFT + right) / 2, bottom + 40, axis, "soft", "middle"))
    height = bottom + 58
    return "\n".join([
        '<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 %d %d" role="img">' % (WIDTH, height),
        "<title>%s</title>" % html.escape(title),
        "<style>%s</style>" % STYLE,
        '<rect class="card" x="0.5" y="0.5" width="%d" height="%d" rx="8"/>' % (
            WIDTH - 1, height - 1),
        *parts, "</svg>", "",
    ])


def bounds(values: Sequence[float]) -> Tuple[float, float]:
    """A little beyond the smallest and the largest."""
    return min(values) / 1.15, max(values) * 1.15


def ticks(low: float, high: float) -> List[float]:
    """Round numbers within, as close together as eight of them allow."""
    powers = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
    for steps in ((1, 1.1, 1.2, 1.3, 1.5, 1.7, 2, 2.5, 3, 4, 5, 7), (1, 1.5, 2, 3, 5, 7),
                  (1, 2, 5), (1, 3), (1,)):
        found = [step * 10.0 ** power for power in powers for step in steps]
        found = [tick for tick in found if low <= tick <= high]
        if len(found) <= 8:
            break
    return found


def mark(peer: str, x: float, y: float) -> str:
    colour, shape = SERIES.get(peer, OTHER)
    r = 5.0
    if shape == "circle":
        return '<circle cx="%.1f" cy="%.1f" r="%.1f" fill="%s"/>' % (x, y, r, colour)
    if shape in ("cross", "plus"):
        strokes = "M-4 -4 L4 4 M-4 4 L4 -4" if shape == "cross" else "M-5 0 L5 0 M0 -5 L0 5"
        return '<path transform="translate(%.1f %.1f)" d="%s" stroke="%s" stroke-width="2.5"/>' % (
            x, y, strokes, colour)
    outline = {
        "square": "M-4.5 -4.5 H4.5 V4.5 H-4.5 Z",
        "triangle": "M0 -5.5 L5.5 4.5 L-5.5 4.5 Z",
        "diamond": "M0 -6 L6 0 L0 6 L-6 0 Z",
    }[shape]
    return '<path transform="translate(%.1f %.1f)" d="%s" fill="%s"/>' % (x, y, outline, colour)


def line(x1: float, y1: float, x2: float, y2: float, kind: str) -> str:
    return '<line class="%s" x1="%.1f" y1="%.1f" x2="%.1f" y2="%.1f"/>' % (kind, x1, y1, x2, y2)


def text(x: float, y: float, said: str, kind: str = "", anchor: str = "start") -> str:
    return '<text class="%s" x="%.1f" y="%.1f" text-anchor="%s">%s</text>' % (
        kind, x, y, anchor, html.escape(said))
