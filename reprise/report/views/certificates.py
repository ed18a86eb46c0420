"""Do the SAEs fit the model? Their certificates."""

from collections.abc import Mapping
from typing import Any

from reprise.report.figures.intervals import Row, interval_plot
from reprise.report.figures.svg import Axis
from reprise.report.numbers import NEVER_DATA, is_number, number, percent
from reprise.report.results import Results


def certificate_view(study: Results) -> list[dict[str, Any]]:
    """One certificate per layer: facts, FVU at the hook and at its neighbours, FVU by position."""
    views = []
    for c in sorted(study.certificates, key=lambda c: c["hook_layer"]):
        asked = c.get("settings") or study.settings["certificate"]
        worst = max([1.0, *(x["fvu"] for x in c["hooks"] if is_number(x["fvu"]))])
        axis = Axis(0.0, min(worst, 3.0) * 1.06)
        rows = []
        for x in c["hooks"]:
            name = ("input" if x["layer"] < 0 else f"layer {x['layer']}") + ", normed" * x["normed"]
            own = x["layer"] == c["hook_layer"] and not x["normed"]
            style = "s-target" if own else "s-control"
            text = number(x["fvu"], 3)
            rows.append(Row(name + ", hook" * own, x["fvu"], text=text, style=style, filled=own))
        label = f"FVU by hook: {', '.join(f'{r.label} {r.text}' for r in rows)}."
        rate = study.model["frame_rate_hz"]
        bins = [
            Row(
                f"{b['start'] / rate:g}–{b['stop'] / rate:.3g} s" + ("" if b["in_context"] is not False else " *"),
                b["fvu"],
                text=f"{number(b['fvu'], 3)}, L0 {number(b['l0'], 1)}",
                filled=bool(b["passed"]),
            )
            for b in c["bins"]
        ]
        bins_label = f"FVU by position: {', '.join(f'{r.label} {r.text}' for r in bins)}."
        common = {"threshold": asked["max_fvu"], "x_label": "FVU", "zero": False}
        ratio = f"{number(c['neighbour_ratio'], 2)} × (at least {asked['min_neighbour_ratio']:g})"
        active = f"{number(c['l0'], 1)}, {number(c['l0_max'], 0)} (k = {c['declared'].get('k', NEVER_DATA)})"
        agreements = {True: "agrees", False: "disagrees", None: "not stated"}
        views.append(
            {
                "layer": c["hook_layer"],
                "passed": c["passed"],
                "reason": c["reason"],
                "neighbours": rows and interval_plot(rows, axis, label=label, right=52, **common),
                "positions": bins and interval_plot(bins, axis, label=bins_label, right=96, **common),
                "beyond_context": any(b["in_context"] is False for b in c["bins"]),
                "facts": [
                    ("FVU at the hook", f"{number(c['fvu'], 3)} (at most {asked['max_fvu']:g})"),
                    ("at a neighbour", ratio),
                    ("L0, mean and maximum", active),
                    ("never active", percent(c["dead_fraction"])),
                    ("cosine", number(c["cosine"], 3)),
                    *([("FVU without a prompt", number(c["unconditional"]["fvu"], 3))] if c["unconditional"] else []),
                    *((name, agreements[agreed]) for name, agreed in c["agreements"].items() if name != "context"),
                    *([("trained here", _training_text(c["trained_here"]))] if c["trained_here"] else []),
                ],
            }
        )
    return views


def _training_text(training: Mapping[str, Any]) -> str:
    """The data that an SAE trained for the study was trained on."""
    none = "none of these clips or prompts" if training["prompts_apart"] else "none of these clips"
    return f"on {training['n_positions']:,} positions of {training['n_clips']} clips; {none} is measured here"
