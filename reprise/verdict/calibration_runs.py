"""What one calibration run found, as a record, and the counts of many of them.

Degenerate input: no runs give empty counts.
"""

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import pandas as pd

from reprise.organisms.truth import GROUND_TRUTH
from reprise.verdict.calibration import parse_run
from reprise.verdict.confusion import confusion
from reprise.verdict.methods import PLAIN_EDITS, answers

Counts = dict[str, dict[str, int]]


def run_record(verdict: Mapping[str, Any], plain: Mapping[str, Any], aurocs: Iterable[float]) -> dict[str, Any]:
    """The record of a run.

    Parameters
    ----------
    verdict : mapping
        The content of the run's `verdict.json`.
    plain : mapping
        The content of its `plain_methods.json`.
    aurocs : iterable of float
        The AUROC of each probe of evidence at the long horizon, by itself.

    Returns
    -------
    dict
        Plain builtins: organism, run, truth, verdict, reason, the numbers of all gates, `answers` of every method, and
        `plain` as it was given.
    """
    organism, run = parse_run(verdict["study"])
    record = {"organism": organism, "run": run, "truth": GROUND_TRUTH[organism]["verdict"]}
    record["verdict"] = verdict["verdict"]
    for gate in verdict["gates"]:
        record |= {f"{gate['name']}_{part}": gate[part] for part in ("value", "low", "high", "outcome")}
    effects = {name: plain.get(name, {}).get("effect") for name in PLAIN_EDITS}
    effects = {name: math.nan if effect is None else effect for name, effect in effects.items()}
    known = [value for value in aurocs if not math.isnan(value)]
    kinds = verdict["declared"]["candidates"]["kinds"]
    record["answers"] = answers(verdict, known, effects, kinds=kinds)
    return record | {"reason": verdict["reason"], "plain": dict(plain)}


def counted(records: Sequence[Mapping[str, Any]]) -> tuple[Counts, dict[str, Counts]]:
    """Count the verdicts, `{organism: {verdict: count}}`, and the same of each method's answers, by method."""
    methods = dict.fromkeys(method for record in records for method in record["answers"])

    def table(answer: str) -> pd.DataFrame:
        asked = [record for record in records if answer in record["answers"]]
        return pd.DataFrame([{"organism": r["organism"], "verdict": r["answers"][answer]} for r in asked])

    by_method = {method: confusion(table(method)) for method in methods}
    return by_method.get("verdict", {}), by_method
