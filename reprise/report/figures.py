"""Self-contained figures for the project's HTML pages: numbers as text, SVG plots, chromagrams.

Hand-written SVG without a viewBox: x in percent of the figure's width, y in pixels, so that text keeps its size from a
phone to paper; colours come from the page's style sheet, which knows light, dark and print. Equal input gives equal
bytes.

Degenerate input: a number that could not be computed (None, NaN, infinite) is a dash, and its mark is left out.
"""

import base64
import io
import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from html import escape
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from markupsafe import Markup
from PIL import Image

from reprise.audio.chroma import FRAME_RATE_HZ, clip_features
from reprise.targets.recurrence.matching import Motif, match_curve

NEVER_DATA = "—"


# --- numbers as text ------------------------------------------------------------------------------------------


def is_number(value: Any) -> bool:
    """Whether there is a number to show: not None, NaN or infinite."""
    return value is not None and not isinstance(value, str) and math.isfinite(value)


def number(value: Any, digits: int = 2, *, sign: bool = False) -> str:
    """A number with a fixed count of decimals and a true minus; a dash where there is none."""
    if not is_number(value):
        return NEVER_DATA
    text = f"{value:{'+' if sign else ''}.{digits}f}"
    # "-0.00" is a zero that only looks negative.
    text = text.lstrip("+-") if not text.strip("+-0.") else text
    return text.replace("-", "−")


def interval(value: Any, low: Any, high: Any, digits: int = 2) -> str:
    """`0.21 [0.15, 0.27]`, without the bracket where there is no interval."""
    ends = f" [{number(low, digits)}, {number(high, digits)}]" if is_number(low) and is_number(high) else ""
    return number(value, digits) + ends


def p_text(p: Any) -> str:
    if not is_number(p):
        return NEVER_DATA
    return "< 0.001" if p < 0.001 else f"{p:.3f}" if p < 0.1 else f"{p:.2f}"


def percent(share: Any) -> str:
    return f"{number(100 * share, 0)} %" if is_number(share) else NEVER_DATA


def seconds_text(seconds: float) -> str:
    """`45 s`, `3 min 20 s`, `2 h 05 min`."""
    whole = round(seconds)
    if whole < 60:
        return f"{number(seconds, 0 if seconds >= 10 else 1)} s"
    minutes, rest = divmod(whole, 60)
    return f"{minutes} min {rest:02d} s" if minutes < 60 else f"{minutes // 60} h {minutes % 60:02d} min"


# --- SVG ------------------------------------------------------------------------------------------------------


class Axis(NamedTuple):
    """A range of values; `root`: spaced by the (signed) square root, so that small and large values both show."""

    low: float
    high: float
    root: bool = False

    def share(self, value: float) -> float:
        """Where on the axis, 0..1; values outside lie on its ends."""
        low, high, at = (
            (math.copysign(math.sqrt(abs(v)), v) if self.root else v) for v in (self.low, self.high, value)
        )
        return min(max((at - low) / (high - low), 0.0), 1.0)

    def ticks(self, n: int = 5) -> list[float]:
        """About `n` round values within."""
        if self.root:
            kept: list[float] = []
            for tick in (0, 0.01, 0.05, 0.2, 0.5, 1, 2, 5, 10):
                # Ticks nearer to each other than an eighth of the axis would touch.
                if self.low <= tick <= self.high and (not kept or self.share(tick) - self.share(kept[-1]) > 0.125):
                    kept.append(tick)
            return kept
        raw = (self.high - self.low) / n
        power = 10.0 ** math.floor(math.log10(raw))
        step = next(s * power for s in (1, 2, 2.5, 5, 10) if s * power >= raw * 0.999)
        first = math.ceil(self.low / step - 1e-9)
        return [round(i * step, 10) for i in range(first, math.floor(self.high / step + 1e-9) + 1)]


def axis_around(values: Iterable[float], *, include: Sequence[float] = (), margin: float = 0.06) -> Axis:
    """The range of all finite values with a margin."""
    known = [v for v in (*values, *include) if is_number(v)] or [0.0, 1.0]
    low, high = min(known), max(known)
    room = (high - low or 1.0) * margin
    return Axis(low - room, high + room)


def _pc(share: float) -> str:
    return f"{100 * share:.2f}%"


def _line(x1: float, y1: float, x2: float, y2: float, style: str, title: str = "") -> str:
    """A line; x as shares of the width, y in pixels."""
    inside = f"<title>{escape(title)}</title>" if title else ""
    return f'<line class="{style}" x1="{_pc(x1)}" x2="{_pc(x2)}" y1="{y1:.1f}" y2="{y2:.1f}">{inside}</line>'


