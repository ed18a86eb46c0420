"""Which candidates were tried, and what happened to them?"""

from typing import Any

from reprise.report.numbers import interval, number, p_text, percent
from reprise.report.results import Results


def candidates_view(study: Results) -> list[dict[str, Any]]:
    """Every candidate that was tried, with its outcome."""
    judged = {c["title"]: c for c in study.verdict["candidates"]}
    rows = []
    for c in study.candidates.to_dict("records"):
        found = judged.get(c["title"], {})
        rows.append(
            {
                "candidate": c["title"],
                "horizon": c["horizon"].removeprefix("h").replace("-", "–") + " s",
                "z": number(c["z"], 1),
                "p": p_text(c["p"]),
                "q": p_text(c["q"]),
                "auroc": number(c["auroc"], 3),
                "active": percent(c["active_fraction"]),
                "gain": interval(
                    c["confirm_gain_auroc"], c["confirm_gain_auroc_low"], c["confirm_gain_auroc_high"], 3
                ),
                "confirm_p": p_text(c["confirm_p_adjusted"]),
                "verdict": found.get("verdict", "") if c["confirmed"] else "not confirmed",
            }
        )
    return rows
