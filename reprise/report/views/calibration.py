"""How often are verdicts right, where the answer is known?"""

from collections.abc import Mapping
from typing import Any

from reprise.organisms.truth import GROUND_TRUTH
from reprise.report.numbers import percent
from reprise.verdict.confusion import shares


def calibration_view(counts: Mapping[str, Mapping[str, int]]) -> list[dict[str, Any]]:
    """One row per organism: what it was built to be, and how often each verdict was given."""
    truth = {name: known["verdict"] for name, known in GROUND_TRUTH.items()}
    rows = []
    for r in shares(counts, truth).to_dict("records") if counts else []:
        given = [f"{verdict} {n}" for verdict, n in counts[r["organism"]].items() if n]
        right, foresight = (
            f"{percent(r[f'{name}_fraction'])} ({percent(r[f'{name}_low'])} to {percent(r[f'{name}_high'])})"
            for name in ("right", "foresight")
        )
        row = {"organism": r["organism"], "truth": r["truth"], "runs": r["n_runs"], "verdicts": ", ".join(given)}
        rows.append(row | {"right": right, "foresight": foresight})
    return rows
