"""The parts of all figures: axes, lines, texts, marks, and the frame around them.

Hand-written SVG without a viewBox. Functions take x as a fraction of the figure's width and y in pixels. SVG gets x in
percent, so that text keeps its size from a phone to paper. Colours come from the page's style sheet, which has light,
dark and print versions. Equal input gives equal bytes.
"""

import math
from collections.abc import Iterable, Sequence
from html import escape
from typing import NamedTuple

from markupsafe import Markup

from reprise.report.numbers import is_number


class Axis(NamedTuple):
    """A range of values.

    root: spaced by the (signed) square root, so that both small and large values are visible.
    """

    low: float
    high: float
    root: bool = False

    def share(self, value: float) -> float:
        """Position on the axis, 0..1; values outside are placed at its ends."""
        low, high, at = (
            (math.copysign(math.sqrt(abs(v)), v) if self.root else v) for v in (self.low, self.high, value)
        )
        return min(max((at - low) / (high - low), 0.0), 1.0)

    def ticks(self, n: int = 5) -> list[float]:
        """About `n` round values within the range."""
        if self.root:
            kept: list[float] = []
            for tick in (0, 0.01, 0.05, 0.2, 0.5, 1, 2, 5, 10):
                # Labels of ticks closer than an eighth of the axis would touch.
                if self.low <= tick <= self.high and (not kept or self.share(tick) - self.share(kept[-1]) > 0.125):
                    kept.append(tick)
            return kept
        raw = (self.high - self.low) / n
        power = 10.0 ** math.floor(math.log10(raw))
        step = next(s * power for s in (1, 2, 2.5, 5, 10) if s * power >= raw * 0.999)
        first = math.ceil(self.low / step - 1e-9)
        return [round(i * step, 10) for i in range(first, math.floor(self.high / step + 1e-9) + 1)]


def axis_around(values: Iterable[float], *, include: Sequence[float] = (), margin: float = 0.06) -> Axis:
    """The range of all finite values, with a margin."""
    known = [v for v in (*values, *include) if is_number(v)] or [0.0, 1.0]
    low, high = min(known), max(known)
    room = (high - low or 1.0) * margin
    return Axis(low - room, high + room)


def pc(share: float) -> str:
    """A fraction as percent for SVG."""
    return f"{100 * share:.2f}%"


def line(x1: float, y1: float, x2: float, y2: float, style: str, title: str = "") -> str:
    """A line; x as fractions of the width, y in pixels."""
    inside = f"<title>{escape(title)}</title>" if title else ""
    return f'<line class="{style}" x1="{pc(x1)}" x2="{pc(x2)}" y1="{y1:.1f}" y2="{y2:.1f}">{inside}</line>'


def rect(x1: float, x2: float, y: float, height: float, style: str, title: str = "") -> str:
    """A box from `x1` to `x2`, fractions of the width; y downwards in pixels."""
    inside = f"<title>{escape(title)}</title>" if title else ""
    place = f'x="{pc(x1)}" y="{y:.1f}" width="{pc(x2 - x1)}" height="{height:.1f}"'
    return f'<rect class="{style}" {place}>{inside}</rect>'


def text_at(x: float, y: float, text: str, style: str = "", *, anchor: str = "start", dx: float = 0) -> str:
    """A text at `x`, `y`, moved to the right by `dx` pixels. anchor: start, middle or end."""
    return f'<text class="{style}" x="{pc(x)}" y="{y:.1f}" dx="{dx:g}" text-anchor="{anchor}">{escape(text)}</text>'


def time_ticks(time: "Axis", y: float) -> list[str]:
    """Seconds along a time axis that begins at 0."""
    # A centred label at the end would extend beyond the edge.
    anchors = [(tick, "end" if time.share(tick) > 0.97 else "middle") for tick in time.ticks(8)]
    return [
        text_at(time.share(t), y, f"{t:g} s" if t == 0 else f"{t:g}", "tick", anchor=anchor) for t, anchor in anchors
    ]


_SHAPES = {
    "circle": '<circle r="4.5"/>',
    "square": '<rect x="-4" y="-4" width="8" height="8"/>',
    "diamond": '<path d="M0-5.5 5.5 0 0 5.5-5.5 0Z"/>',
    "triangle": '<path d="M0-5 5 4-5 4Z"/>',
    "bar": '<path d="M0-6V6" class="stroke"/>',
}


def marker(x: float, y: float, shape: str, style: str = "", title: str = "") -> str:
    """A mark of one of `_SHAPES`, centred at `x`, `y`."""
    inside = f"<title>{escape(title)}</title>" if title else ""
    return f'<svg class="mark {style}" x="{pc(x)}" y="{y:.1f}" overflow="visible">{_SHAPES[shape]}{inside}</svg>'


def figure(body: Iterable[str], *, height: int, label: str, left: int = 0, right: int = 0) -> Markup:
    """An SVG of the page's width: `body` in fractions and pixels, with `left` and `right` pixels for labels."""
    return Markup(
        f'<div class="plot" style="padding:0 {right}px 0 {left}px">'
        f'<svg role="img" aria-label="{escape(label)}" width="100%" height="{height}">{"".join(body)}</svg></div>'
    )


def legend(items: Iterable[tuple[str, str, str]]) -> Markup:
    """(style, shape, name) of each kind of mark, as one line of HTML."""
    marks = [
        f'<span class="key {style}"><svg width="14" height="14" aria-hidden="true">'
        f'<svg class="mark" x="7" y="7" overflow="visible">{_SHAPES[shape]}</svg></svg>{escape(name)}</span>'
        for style, shape, name in items
    ]
    return Markup(f'<p class="legend">{"".join(marks)}</p>')
