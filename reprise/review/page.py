"""The review page: events to listen to and to decide about, as one self-contained HTML page.

Which events, and in which order. All candidates compete, those that the tests accepted and those that they rejected.
First come the uncertain ones. Each test gives a margin: how far its number lies from the threshold, as a share of the
way to the end of the number's range, positive where it passes and negative where it fails, within -1..1 (the ends:
`candidate_score` and 1 for the score; 1 and the smallest p-value that the surrogates allow; no gap and a gap of twice
the threshold; score less timbre score from -1 to 1). An event is accepted if all its margins are positive, so that its
worst margin says what would have to change for the decision to be another one, and the events are sorted by the worst
margin's distance from 0. There is room for `max_events`: those that the tests accepted come before the others, since
with `labels.reviewed_only` nothing else counts, and of each kind the uncertain ones, where a reviewer's time changes
most.

What a page holds. Two passages an event, A the motif and B the candidate, each with a little context, 16-bit FLAC at
most `reprise.report.sound.AUDIO_RATE_HZ`; a motif's sound is embedded once however many candidates it has. The
chromagram of a transposed candidate is moved so that it looks like its motif. No reviewer's decision is on the page,
so that nobody is led by another's.

Degenerate input: without candidates the page says so. Events of equal content (clips of equal audio) are shown once.
"""

from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np
import pandas as pd

from reprise.audio.chroma import clip_features
from reprise.report.figures.chromagrams import Window, passage_figure
from reprise.report.numbers import number, p_text
from reprise.report.sound import Heard, encode_flac, flac_uri
from reprise.report.templating import page_template
from reprise.report.words import REASONS

FADE_S = 0.01  # cut sounds click


class _Test(NamedTuple):
    """A test of an event: its name in `reason`, its title, and what it measured and needed, as text."""

    name: str
    title: str
    value: str
    needed: str


def margins(events: pd.DataFrame, thresholds: Mapping[str, float]) -> pd.DataFrame:
    """How far each number lies from its threshold, -1..1, below 0 where the test fails: columns score, p_value,
    p_others (where the events have it; NaN where it was not tested), gap and timbre.

    thresholds: the event settings.
    """

    def share(value: pd.Series, threshold: float, worst: float, best: float) -> np.ndarray:
        beyond = (value - threshold).to_numpy(dtype=np.float64) * np.sign(best - worst)
        up, down = abs(best - threshold), abs(threshold - worst)
        # Where there is no way to the end, the number is at it.
        passing, failing = beyond / up if up > 0 else 1.0, beyond / down if down > 0 else -1.0
        return np.clip(np.where(beyond >= 0, passing, failing), -1, 1)

    t = thresholds
    least_p = 1 / (1 + t["n_surrogates"])
    found = {
        "score": share(events["score"], t["min_score"], t["candidate_score"], 1.0),
        "p_value": share(events["p_value"], t["max_p_value"], 1.0, least_p),
        "gap": share(events["gap_s"], t["min_gap_s"], 0.0, 2 * t["min_gap_s"]),
        "timbre": share(events["score"] - events["timbre_score"], t["timbre_margin"], -1.0, 1.0),
    }
    if "p_others" in events:
        found["p_others"] = share(events["p_others"], t["max_p_value"], 1.0, 0.0)
    return pd.DataFrame(found, index=events.index)


def to_review(events: pd.DataFrame, thresholds: Mapping[str, float], *, max_events: int) -> pd.DataFrame:
    """The events for the page in its order, uncertain ones first; see the module. `events` with event_id."""
    distance = margins(events, thresholds).min(axis=1).abs()
    order = events.assign(distance=distance).sort_values(["distance", "clip_id", "onset_s"], kind="stable")
    order = order.drop_duplicates("event_id").drop(columns="distance")
    rejected = ~order["accepted"].astype(bool)
    chosen = rejected.sort_values(kind="stable").index[:max_events]
    return order[order.index.isin(chosen)].reset_index(drop=True)


def cut(audio: np.ndarray, sample_rate_hz: int, start_s: float, stop_s: float) -> np.ndarray:
    """The audio `[sample]` between two times, as far as it goes, faded in and out within `FADE_S`."""
    first, last = (round(max(0.0, s) * sample_rate_hz) for s in (start_s, stop_s))
    piece = np.array(audio[first:last], np.float32)
    ramp = np.linspace(0, 1, min(round(FADE_S * sample_rate_hz), len(piece)), dtype=np.float32)
    piece[: len(ramp)] *= ramp
    piece[len(piece) - len(ramp) :] *= ramp[::-1]
    return piece


def checks_of(event: Mapping[str, Any], thresholds: Mapping[str, float]) -> list[dict[str, Any]]:
    """A row a test: title, value, needed, and whether it passed, as the pipeline decided (None: no test)."""
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
    event: Mapping[str, Any], heard: Heard, chroma: np.ndarray, settings: Mapping[str, Any], sound_a: str
) -> dict[str, Any]:
    """Everything the template shows of one event. `chroma` `[frame, 12]` of its clip; `sound_a` names A's sound."""
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
                label=f"Chromagram of {what}, {start:.1f} to {stop:.1f} s of {heard.clip_id}",
            ),
        }
        for key, what, start, stop, style, shifted in (
            ("a", "the motif", start_a, stop_a, styles[0], 0),
            ("b", "its return?", start_b, stop_b, styles[1], shift),
        )
    ]
    sound_b = cut(heard.audio, heard.sample_rate_hz, start_b - context_s, stop_b + context_s)
    return {
        "id": event["event_id"],
        "clip": heard.clip_id,
        "prompt": heard.prompt,
        "onset_s": round(float(start_b), 3),
        "parts": parts,
        "sound_a": sound_a,
        "sound_b": flac_uri(encode_flac(sound_b, heard.sample_rate_hz)),
        "tests": checks_of(event, settings["events"]),
        "outcome": "accepted" if event["accepted"] else f"rejected: {', '.join(reasons)}",
        "shift": shift,
    }


def render_review(
    events: pd.DataFrame, clips: Mapping[str, Heard], settings: Mapping[str, Any], *, n_events: int
) -> str:
    """The page of one study. `events` as `to_review` gives them, of `n_events` in all; `clips` by clip_id; `settings`
    with study, events and review."""
    chroma: dict[str, np.ndarray] = {}
    sounds: dict[str, str] = {}
    names: dict[tuple[str, float, float], str] = {}
    views = []
    for event in events.to_dict("records"):
        heard = clips[event["clip_id"]]
        if heard.clip_id not in chroma:
            chroma[heard.clip_id] = clip_features(heard.audio, heard.sample_rate_hz).chroma
        start_s, duration_s = event["motif_start_s"], event["motif_duration_s"]
        name = names.setdefault((heard.clip_id, start_s, duration_s), f"m{len(names)}")
        if name not in sounds:
            context_s = settings["review"]["context_s"]
            piece = cut(heard.audio, heard.sample_rate_hz, start_s - context_s, start_s + duration_s + context_s)
            sounds[name] = flac_uri(encode_flac(piece, heard.sample_rate_hz))
        views.append(event_view(event, heard, chroma[heard.clip_id], settings, name))
    return page_template("review.html.j2").render(
        study=settings["study"],
        events=views,
        n_events=n_events,
        page={"study": settings["study"], "sounds": sounds},
    )