def _rect(x1: float, x2: float, y: float, height: float, style: str, title: str = "") -> str:
    """A box from `x1` to `x2`, shares of the width; y downwards in pixels."""
    inside = f"<title>{escape(title)}</title>" if title else ""
    place = f'x="{_pc(x1)}" y="{y:.1f}" width="{_pc(x2 - x1)}" height="{height:.1f}"'
    return f'<rect class="{style}" {place}>{inside}</rect>'


def _time_ticks(time: "Axis", y: float) -> list[str]:
    """Seconds along a time axis that begins at 0."""
    # The last label would stand out over the edge.
    anchors = [(tick, "end" if time.share(tick) > 0.97 else "middle") for tick in time.ticks(8)]
    return [
        _text(time.share(t), y, f"{t:g} s" if t == 0 else f"{t:g}", "tick", anchor=anchor) for t, anchor in anchors
    ]


def _text(x: float, y: float, text: str, style: str = "", *, anchor: str = "start", dx: float = 0) -> str:
    return f'<text class="{style}" x="{_pc(x)}" y="{y:.1f}" dx="{dx:g}" text-anchor="{anchor}">{escape(text)}</text>'


_SHAPES = {
    "circle": '<circle r="4.5"/>',
    "square": '<rect x="-4" y="-4" width="8" height="8"/>',
    "diamond": '<path d="M0-5.5 5.5 0 0 5.5-5.5 0Z"/>',
    "triangle": '<path d="M0-5 5 4-5 4Z"/>',
    "bar": '<path d="M0-6V6" class="stroke"/>',
}
MARKERS = {
    "target": "circle",
    "mean_difference": "diamond",
    "matched_feature": "square",
    "random_direction": "triangle",
    "local_feature": "square",
    "resampled": "bar",
}


def _marker(x: float, y: float, shape: str, style: str = "", title: str = "") -> str:
    inside = f"<title>{escape(title)}</title>" if title else ""
    return f'<svg class="mark {style}" x="{_pc(x)}" y="{y:.1f}" overflow="visible">{_SHAPES[shape]}{inside}</svg>'


def figure(body: Iterable[str], *, height: int, label: str, left: int = 0, right: int = 0) -> Markup:
    """An SVG of the page's width: `body` in shares and pixels, room of `left` and `right` pixels for labels."""
    return Markup(
        f'<div class="plot" style="padding:0 {right}px 0 {left}px">'
        f'<svg role="img" aria-label="{escape(label)}" width="100%" height="{height}">{"".join(body)}</svg></div>'
    )


# Of the labels beside a plot, as the page's style sheet sets them.
PIXELS_PER_LETTER = 6.3


class Row(NamedTuple):
    """One line of an interval plot; `null` is the range (median, 95th percentile) that chance reaches, `needed` a
    threshold of this line alone."""

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
    """Dots with intervals, one a row; a solid line at zero, a dashed one at the threshold."""
    step, top = 26, 8
    left = 12 + round(PIXELS_PER_LETTER * max((len(row.label) for row in rows), default=0))
    bottom = top + step * len(rows)
    body = []
    for tick in axis.ticks(5):
        x = axis.share(tick)
        body += [
            _line(x, top, x, bottom, "grid"),
            _text(x, bottom + 15, f"{tick:g}".replace("-", "−"), "tick", anchor="middle"),
        ]
    if zero:
        body.append(_line(axis.share(0), top, axis.share(0), bottom, "axis"))
    if is_number(threshold):
        body.append(
            _line(axis.share(threshold), top - 6, axis.share(threshold), bottom, "needed", f"needed: {threshold:g}")
        )
    for i, row in enumerate(rows):
        y = top + step * (i + 0.5)
        body.append(_text(0, y + 4, row.label, "name", anchor="end", dx=-8))
        body.append(_text(1, y + 4, row.text, "value", dx=8))
        if all(map(is_number, row.null)):
            median, most = (axis.share(v) for v in row.null)
            title = f"chance: median {row.null[0]:.3f}, 95th percentile {row.null[1]:.3f}"
            body.append(_line(median, y, most, y, "null", title))
        if is_number(row.needed):
            x = axis.share(row.needed)
            body.append(_line(x, y - 10, x, y + 10, "needed", f"needed: {row.needed:g}"))
        if not is_number(row.value):
            continue
        inside = [f'<g class="{row.style}">']
        if is_number(row.low) and is_number(row.high):
            inside.append(_line(axis.share(row.low), y, axis.share(row.high), y, "whisker"))
        title = f"{row.label}: {interval(row.value, row.low, row.high, 3)}"
        inside.append(_marker(axis.share(row.value), y, row.shape, "" if row.filled else "hollow", title))
        body += [*inside, "</g>"]
    if x_label:
        body.append(_text(0.5, bottom + 32, x_label, "tick", anchor="middle"))
    return figure(body, height=bottom + (38 if x_label else 20), label=label, left=left, right=right)


