"""The review page: one self-contained HTML page with events to listen to and decide about.

reprise/review/order.py chooses and sorts the events.

Each event has two passages: A is its reference, such as the motif, and B the candidate. A target without references
has only B. Both are played with a little context, as 16-bit FLAC with a sample rate of at most
`reprise.report.sound.AUDIO_RATE_HZ`. The sound of a reference is embedded once, even if it has several candidates. The
chromagram of a transposed candidate is shifted so that it looks like its motif. The page does not show decisions of
other reviewers, so that they cannot influence anybody.

Degenerate input: without candidates the page says so.
"""

from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd

from reprise.audio.chroma import clip_features
from reprise.report.figures.chromagrams import Window, passage_figure
from reprise.report.sound import ExampleClip, encode_flac, flac_uri
from reprise.report.templating import page_template
from reprise.report.words import reason_words, reasons_text
from reprise.targets.view import EventTest, TargetView

FADE_S = 0.01  # without a fade, cut audio clicks


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


def checks_of(event: Mapping[str, Any], settings: Mapping[str, Any], view: TargetView) -> list[dict[str, Any]]:
    """One dict per test or fact: title, value, needed, and passed as the pipeline decided (None if it is a fact).

    A test that failed, but that the view does not show, is named.
    """
    failed = set(filter(None, event["reason"].split(", ")))
    tests = view.tests(event, settings)
    shown = {test.name for test in tests}
    tests = [*tests, *(EventTest(name, reason_words(name, view), "", "") for name in sorted(failed - shown))]
    rows: list[dict[str, Any]] = [test._asdict() | {"passed": test.name not in failed} for test in tests]
    return rows + [{"title": t, "value": text, "needed": "", "passed": None} for t, text in view.facts(event)]


def event_view(
    event: Mapping[str, Any],
    clip: ExampleClip,
    chroma: np.ndarray,
    settings: Mapping[str, Any],
    view: TargetView,
    sound_a: str,
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
    view
        The words and tests of the study's target.
    sound_a
        Key of the reference's sound in the page's table of sounds; "" without a reference.
    """
    context_s, shift = settings["review"]["context_s"], int(event.get("transposition", 0))
    start_a, start_b = event["reference_start_s"], event["onset_s"]
    stop_a, stop_b = start_a + event["reference_duration_s"], start_b + event["duration_s"]
    words, style_b = view.words, "event" if event["accepted"] else "rejected"
    passages = [("b", f"{words.an_event}?", start_b, stop_b, style_b, shift)]
    if sound_a:
        passages = [
            ("a", f"the {words.reference}", start_a, stop_a, "reference", 0),
            ("b", f"its {words.event}?", start_b, stop_b, style_b, shift),
        ]
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
        for key, what, start, stop, style, shifted in passages
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
        "tests": checks_of(event, settings["events"], view),
        "outcome": "accepted" if event["accepted"] else f"rejected: {reasons_text(event['reason'], view)}",
        "shift": shift,
    }


def render_review(
    events: pd.DataFrame,
    clips: Mapping[str, ExampleClip],
    settings: Mapping[str, Any],
    view: TargetView,
    *,
    n_events: int,
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
    view
        The words and tests of the study's target.
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
        start_s, duration_s = event["reference_start_s"], event["reference_duration_s"]
        name = names.setdefault((clip.clip_id, start_s, duration_s), f"m{len(names)}") if duration_s > 0 else ""
        if name and name not in sounds:
            context_s = settings["review"]["context_s"]
            piece = cut(clip.audio, clip.sample_rate_hz, start_s - context_s, start_s + duration_s + context_s)
            sounds[name] = flac_uri(encode_flac(piece, clip.sample_rate_hz))
        views.append(event_view(event, clip, chroma[clip.clip_id], settings, view, name))
    return page_template("review.html.j2").render(
        study=settings["study"],
        events=views,
        words=view.words,
        n_events=n_events,
        page={"study": settings["study"], "sounds": sounds},
    )
