"""Which events were found in all clips, and a few clips to see and hear."""

from typing import Any

import pandas as pd

from reprise.report.figures.bars import onset_figure
from reprise.report.figures.chromagrams import clip_figure
from reprise.report.results import Results
from reprise.report.sound import ExampleClip
from reprise.report.views.passages import found_window, reference_windows, score_curve
from reprise.report.words import reason_words, reasons_text
from reprise.verdict.reasons import count_reasons


def nothing_because(clip_summaries: pd.DataFrame) -> list[str]:
    """Why clips have no candidates, the most common reason first."""
    counted = count_reasons(clip_summaries.loc[clip_summaries["no_events_because"] != "", "no_events_because"])
    return [f"{n} {'clip' if n == 1 else 'clips'}: {why}" for why, n in counted.items()]


def events_view(study: Results) -> dict[str, Any]:
    """The events found over all clips, and example clips with players."""
    settings, events, view = study.settings["events"], study.events, study.target.view
    extent = study.target.extent(settings)
    usual = (extent.earliest_s - extent.reference_s, extent.reference_s)
    unknown = events["unknown"].astype(bool)
    n_unknown, events = int(unknown.sum()), events[~unknown]
    ok = events["accepted"].astype(bool)
    reasons = events.loc[~ok, "reason"].str.split(", ").explode().value_counts()
    places = events[["reference_start_s", "reference_duration_s"]].drop_duplicates()
    same_place = len(places) == 1 and places["reference_duration_s"].iloc[0] > 0
    start_s, length_s = places.iloc[0] if same_place else usual
    reference = (float(start_s), float(start_s + length_s)) if same_place else None
    return {
        "n_clips": len(study.clip_summaries),
        "n_with_event": int(events.loc[ok, "clip_id"].nunique()),
        "n_accepted": int(ok.sum()),
        "n_rejected": int((~ok).sum()),
        "n_unreviewed": n_unknown,
        "nothing_because": nothing_because(study.clip_summaries),
        "reasons": ", ".join(f"{reason_words(r, view)} {n}" for r, n in reasons.items()),
        "svg": onset_figure(events, study.settings["generation"]["duration_s"], view.words, reference)
        if len(events)
        else "",
        "clips": [_example_view(study, example, usual) for example in study.examples],
        "min_score": settings["min_score"],
        "has_reference": reference is not None,
    }


def _example_view(study: Results, example: ExampleClip, usual: tuple[float, float]) -> dict[str, Any]:
    """A clip with its candidates. usual: start and length of a reference, for a clip without any candidate."""
    view, min_score = study.target.view, study.settings["events"]["min_score"]
    found = study.events[study.events["clip_id"] == example.clip_id].sort_values("onset_s")
    places = found[["reference_start_s", "reference_duration_s"]].drop_duplicates()
    references = [(float(start), float(length)) for start, length in places.to_numpy()] or [usual]
    windows = [window for start, length in references for window in reference_windows(start, length, view.words)]
    told = []
    for e in found.to_dict("records"):
        counts = bool(e["accepted"])
        windows.append(found_window(e["onset_s"], e["duration_s"], e["score"], view.words, counts=counts))
        what = f"valid {view.words.event}" if counts else "unreviewed" if e["unknown"] else "rejected"
        what += " by review" if e["review"] == "accept" else ""
        why = "" if counts else f" ({reasons_text(e['reason'], view)})"
        told.append(f"{what} at {e['onset_s']:.1f} s, {view.brief(e)}{why}")
    return {
        "title": f"{example.clip_id}: {example.prompt}" if example.prompt else example.clip_id,
        "why": example.why,
        "svg": clip_figure(
            example.audio,
            example.sample_rate_hz,
            score_curve(study, example, *references[0]),
            windows,
            min_score=min_score,
            event=view.words.an_event,
            label=f"Chromagram of {example.clip_id}. "
            + ("; ".join(told) or f"no candidate for {view.words.an_event}"),
        ),
        "told": told or [view.words.nothing_found],
        "sound": (example.audio, example.sample_rate_hz),
        "file": example.file,
    }