class Series(NamedTuple):
    """Points of one condition: x, y, low and high of y, and the label of each; `style` and `shape` of its marks."""

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
    """Lines through points, whiskers on the strong series alone; dashed lines at what the gates need, and a level line
    at what is lost by `luck`."""
    top, bottom = 24, height + 24

    def y_at(value: float) -> float:
        return bottom - y_axis.share(value) * height

    body = [_text(0, 12, y_label, "tick", dx=-34)]
    for tick in y_axis.ticks(5):
        y = y_at(tick)
        body += [
            _line(0, y, 1, y, "grid"),
            _text(0, y + 4, f"{tick:g}".replace("-", "−"), "tick", anchor="end", dx=-7),
        ]
    for tick in x_ticks or x_axis.ticks(4):
        x = x_axis.share(tick)
        body += [_line(x, bottom, x, bottom + 4, "axis"), _text(x, bottom + 17, x_text(tick), "tick", anchor="middle")]
    body.append(_line(0, y_at(0), 1, y_at(0), "axis"))
    if is_number(x_needed):
        body.append(
            _line(x_axis.share(x_needed), top, x_axis.share(x_needed), bottom, "needed", f"at most {x_needed:g}")
        )
    if is_number(y_needed):
        body.append(_line(0, y_at(y_needed), 1, y_at(y_needed), "needed", f"at least {y_needed:g}"))
    if is_number(luck):
        title = f"fresh noise alone: {luck:.2f}"
        body += ['<g class="s-resampled">', _line(0, y_at(luck), 1, y_at(luck), "curve", title), "</g>"]
    # The strong series is drawn last, on top.
    for s in sorted(series, key=lambda s: s.strong):
        points = [(x_axis.share(x), y_at(y)) for x, y in zip(s.x, s.y, strict=True)]
        body.append(f'<g class="{s.style}{"" if s.strong else " quiet"}">')
        for (x1, y1), (x2, y2) in zip(points, points[1:], strict=False):
            body.append(_line(x1, y1, x2, y2, "curve"))
        for i, (x, y) in enumerate(points):
            if s.strong and is_number(s.low[i]) and is_number(s.high[i]):
                body.append(_line(x, y_at(s.low[i]), x, y_at(s.high[i]), "whisker"))
            title = f"{s.name}, dose {s.labels[i]}: {interval(s.y[i], s.low[i], s.high[i])} at {s.x[i]:.3g}"
            body.append(_marker(x, y, s.shape, title=title))
            if s.strong and s.labels[i]:
                end = x > 0.92
                body.append(
                    _text(x, y - 8, s.labels[i], "dose", anchor="end" if end else "start", dx=-7 if end else 7)
                )
        body.append("</g>")
    body.append(_text(0.5, bottom + 34, x_label, "tick", anchor="middle"))
    return figure(body, height=bottom + 40, label=label, left=38, right=12)


def legend(items: Iterable[tuple[str, str, str]]) -> Markup:
    """(style, shape, name) of each kind of mark, as a line of HTML."""
    marks = [
        f'<span class="key {style}"><svg width="14" height="14" aria-hidden="true">'
        f'<svg class="mark" x="7" y="7" overflow="visible">{_SHAPES[shape]}</svg></svg>{escape(name)}</span>'
        for style, shape, name in items
    ]
    return Markup(f'<p class="legend">{"".join(marks)}</p>')


def share_bar(parts: Sequence[tuple[str, str, float]], *, label: str) -> Markup:
    """One bar of (style, name, share) parts that add up to 1."""
    body, x = [], 0.0
    for style, name, share in parts:
        body.append(_rect(x, x + share, 0, 16, style, f"{name}: {percent(share)}"))
        x += share
    return figure(body, height=16, label=label)


