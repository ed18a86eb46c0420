"""What does an edit sound like? Clips before and after the edit, side by side."""

import math
from typing import Any

import pandas as pd

from reprise.report.figures.chromagrams import Window, clip_figure
from reprise.report.numbers import is_number, number
from reprise.report.results import Results
from reprise.report.views.edits import KINDS
from reprise.report.views.passages import found_window, reference_windows
from reprise.targets.target import best_event

N_EDITED_CLIPS = 2


def players_view(study: Results, name: str) -> list[dict[str, Any]]:
    """Baseline and edited continuations of a candidate's first clips, side by side."""
    edited, effects = study.edited.get(name, ()), study.effects.get(name, pd.DataFrame())
    min_score, prefix_s = study.settings["events"]["min_score"], study.settings["ablation"]["prefix_s"]
    titles = {"baseline": "Untouched", **{k: v.capitalize() for k, v in KINDS.items()}, "target": "Candidate removed"}
    words, groups = study.target.view.words, []
    for clip_id in list(dict.fromkeys(e.clip_id for e in edited))[:N_EDITED_CLIPS]:
        of_clip = {e.kind: e for e in edited if e.clip_id == clip_id and e.window in ("", "until_event")}
        if "baseline" not in of_clip:
            continue
        # Everything is scored against the reference in the untouched clip, as in the measured effects.
        row = _effect_row(effects, clip_id, "baseline")
        untouched, start_s, duration_s = of_clip["baseline"], row["reference_start_s"], row["reference_duration_s"]
        settings = study.settings["events"]
        scorer = study.target.scorer(
            untouched.audio, untouched.sample_rate_hz, settings, start_s=start_s, duration_s=duration_s
        )
        cards = []
        for kind in (k for k in titles if k in of_clip):
            e = of_clip[kind]
            row = _effect_row(effects, clip_id, kind)
            score, found = row.get("score"), row.get("found")
            start, stop = (row.get(f"target_{end}_s", math.nan) for end in ("start", "stop"))
            curve = scorer(e.audio)
            windows = reference_windows(start_s, duration_s, words)
            if is_number(start):
                windows.append(Window(start, stop, "expected", ""))
                best, onset_s, length_s = best_event(curve, start_s=start, stop_s=stop)
                if best > 0:
                    windows.append(found_window(onset_s, length_s, best, words, counts=best >= min_score))
            told = f"best score {number(score)}: {words.an_event if found else f'no {words.event}'}"
            if kind != "baseline" and is_number(row.get("damage_nats")):
                told += f"; damage {number(row['damage_nats'], 3)} nats"
            cards.append(
                {
                    "title": titles[kind],
                    "told": told,
                    "svg": clip_figure(
                        e.audio,
                        e.sample_rate_hz,
                        curve,
                        windows,
                        min_score=min_score,
                        event=words.an_event,
                        label=f"Chromagram of {clip_id}, {titles[kind].lower()}. {told}",
                        prefix_s=prefix_s,
                    ),
                    "sound": (e.audio, e.sample_rate_hz),
                    "file": e.file,
                }
            )
        groups.append({"clip": clip_id, "cards": cards})
    return groups


def _effect_row(effects: pd.DataFrame, clip_id: str, kind: str) -> dict[str, Any]:
    """The row of the clip that is played: dose 1, until the event, first control; or the untouched baseline."""
    if effects.empty:
        return {}
    of_kind = effects["kind"] == ("untouched" if kind == "baseline" else kind)
    rows = effects[of_kind & (effects["clip_id"] == clip_id)]
    if kind != "baseline":
        rows = rows[(rows["window"] == "until_event") & (rows["dose"] == 1) & (rows["control"] == 0)]
    return rows.iloc[0].to_dict() if len(rows) else {}
