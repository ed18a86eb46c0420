"""How many times were labelled at each horizon, and how were they used?"""

from typing import Any

from reprise.report.figures.bars import share_bar
from reprise.report.numbers import NEVER_DATA, percent
from reprise.report.results import Results
from reprise.report.views.horizons import horizons_view
from reprise.targets.view import Words


def label_parts(words: Words) -> dict[str, str]:
    """Kinds of labelled times: style and name."""
    return {
        "l-yes": f"{words.an_event} follows",
        "l-no": "none follows",
        "l-censored": "censored",
        "l-sounding": f"{words.an_event} sounds",
        "l-early": "too early to ask",
    }


# The kind of times whose answer depends on an event that nobody reviewed.
UNREVIEWED_PART = ("l-unreviewed", "not reviewed")


def labels_view(study: Results) -> list[dict[str, Any]]:
    """Class balance and what was left out, per horizon."""
    rows = []
    for horizon in horizons_view(study):
        table = study.labels.get(horizon["name"])
        if table is None or table.empty:
            continue
        usable = table["reason"] == ""
        positive = usable & (table["y"] == 1)
        left_out = [table["reason"] == reason for reason in ("censored", "sounding")]
        shares = [float(mask.mean()) for mask in (positive, usable & ~positive, *left_out)]
        unreviewed = float((table["reason"] == "unreviewed").mean())
        shares.append(max(0.0, 1 - sum(shares) - unreviewed))
        parts = [
            (*part, share) for part, share in zip(label_parts(study.target.view.words).items(), shares, strict=True)
        ]
        if unreviewed:
            parts.append((*UNREVIEWED_PART, unreviewed))
        by_clip = positive[usable].groupby(table.loc[usable, "clip_id"]).any()
        rows.append(
            {
                "horizon": horizon["text"],
                "usable": f"{int(usable.sum()):,}".replace(",", " "),
                "positive": percent(positive.sum() / usable.sum()) if usable.any() else NEVER_DATA,
                "clips": f"{int(by_clip.sum())} / {int((~by_clip).sum())}",
                "prompts": str(table.loc[positive, "prompt_id"].nunique()),
                **{style.removeprefix("l-"): percent(s) for style, _, s in parts[2:]},
                "bar": share_bar(parts, label=", ".join(f"{name} {percent(s)}" for _, name, s in parts)),
            }
        )
    return rows