def gate_strip(gate: Mapping[str, Any]) -> Markup:
    """A gate's number and interval against its threshold, on a scale of its own. The numbers stand beside it."""
    if not is_number(gate["value"]):
        return Markup("")
    axis = axis_around([gate[k] for k in ("value", "low", "high", "threshold")], include=(0.0,), margin=0.1)
    body = [_line(0, 11, 1, 11, "grid")]
    if axis.low < 0 < axis.high:
        body.append(_line(axis.share(0), 6, axis.share(0), 16, "axis"))
    if is_number(gate["threshold"]):
        body.append(_line(axis.share(gate["threshold"]), 2, axis.share(gate["threshold"]), 20, "needed"))
    body.append('<g class="s-target">')
    if is_number(gate["low"]) and is_number(gate["high"]):
        body.append(_line(axis.share(gate["low"]), 11, axis.share(gate["high"]), 11, "whisker"))
    body += [_marker(axis.share(gate["value"]), 11, "circle", "" if gate["outcome"] == "passed" else "hollow"), "</g>"]
    return Markup(f'<svg class="strip" aria-hidden="true" width="100%" height="22">{"".join(body)}</svg>')


def chroma_png(chroma: np.ndarray) -> str:
    """Chroma `[frame, 12]`, low to high upwards, as a data URI: one colour whose opacity is the strength."""
    strength = np.clip(chroma.T[::-1], 0, None)
    alpha = np.round(255 * np.clip(strength / max(float(strength.max(initial=0)), 1e-6), 0, 1) ** 1.3).astype(np.uint8)
    pixels = np.empty((*alpha.shape, 4), np.uint8)
    pixels[..., :3], pixels[..., 3] = (20, 122, 122), alpha
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, format="PNG", optimize=True)
    return "data:image/png;base64," + base64.b64encode(file.getvalue()).decode()


class Window(NamedTuple):
    """A stretch of time to mark, in seconds: style `motif`, `return`, `rejected` or `expected`."""

    start_s: float
    stop_s: float
    style: str
    text: str


def clip_figure(
    audio: np.ndarray,
    sample_rate_hz: int,
    motif: Motif,
    windows: Sequence[Window],
    *,
    min_score: float,
    label: str,
    prefix_s: float | None = None,
) -> Markup:
    """Chromagram of a clip with windows marked, and below it how well the motif matches at every onset.

    Times before the motif has ended are not searched, and so have no score.
    """
    duration_s = len(audio) / sample_rate_hz
    time = Axis(0.0, duration_s)
    chroma = clip_features(audio, sample_rate_hz).chroma
    top, tall, low, deep = 18, 84, 118, 40
    bottom = low + deep
    x0, wide = -0.5 / FRAME_RATE_HZ / duration_s, len(chroma) / FRAME_RATE_HZ / duration_s
    body = [
        f'<svg x="0" y="{top}" width="100%" height="{tall}"><image href="{chroma_png(chroma)}" x="{_pc(x0)}" '
        f'width="{_pc(wide)}" height="{tall}" preserveAspectRatio="none"/></svg>',
        *(
            _text(0, top + tall * (11.5 - row) / 12 + 4, name, "tick", anchor="end", dx=-6)
            for row, name in ((0, "C"), (4, "E"), (7, "G"))
        ),
    ]
    for w in windows:
        x1, x2 = time.share(w.start_s), time.share(w.stop_s)
        y, high = (low, deep) if w.style == "expected" else (top, tall)
        body.append(_rect(x1, x2, y, high, f"w-{w.style}"))
        at_end = x1 > 0.8
        if w.text and w.style != "expected":
            body.append(
                _text(x2 if at_end else x1, top - 6, w.text, f"t-{w.style}", anchor="end" if at_end else "start")
            )
    curve = match_curve(audio, motif)
    motif_end_s = next((w.stop_s for w in windows if w.style == "motif"), 0.0)
    searched = curve.time_s >= motif_end_s - 1e-9
    points = " ".join(
        f"{1000 * time.share(t):.0f},{100 * (1 - s):.1f}"
        for t, s in zip(curve.time_s[searched], curve.score[searched], strict=True)
    )
    y_needed = bottom - min_score * deep
    body += [
        _line(0, bottom, 1, bottom, "axis"),
        _line(0, y_needed, 1, y_needed, "needed", f"least score of a return: {min_score:g}"),
        f'<svg x="0" y="{low}" width="100%" height="{deep}" viewBox="0 0 1000 100" preserveAspectRatio="none">'
        f'<polyline class="match" points="{points}"/></svg>',
        _text(0, low + 4, "1", "tick", anchor="end", dx=-6),
        _text(0, bottom + 4, "0", "tick", anchor="end", dx=-6),
    ]
    if prefix_s is not None:
        body.append(
            _line(time.share(prefix_s), top, time.share(prefix_s), bottom, "axis", f"continued from {prefix_s:g} s")
        )
    body += _time_ticks(time, bottom + 15)
    body.append(f'<line class="playhead" x1="0" x2="0" y1="{top}" y2="{bottom}"/>')
    return figure(body, height=bottom + 18, label=label, left=20, right=4)


