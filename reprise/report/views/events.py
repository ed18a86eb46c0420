"""Does the motif return? What was found in all clips, and a few clips to see and hear."""

from typing import Any

import pandas as pd

from reprise.report.figures.bars import onset_figure
from reprise.report.figures.chromagrams import clip_figure
from reprise.report.numbers import p_text
from reprise.report.results import Results
from reprise.report.views.passages import found_window, motif_window, template_of
from reprise.report.words import REASONS
from reprise.verdict.reasons import count_reasons


def nothing_because(clip_summaries: pd.DataFrame) -> list[str]:
    """Why clips have no candidates, the most common reason first."""
    counted = count_reasons(clip_summaries.loc[clip_summaries["no_events_because"] != "", "no_events_because"])
    return [f"{n} {'clip' if n == 1 else 'clips'}: {why}" for why, n in counted.items()]


def events_view(study: Results) -> dict[str, Any]:
    """The recurrences found over all clips, and example clips with players."""
    settings, events = study.settings["events"], study.events
    given_motif = motif_window(settings["motif_start_s"], settings["motif_duration_s"])
    unknown = events["unknown"].astype(bool)
    n_unknown, events = int(unknown.sum()), events[~unknown]
    ok = events["accepted"].astype(bool)
    reasons = events.loc[~ok, "reason"].str.split(", ").explode().value_counts()
    duration_s = study.settings["generation"]["duration_s"]
    clips = []
    for example in study.examples:
        found = study.events[study.events["clip_id"] == example.clip_id].sort_values("onset_s")
        places = found[["motif_start_s", "motif_duration_s"]].drop_duplicates()
        windows = [motif_window(*place) for place in places.itertuples(index=False)] or [given_motif]
        motif, told = windows[0], []
        for e in found.itertuples():
            windows.append(found_window(e.onset_s, e.duration_s, e.score, bool(e.accepted)))
            what = "valid return" if e.accepted else "unreviewed" if e.unknown else "rejected"
            what += " by review" if e.review == "accept" else ""
            why = "" if e.accepted else f" ({', '.join(REASONS.get(r, r) for r in e.reason.split(', '))})"
            told.append(
                f"{what} at {e.onset_s:.1f} s, score {e.score:.2f}, p {p_text(e.p_value)}, gap {e.gap_s:.1f} s, "
                f"timbre {e.timbre_score:.2f}, transposed by {e.transposition}{why}"
            )
        clips.append(
            {
                "title": f"{example.clip_id}: {example.prompt}" if example.prompt else example.clip_id,
                "why": example.why,
                "svg": clip_figure(
                    example.audio,
                    example.sample_rate_hz,
                    template_of(example, motif),
                    windows,
                    min_score=settings["min_score"],
                    label=f"Chromagram of {example.clip_id}. " + ("; ".join(told) or "no candidate for a return"),
                ),
                "told": told or ["no passage is similar to the motif"],
                "sound": (example.audio, example.sample_rate_hz),
                "file": example.file,
            }
        )
    return {
        "n_clips": len(study.clip_summaries),
        "n_returning": int(events.loc[ok, "clip_id"].nunique()),
        "n_accepted": int(ok.sum()),
        "n_rejected": int((~ok).sum()),
        "n_unreviewed": n_unknown,
        "nothing_because": nothing_because(study.clip_summaries),
        "reasons": ", ".join(f"{REASONS.get(r, r)} {n}" for r, n in reasons.items()),
        "svg": onset_figure(events, duration_s, given_motif[:2] if settings["motif"] == "opening" else None)
        if len(events)
        else "",
        "clips": clips,
        "min_score": settings["min_score"],
    }
