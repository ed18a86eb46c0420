"""The sound of a clip or passage, drawn as its pitch classes over time."""

import base64
import io
import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from markupsafe import Markup
from PIL import Image

from reprise.audio.chroma import FRAME_RATE_HZ, clip_features
from reprise.report.figures.svg import Axis, figure, line, pc, rect, text_at, time_ticks
from reprise.targets.target import ScoreCurve


def chroma_png(chroma: np.ndarray) -> str:
    """Chroma `[frame, 12]` as a data URI, low pitch classes at the bottom. The opacity shows the strength."""
    strength = np.clip(chroma.T[::-1], 0, None)
    alpha = np.round(255 * np.clip(strength / max(float(strength.max(initial=0)), 1e-6), 0, 1) ** 1.3).astype(np.uint8)
    pixels = np.empty((*alpha.shape, 4), np.uint8)
    pixels[..., :3], pixels[..., 3] = (20, 122, 122), alpha
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, format="PNG", optimize=True)
    return "data:image/png;base64," + base64.b64encode(file.getvalue()).decode()


class Window(NamedTuple):
    """A stretch of time to mark, in seconds: style `reference`, `event`, `rejected` or `expected`."""

    start_s: float
    stop_s: float
    style: str
    text: str


def clip_figure(
    audio: np.ndarray,
    sample_rate_hz: int,
    curve: ScoreCurve,
    windows: Sequence[Window],
    *,
    min_score: float,
    event: str,
    label: str,
    prefix_s: float | None = None,
) -> Markup:
    """Chromagram of a clip with marked windows, and below it the score of an event at every time.

    Parameters
    ----------
    audio : floating point array `[sample]`
        Mono audio.
    sample_rate_hz : int
        Samples per second.
    curve : ScoreCurve
        The scores.
    windows : sequence of Window
        What is marked. Times before the end of an event's reference are not searched, so they show no score.
    min_score : float
        The least score of an event, drawn as a dashed line.
    event : str
        What an event is called.
    label : str
        The figure as text.
    prefix_s : float, optional
        Where a continuation begins.
    """
    duration_s = len(audio) / sample_rate_hz
    time = Axis(0.0, duration_s)
    chroma = clip_features(audio, sample_rate_hz).chroma
    top, tall, low, deep = 18, 84, 118, 40
    bottom = low + deep
    x0, wide = -0.5 / FRAME_RATE_HZ / duration_s, len(chroma) / FRAME_RATE_HZ / duration_s
    body = [
        f'<svg x="0" y="{top}" width="100%" height="{tall}"><image href="{chroma_png(chroma)}" x="{pc(x0)}" '
        f'width="{pc(wide)}" height="{tall}" preserveAspectRatio="none"/></svg>',
        *(
            text_at(0, top + tall * (11.5 - row) / 12 + 4, name, "tick", anchor="end", dx=-6)
            for row, name in ((0, "C"), (4, "E"), (7, "G"))
        ),
    ]
    for w in windows:
        x1, x2 = time.share(w.start_s), time.share(w.stop_s)
        y, high = (low, deep) if w.style == "expected" else (top, tall)
        body.append(rect(x1, x2, y, high, f"w-{w.style}"))
        at_end = x1 > 0.8
        if w.text and w.style != "expected":
            body.append(
                text_at(x2 if at_end else x1, top - 6, w.text, f"t-{w.style}", anchor="end" if at_end else "start")
            )
    reference_end_s = next((w.stop_s for w in windows if w.style == "reference"), 0.0)
    searched = curve.time_s >= reference_end_s - 1e-9
    points = " ".join(
        f"{1000 * time.share(t):.0f},{100 * (1 - s):.1f}"
        for t, s in zip(curve.time_s[searched], curve.score[searched], strict=True)
    )
    y_needed = bottom - min_score * deep
    body += [
        line(0, bottom, 1, bottom, "axis"),
        line(0, y_needed, 1, y_needed, "needed", f"least score of {event}: {min_score:g}"),
        f'<svg x="0" y="{low}" width="100%" height="{deep}" viewBox="0 0 1000 100" preserveAspectRatio="none">'
        f'<polyline class="match" points="{points}"/></svg>',
        text_at(0, low + 4, "1", "tick", anchor="end", dx=-6),
        text_at(0, bottom + 4, "0", "tick", anchor="end", dx=-6),
    ]
    if prefix_s is not None:
        body.append(
            line(time.share(prefix_s), top, time.share(prefix_s), bottom, "axis", f"continued from {prefix_s:g} s")
        )
    body += time_ticks(time, bottom + 15)
    body.append(f'<line class="playhead" x1="0" x2="0" y1="{top}" y2="{bottom}"/>')
    return figure(body, height=bottom + 18, label=label, left=20, right=4)


PITCH_CLASSES = ("C", "C♯", "D", "E♭", "E", "F", "F♯", "G", "A♭", "A", "B♭", "B")


def passage_figure(chroma: np.ndarray, passage: Window, *, context_s: float, shift: int, label: str) -> Markup:
    """Chromagram of one passage and `context_s` seconds around it, with the passage marked.

    Parameters
    ----------
    chroma : array `[frame, 12]`
        Of the whole clip (`clip_features`).
    passage : Window
        What is marked.
    context_s : float
        Seconds shown before and after it.
    shift : int
        Semitones by which the picture is moved down, so that a transposed passage looks like what it repeats. The
        pitch class labels at the side stay correct.
    label : str
        The figure as text.
    """
    duration_s = (len(chroma) - 1) / FRAME_RATE_HZ
    time = Axis(max(0.0, passage.start_s - context_s), min(duration_s, passage.stop_s + context_s))
    first, last = math.floor(time.low * FRAME_RATE_HZ), math.ceil(time.high * FRAME_RATE_HZ)
    shown = np.roll(chroma[first : last + 1], -shift, axis=1)
    top, tall, span_s = 4, 108, time.high - time.low
    x0, wide = ((first - 0.5) / FRAME_RATE_HZ - time.low) / span_s, len(shown) / FRAME_RATE_HZ / span_s
    bottom = top + tall
    body = [
        f'<svg x="0" y="{top}" width="100%" height="{tall}"><image href="{chroma_png(shown)}" x="{pc(x0)}" '
        f'width="{pc(wide)}" height="{tall}" preserveAspectRatio="none"/></svg>',
        *(
            text_at(
                0, top + tall * (11.5 - row) / 12 + 4, PITCH_CLASSES[(row + shift) % 12], "tick", anchor="end", dx=-6
            )
            for row in (0, 4, 7)
        ),
        rect(time.share(passage.start_s), time.share(passage.stop_s), top, tall, f"w-{passage.style}"),
    ]
    for i, tick in enumerate(time.ticks(6)):
        at = time.share(tick)
        anchor = "end" if at > 0.95 else "start" if at < 0.05 else "middle"
        body.append(text_at(at, bottom + 15, f"{tick:g}" if i else f"{tick:g} s", "tick", anchor=anchor))
    body.append(f'<line class="playhead" x1="0" x2="0" y1="{top}" y2="{bottom}"/>')
    return figure(body, height=bottom + 18, label=label, left=24, right=4)
