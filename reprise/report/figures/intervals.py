"""Numbers with their intervals, as dots with bars, compared with thresholds.

Degenerate input: the mark of a number that could not be computed is left out.
"""

import math
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from markupsafe import Markup

from reprise.report.figures.svg import Axis, axis_around, figure, line, marker, text_at
from reprise.report.numbers import interval, is_number

# Width of a letter in the labels next to a plot, as set by the page's style sheet.
PIXELS_PER_LETTER = 6.3


class Row(NamedTuple):
    """One line of an interval plot.

    null: the range (median, 95th percentile) that chance reaches. needed: a threshold for this line only.
    """

    label: str
    value: float
    low: float = math.nan
    high: float = math.nan
    text: str = ""
    style: str = "s-target"
    shape: str = "circle"
    filled: bool = True
    null: tuple[float, float] = (math.nan, math.nan)
    needed: float = math.nan


def interval_plot(
    rows: Sequence[Row],
    axis: Axis,
    *,
    label: str,
    threshold: float = math.nan,
    x_label: str = "",
    right: int = 84,
    zero: bool = True,
) -> Markup:
    """Dots with intervals, one per row.

    Parameters
    ----------
    rows : sequence of Row
        The lines.
    axis : Axis
        The x axis.
    label : str
        The figure as text.
    threshold : float
        A dashed line through all rows. NaN: none.
    x_label : str
        Title of the x axis.
    right : int
        Pixels for the text on the right.
    zero : bool
        Whether a solid line is drawn at zero.
    """
    step, top = 26, 8
    left = 12 + round(PIXELS_PER_LETTER * max((len(row.label) for row in rows), default=0))
    bottom = top + step * len(rows)
    body = []
    for tick in axis.ticks(5):
        x = axis.share(tick)
        body += [
            line(x, top, x, bottom, "grid"),
            text_at(x, bottom + 15, f"{tick:g}".replace("-", "−"), "tick", anchor="middle"),
        ]
    if zero:
        body.append(line(axis.share(0), top, axis.share(0), bottom, "axis"))
    if is_number(threshold):
        body.append(
            line(axis.share(threshold), top - 6, axis.share(threshold), bottom, "needed", f"needed: {threshold:g}")
        )
    for i, row in enumerate(rows):
        y = top + step * (i + 0.5)
        body.append(text_at(0, y + 4, row.label, "name", anchor="end", dx=-8))
        body.append(text_at(1, y + 4, row.text, "value", dx=8))
        if all(map(is_number, row.null)):
            median, most = (axis.share(v) for v in row.null)
            title = f"chance: median {row.null[0]:.3f}, 95th percentile {row.null[1]:.3f}"
            body.append(line(median, y, most, y, "null", title))
        if is_number(row.needed):
            x = axis.share(row.needed)
            body.append(line(x, y - 10, x, y + 10, "needed", f"needed: {row.needed:g}"))
        if not is_number(row.value):
            continue
        inside = [f'<g class="{row.style}">']
        if is_number(row.low) and is_number(row.high):
            inside.append(line(axis.share(row.low), y, axis.share(row.high), y, "whisker"))
        title = f"{row.label}: {interval(row.value, row.low, row.high, 3)}"
        inside.append(marker(axis.share(row.value), y, row.shape, "" if row.filled else "hollow", title))
        body += [*inside, "</g>"]
    if x_label:
        body.append(text_at(0.5, bottom + 32, x_label, "tick", anchor="middle"))
    return figure(body, height=bottom + (38 if x_label else 20), label=label, left=left, right=right)


def gate_strip(gate: Mapping[str, Any]) -> Markup:
    """A gate's number and interval against its threshold, on its own scale. The numbers are in the next column."""
    if not is_number(gate["value"]):
        return Markup("")
    axis = axis_around([gate[k] for k in ("value", "low", "high", "threshold")], include=(0.0,), margin=0.1)
    body = [line(0, 11, 1, 11, "grid")]
    if axis.low < 0 < axis.high:
        body.append(line(axis.share(0), 6, axis.share(0), 16, "axis"))
    if is_number(gate["threshold"]):
        body.append(line(axis.share(gate["threshold"]), 2, axis.share(gate["threshold"]), 20, "needed"))
    body.append('<g class="s-target">')
    if is_number(gate["low"]) and is_number(gate["high"]):
        body.append(line(axis.share(gate["low"]), 11, axis.share(gate["high"]), 11, "whisker"))
    body += [marker(axis.share(gate["value"]), 11, "circle", "" if gate["outcome"] == "passed" else "hollow"), "</g>"]
    return Markup(f'<svg class="strip" aria-hidden="true" width="100%" height="22">{"".join(body)}</svg>')
