"""Points of several conditions joined by lines: one number against another.

Degenerate input: a line or an interval that is not known (NaN) is left out.
"""

import math
from collections.abc import Callable, Sequence
from typing import NamedTuple

from markupsafe import Markup

from reprise.report.figures.svg import Axis, figure, line, marker, text_at
from reprise.report.numbers import interval, is_number


class Series(NamedTuple):
    """The points of one condition: x, y, low and high of y, and the label of each point.

    `style` and `shape` are those of its marks. A `strong` series has whiskers and labels.
    """

    name: str
    x: Sequence[float]
    y: Sequence[float]
    low: Sequence[float]
    high: Sequence[float]
    labels: Sequence[str]
    style: str
    shape: str
    strong: bool = False


def xy_plot(
    series: Sequence[Series],
    x_axis: Axis,
    y_axis: Axis,
    *,
    label: str,
    x_label: str,
    y_label: str,
    x_needed: float = math.nan,
    y_needed: float = math.nan,
    luck: float = math.nan,
    x_ticks: Sequence[float] = (),
    x_text: Callable[[float], str] = "{:g}".format,
    height: int = 190,
) -> Markup:
    """Lines through points, with whiskers on the strong series only.

    Parameters
    ----------
    series : sequence of Series
        The points.
    x_axis, y_axis : Axis
        The axes.
    label : str
        The figure as text.
    x_label, y_label : str
        Titles of the axes.
    x_needed, y_needed : float
        What the gates need, as dashed lines. NaN: none.
    luck : float
        What fresh sampling noise alone loses, as a level line. NaN: none.
    x_ticks, x_text
        Ticks of the x axis, and a function that writes them.
    height : int
        Height of the plot in pixels.
    """
    top, bottom = 24, height + 24

    def y_at(value: float) -> float:
        return bottom - y_axis.share(value) * height

    body = [text_at(0, 12, y_label, "tick", dx=-34)]
    for tick in y_axis.ticks(5):
        y = y_at(tick)
        body += [
            line(0, y, 1, y, "grid"),
            text_at(0, y + 4, f"{tick:g}".replace("-", "−"), "tick", anchor="end", dx=-7),
        ]
    for tick in x_ticks or x_axis.ticks(4):
        x = x_axis.share(tick)
        body += [
            line(x, bottom, x, bottom + 4, "axis"),
            text_at(x, bottom + 17, x_text(tick), "tick", anchor="middle"),
        ]
    body.append(line(0, y_at(0), 1, y_at(0), "axis"))
    if is_number(x_needed):
        body.append(
            line(x_axis.share(x_needed), top, x_axis.share(x_needed), bottom, "needed", f"at most {x_needed:g}")
        )
    if is_number(y_needed):
        body.append(line(0, y_at(y_needed), 1, y_at(y_needed), "needed", f"at least {y_needed:g}"))
    if is_number(luck):
        title = f"fresh noise alone: {luck:.2f}"
        body += ['<g class="s-resampled">', line(0, y_at(luck), 1, y_at(luck), "curve", title), "</g>"]
    # The strong series is drawn last, on top.
    for s in sorted(series, key=lambda s: s.strong):
        points = [(x_axis.share(x), y_at(y)) for x, y in zip(s.x, s.y, strict=True)]
        body.append(f'<g class="{s.style}{"" if s.strong else " quiet"}">')
        for (x1, y1), (x2, y2) in zip(points, points[1:], strict=False):
            body.append(line(x1, y1, x2, y2, "curve"))
        for i, (x, y) in enumerate(points):
            if s.strong and is_number(s.low[i]) and is_number(s.high[i]):
                body.append(line(x, y_at(s.low[i]), x, y_at(s.high[i]), "whisker"))
            title = f"{s.name}, dose {s.labels[i]}: {interval(s.y[i], s.low[i], s.high[i])} at {s.x[i]:.3g}"
            body.append(marker(x, y, s.shape, title=title))
            if s.strong and s.labels[i]:
                end = x > 0.92
                body.append(
                    text_at(x, y - 8, s.labels[i], "dose", anchor="end" if end else "start", dx=-7 if end else 7)
                )
        body.append("</g>")
    body.append(text_at(0.5, bottom + 34, x_label, "tick", anchor="middle"))
    return figure(body, height=bottom + 40, label=label, left=38, right=12)
