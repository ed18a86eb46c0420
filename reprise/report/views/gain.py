"""Does anything in the model predict a return? Conditional gain of the probes, by horizon.

Degenerate input: a probe that could not be scored keeps its line, without a mark and with a note.
"""

import math
from typing import Any

import pandas as pd

from reprise.probing.representations import BUILT_IN, EVIDENCE, find, report_order
from reprise.report.figures.intervals import Row, interval_plot
from reprise.report.figures.svg import axis_around, legend
from reprise.report.numbers import interval, is_number, number, p_text
from reprise.report.results import Results
from reprise.report.views.horizons import horizons_view


def mark(name: str) -> tuple[str, str, str]:
    """The mark of a representation: its colour class, its shape, and its text in the legend."""
    entry = find(name)
    colour = "s-target" if entry.role == EVIDENCE else "s-check"
    return colour, entry.words.mark, entry.words.legend or entry.words.label


def gain_view(study: Results) -> dict[str, Any]:
    """Conditional gain: one plot per horizon on a common scale, and the table of its numbers."""
    table = study.probes
    numbers = [c for c in table.columns if c.startswith(("gain_", "swap_gain_", "p_", "auroc_", "n_"))]
    table = table.assign(**{c: pd.to_numeric(table[c], errors="coerce") for c in numbers})
    order = {name: i for i, name in enumerate(report_order(table["representation"]))}
    table = table.assign(order=table["representation"].map(order)).sort_values(["order", "hook"])
    needed = study.settings["verdict"]["min_gain_auroc"]
    alpha = study.settings["probes"]["alpha"]
    spread = table[["gain_auroc", "gain_auroc_low", "gain_auroc_high", "swap_gain_q50", "swap_gain_q95"]]
    axis = axis_around(spread.to_numpy(float).ravel(), include=(0.0, needed))
    panels, rows = [], []
    for horizon in horizons_view(study):
        lines = []
        for r in table[table["horizon"] == horizon["name"]].to_dict("records"):
            what = find(r["representation"]).words.label
            name = what if r["hook"] == "embedding" else f"{what}, L{r['hook'].removeprefix('layer')}"
            value, low, high = (r[f"gain_auroc{end}"] for end in ("", "_low", "_high"))
            shows = bool(is_number(low) and low > 0 and is_number(r["p_gain"]) and r["p_gain"] <= alpha)
            lines.append(
                Row(
                    name,
                    value,
                    low,
                    high,
                    number(value, 3, sign=True) if is_number(value) else "not scored",
                    *mark(r["representation"])[:2],
                    shows,
                    (r["swap_gain_q50"], r["swap_gain_q95"]),
                )
            )
            rows.append(
                {
                    "horizon": horizon["role"],
                    "what": name,
                    "auroc": " / ".join(number(r[f"auroc_{k}"], 3) for k in ("B", "R", "BR")),
                    "gain": interval(value, low, high, 3),
                    "bits": interval(r["gain_bits"], r["gain_bits_low"], r["gain_bits_high"], 3),
                    "p": p_text(r["p_swap"]),
                    "p_within": p_text(r.get("p_swap_within_prompt", math.nan)),
                    "clips": f"{number(r['n_positive_clips'], 0)} of {number(r['n_clips'], 0)}",
                    "note": r.get("note") or "",
                }
            )
        if lines:
            told = "; ".join(f"{x.label} {interval(x.value, x.low, x.high, 3)}" for x in lines)
            label = f"Conditional gain, {horizon['text']}: {told}"
            right = 56 if all(is_number(x.value) for x in lines) else 78
            svg = interval_plot(lines, axis, label=label, threshold=needed, x_label="gain in AUROC", right=right)
            panels.append({"title": horizon["text"], "svg": svg})
    return {
        "panels": panels,
        "legend": legend(map(mark, dict.fromkeys([*(entry.name for entry in BUILT_IN), *order]))),
        "rows": rows,
        "learned": [
            {
                "what": f"{find(r['representation']).words.label}, L{r['layer']}",
                "learned": interval(r["learned_auroc"], r["learned_auroc_low"], r["learned_auroc_high"], 3),
                "p": p_text(r["p_learned"]),
            }
            for r in study.verdict.get("learned", [])
        ],
        "needed": needed,
        "alpha": alpha,
        "scored": bool(table["gain_auroc"].notna().any()),
    }