PITCH_CLASSES = ("C", "C♯", "D", "E♭", "E", "F", "F♯", "G", "A♭", "A", "B♭", "B")


def passage_figure(chroma: np.ndarray, passage: Window, *, context_s: float, shift: int, label: str) -> Markup:
    """Chromagram of one passage and `context_s` seconds around it, the passage marked.

    `chroma` `[frame, 12]` of the whole clip (`clip_features`). `shift`: semitones by which the picture is moved down,
    so that a transposed return looks like its motif; the pitch classes at its side stay true.
    """
    duration_s = (len(chroma) - 1) / FRAME_RATE_HZ
    time = Axis(max(0.0, passage.start_s - context_s), min(duration_s, passage.stop_s + context_s))
    first, last = math.floor(time.low * FRAME_RATE_HZ), math.ceil(time.high * FRAME_RATE_HZ)
    shown = np.roll(chroma[first : last + 1], -shift, axis=1)
    top, tall, span_s = 4, 108, time.high - time.low
    x0, wide = ((first - 0.5) / FRAME_RATE_HZ - time.low) / span_s, len(shown) / FRAME_RATE_HZ / span_s
    bottom = top + tall
    body = [
        f'<svg x="0" y="{top}" width="100%" height="{tall}"><image href="{chroma_png(shown)}" x="{_pc(x0)}" '
        f'width="{_pc(wide)}" height="{tall}" preserveAspectRatio="none"/></svg>',
        *(
            _text(
                0, top + tall * (11.5 - row) / 12 + 4, PITCH_CLASSES[(row + shift) % 12], "tick", anchor="end", dx=-6
            )
            for row in (0, 4, 7)
        ),
        _rect(time.share(passage.start_s), time.share(passage.stop_s), top, tall, f"w-{passage.style}"),
    ]
    for i, tick in enumerate(time.ticks(6)):
        at = time.share(tick)
        anchor = "end" if at > 0.95 else "start" if at < 0.05 else "middle"
        body.append(_text(at, bottom + 15, f"{tick:g}" if i else f"{tick:g} s", "tick", anchor=anchor))
    body.append(f'<line class="playhead" x1="0" x2="0" y1="{top}" y2="{bottom}"/>')
    return figure(body, height=bottom + 18, label=label, left=24, right=4)


def onset_figure(
    events: pd.DataFrame, duration_s: float, motif: tuple[float, float] | None, *, bin_s: float = 0.5
) -> Markup:
    """How many accepted and rejected recurrences begin in each half second, over all clips; `motif` is framed where
    it lies in the same place in all."""
    edges = np.arange(0, duration_s + bin_s, bin_s)
    ok = events["accepted"].astype(bool)
    accepted, rejected = (np.histogram(events.loc[mask, "onset_s"], edges)[0] for mask in (ok, ~ok))
    height, top = 110, 8
    time, count = Axis(0.0, float(edges[-1])), Axis(0.0, float(max(1, (accepted + rejected).max(initial=1))))
    body = []
    for tick in count.ticks(3):
        y = top + height * (1 - count.share(tick))
        body += [_line(0, y, 1, y, "grid"), _text(0, y + 4, f"{tick:g}", "tick", anchor="end", dx=-6)]
    inset_s = 0.07 * bin_s
    for i, edge_s in enumerate(edges[:-1]):
        x1, x2 = time.share(edge_s + inset_s), time.share(edge_s + bin_s - inset_s)
        base = top + height
        for counts, style, name in ((accepted, "b-yes", "valid returns"), (rejected, "b-no", "rejected")):
            if counts[i]:
                tall = height * count.share(counts[i])
                base -= tall
                title = f"{counts[i]} {name} begin at {edge_s:g}–{edge_s + bin_s:g} s"
                body.append(_rect(x1, x2, base, tall, style, title))
    if motif:
        start, stop = map(time.share, motif)
        body += [_rect(start, stop, top, height, "w-motif"), _text(start, top + 14, "motif", "t-motif", dx=5)]
    body.append(_line(0, top + height, 1, top + height, "axis"))
    body += _time_ticks(time, top + height + 15)
    label = f"Onsets over time: {int(accepted.sum())} valid returns and {int(rejected.sum())} rejected candidates."
    return figure(body, height=top + height + 20, label=label, left=30, right=10)
