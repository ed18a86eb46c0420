"""The review page: one self-contained HTML page with events to listen to and decide about.

reprise/review/order.py chooses and sorts the events.

Each event has two passages: A is the motif, B the candidate. Both are played with a little context, as 16-bit FLAC
with a sample rate of at most `reprise.report.sound.AUDIO_RATE_HZ`. The sound of a motif is embedded once, even if it
has several candidates. The chromagram of a transposed candidate is shifted so that it looks like its motif. The page
does not show decisions of other reviewers, so that they cannot influence anybody.

Degenerate input: without candidates the page says so.
"""

from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np
import pandas as pd

from reprise.audio.chroma import clip_features
from reprise.report.figures.chromagrams import Window, passage_figure
from reprise.report.numbers import number, p_text
from reprise.report.sound import ExampleClip, encode_flac, flac_uri
from reprise.report.templating import page_template
from reprise.report.words import REASONS

FADE_S = 0.01  # without a fade, cut audio clicks


class _Test(NamedTuple):
    """A test of an event: its name in `reason`, its title, the measured value, and the needed value, as text."""

    name: str
    title: str
    value: str
    needed: str


def cut(audio: np.ndarray, sample_rate_hz: int, start_s: float, stop_s: float) -> np.ndarray:
    """Cut out the audio between two times, and fade it in and out over `FADE_S`.

    Parameters
    ----------
    audio
        Mono audio, `[sample]`.
    sample_rate_hz
        Its sample rate.
    start_s, stop_s
        The times in seconds. Times outside the audio are moved to its ends.

    Returns
    -------
    numpy.ndarray
        A copy of this part, float32 `[sample]`.
    """
    first, last = (round(max(0.0, s) * sample_rate_hz) for s in (start_s, stop_s))
    piece = np.array(audio[first:last], np.float32)
    ramp = np.linspace(0, 1, min(round(FADE_S * sample_rate_hz), len(piece)), dtype=np.float32)
    piece[: len(ramp)] *= ramp
    piece[len(piece) - len(ramp) :] *= ramp[::-1]
    return piece


def checks_of(event: Mapping[str, Any], thresholds: Mapping[str, float]) -> list[dict[str, Any]]:
    """One dict per test: title, value, needed, and passed as the pipeline decided (None if it is not a test)."""
    failed = set(filter(None, event["reason"].split(", ")))
    t, most = thresholds, f"≤ {thresholds['max_p_value']:g}"
    least = event["score"] - t["timbre_margin"]
    rows = [
        _Test("score", "match score", number(event["score"], 3), f"≥ {t['min_score']:g}"),
        _Test("p_value", "p_value, against surrogates", p_text(event["p_value"]), most),
        _Test("gap", "gap_s, without a match before", f"{number(event['gap_s'])} s", f"≥ {t['min_gap_s']:g} s"),
        _Test("timbre", "timbre_score", number(event["timbre_score"], 3), f"≤ {number(least, 3)}, score − margin"),
    ]
    if not np.isnan(event.get("p_others", np.nan)):
        rows.insert(2, _Test("p_others", "p_others, against other clips", p_text(event["p_others"]), most))
    rows += [_Test(name, REASONS.get(name, name), "", "") for name in sorted(failed - {row.name for row in rows})]
    views = [row._asdict() | {"passed": row.name not in failed} for row in rows]
    steps = int(event["transposition"])
    views.append({"title": "transposition", "value": f"{steps} semitones up" if steps else "none"})
    views.append({"title": "tempo_ratio", "value": f"{number(event['tempo_ratio'])} × as fast"})
    return [{"needed": "", "passed": None, **view} for view in views]


def event_view(
    event: Mapping[str, Any], clip: ExampleClip, chroma: np.ndarray, settings: Mapping[str, Any], sound_a: str
) -> dict[str, Any]:
    """What the template shows about one event.

    Parameters
    ----------
    event
        One row of the events table, with event_id.
    clip
        The event's clip.
    chroma
        Chromagram of the clip, `[frame, 12]`.
    settings
        The settings with `events` and `review`.
    sound_a
        Key of the motif's sound in the page's table of sounds.
    """
    context_s, shift = settings["review"]["context_s"], int(event["transposition"])
    start_a, start_b = event["motif_start_s"], event["onset_s"]
    stop_a, stop_b = start_a + event["motif_duration_s"], start_b + event["duration_s"]
    reasons = [REASONS.get(r, r) for r in filter(None, event["reason"].split(", "))]
    styles = ("motif", "return" if event["accepted"] else "rejected")
    parts = [
        {
            "key": key,
            "title": f"{key.upper()}: {what}, {start:.1f} to {stop:.1f} s",
            "svg": passage_figure(
                chroma,
                Window(start, stop, style, ""),
                context_s=context_s,
                shift=shifted,
                label=f"Chromagram of {what}, {start:.1f} to {stop:.1f} s of {clip.clip_id}",
            ),
        }
        for key, what, start, stop, style, shifted in (
            ("a", "the motif", start_a, stop_a, styles[0], 0),
            ("b", "its return?", start_b, stop_b, styles[1], shift),
        )
    ]
    sound_b = cut(clip.audio, clip.sample_rate_hz, start_b - context_s, stop_b + context_s)
    return {
        "id": event["event_id"],
        "clip": clip.clip_id,
        "prompt": clip.prompt,
        "onset_s": round(float(start_b), 3),
        "parts": parts,
        "sound_a": sound_a,
        "sound_b": flac_uri(encode_flac(sound_b, clip.sample_rate_hz)),
        "tests": checks_of(event, settings["events"]),
        "outcome": "accepted" if event["accepted"] else f"rejected: {', '.join(reasons)}",
        "shift": shift,
    }


def render_review(
    events: pd.DataFrame, clips: Mapping[str, ExampleClip], settings: Mapping[str, Any], *, n_events: int
) -> str:
    """Render the review page of one study.

    Parameters
    ----------
    events
        The events to show, from `to_review`.
    clips
        The clips, by clip_id.
    settings
        The settings with `study` (its name), `events` and `review`.
    n_events
        Number of all events of the study.

    Returns
    -------
    str
        The HTML page.
    """
    chroma: dict[str, np.ndarray] = {}
    sounds: dict[str, str] = {}
    names: dict[tuple[str, float, float], str] = {}
    views = []
    for event in events.to_dict("records"):
        clip = clips[event["clip_id"]]
        if clip.clip_id not in chroma:
            chroma[clip.clip_id] = clip_features(clip.audio, clip.sample_rate_hz).chroma
        start_s, duration_s = event["motif_start_s"], event["motif_duration_s"]
        name = names.setdefault((clip.clip_id, start_s, duration_s), f"m{len(names)}")
        if name not in sounds:
            context_s = settings["review"]["context_s"]
            piece = cut(clip.audio, clip.sample_rate_hz, start_s - context_s, start_s + duration_s + context_s)
            sounds[name] = flac_uri(encode_flac(piece, clip.sample_rate_hz))
        views.append(event_view(event, clip, chroma[clip.clip_id], settings, name))
    return page_template("review.html.j2").render(
        study=settings["study"],
        events=views,
        n_events=n_events,
        page={"study": settings["study"], "sounds": sounds},
    )
