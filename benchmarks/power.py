"""Does a study of the advised size decide as often as its pilot predicted?

Real probes and gates judge the studies, without the shortcuts of reprise/verdict/power.py.
"""

from collections.abc import Callable
from typing import Any

import numpy as np
import pandas as pd
from scipy.stats import binomtest

from reprise.probing.learned import learned_gain
from reprise.probing.probes import fit_question, probe
from reprise.probing.representations import BUILT_IN, with_role
from reprise.verdict.evidence import best_test, evidence_tests, excluded
from reprise.verdict.power import advice, make_pilot, power
from reprise.verdict.preregistration import Thresholds

LAYER, RANDOM = 2, "random_model"
EVIDENCE = with_role((entry.name for entry in BUILT_IN), "evidence")
N_SWAPS, N_BOOTSTRAP, POWER = 99, 1000, "80%"

# A study's question, under `question`, and its representations `[clip, time, d]` by name: the evidence, and the random
# model.
Pool = dict[str, Any]


def probed(pool: Pool, seed: int, *, n_folds: int = 5) -> tuple[dict[str, pd.DataFrame], dict[str, dict]]:
    """Predictions and records of the probes of a pool, by the probe's name."""
    question = pool["question"]
    baseline = fit_question(question, seed=seed, n_folds=n_folds)
    predictions, records = {}, {}
    for kind in pool.keys() - {"question"}:
        n_swaps = N_SWAPS if kind in EVIDENCE else 1
        how = {"baseline": baseline, "n_swaps": n_swaps, "n_folds": n_folds, "n_bootstrap": N_BOOTSTRAP}
        result = probe(question, pool[kind], seed=seed, **how)
        table = result.predictions
        table["clip_id"] = np.asarray(question.clip_ids)[table.pop("clip")]
        table["time_s"] = table.pop("time").astype(float)
        name = f"{kind}-layer{LAYER}"
        predictions[name], records[name] = table, result.record
    return predictions, records


def decides(pool: Pool, t: Thresholds, seed: int, *, n_folds: int = 5) -> str:
    """The outcome of the gates that read probes: passes, excludes or undecided. t: the study's thresholds."""
    predictions, records = probed(pool, seed, n_folds=n_folds)
    rows = []
    for kind in EVIDENCE:
        if kind in pool:
            name = f"{kind}-layer{LAYER}"
            trained, random = predictions[name], predictions[f"{RANDOM}-layer{LAYER}"]
            learned = learned_gain(trained, random, seed=seed, n_bootstrap=N_BOOTSTRAP)
            rows.append(records[name] | learned | {"representation": kind, "layer": LAYER, "role": "long"})
    tests = evidence_tests(pd.DataFrame(rows))
    first = tests.iloc[0]
    enough = (
        first["n_positive_clips"] >= t.min_positive_clips
        and first["n_clips"] - first["n_positive_clips"] >= t.min_negative_clips
        and first["n_positive_prompts"] >= t.min_positive_prompts
    )
    best = best_test(tests, t)
    if not enough or best is None:
        return "undecided"
    if best["both"]:
        return "passes"
    if best["predicts"]:
        return "excludes" if (tests["learned_auroc_high"] < t.min_learned_gain_auroc).all() else "undecided"
    return "excludes" if excluded(tests["gain_auroc_high"] - tests["null_gain"].clip(lower=0), t) else "undecided"


def promised_and_found(
    pilot: Pool,
    study_of: Callable[[int, int], Pool | None],
    t: Thresholds,
    *,
    seed: int,
    n_studies: int,
    n_folds: int = 5,
) -> dict[str, Any]:
    """Compare the power that a pilot predicts with the power of real studies.

    Parameters
    ----------
    pilot : Pool
        The finished study.
    study_of : callable
        Takes a number of prompts and the number of the study, and gives that study. None if there are not enough
        prompts.
    t : Thresholds
        Thresholds of all studies.
    seed, n_studies, n_folds : int
        The pilot's seed (it also names the pilot), the number of studies, and of folds.

    Returns
    -------
    dict
        n_prompts, the advised size; promised, the power that the pilot predicts for it; decided, the number of studies
        that decide; and n, the number of studies.
    """
    predictions, records = probed(pilot, seed, n_folds=n_folds)
    drawn_from = make_pilot(predictions, records, evidence=EVIDENCE, seed=seed)
    none = {"pilot": seed, "n_prompts": None, "promised": None, "decided": None, "n": 0}
    if drawn_from is None:
        return none
    table = power(drawn_from, t, seed=seed)
    size = advice(table)[POWER]["prompts"]
    if size is None or study_of(int(size), 0) is None:
        return none | {"n_prompts": size}
    promised = table[(table["axis"] == "prompts") & (table["n_prompts"] == size)]["decides"].item()
    outcomes = [
        decides(study, t, 100 * seed + number, n_folds=n_folds)
        for number in range(n_studies)
        if (study := study_of(int(size), number)) is not None
    ]
    decided = sum(outcome != "undecided" for outcome in outcomes)
    return none | {"n_prompts": size, "promised": promised, "decided": decided, "n": len(outcomes)}


def summary(rows: list[dict[str, Any]]) -> dict[str, Any]:
    """The fraction of studies that decide, over all pilots, with its exact interval, and the mean predicted power."""
    known = [row for row in rows if row["n"]]
    if not known:
        return {"pilots": rows, "promised": None, "value": None, "low": None, "high": None, "n": 0}
    n, decided = (int(sum(row[key] for row in known)) for key in ("n", "decided"))
    low, high = map(float, binomtest(decided, n).proportion_ci())
    promised = float(np.mean([row["promised"] for row in known]))
    return {"pilots": rows, "promised": promised, "value": decided / n, "low": low, "high": high, "n": n}
