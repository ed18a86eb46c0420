"""Which probes are evidence, what do they show, and which of them does a study rest on?

Which representations are evidence is said in reprise/probing/representations.py: of the built-in ones the residual
stream and SAE latents. Their p-values are corrected together.

Degenerate input: a probe that could not be scored (NaN) shows nothing and excludes nothing; without any scored probe a
study rests on none.
"""

import math
from typing import Any

import pandas as pd

from reprise.probing.representations import EVIDENCE, with_role
from reprise.statistics import benjamini_hochberg
from reprise.verdict.preregistration import Thresholds


def is_evidence(representations: pd.Series) -> pd.Series:
    """Which rows are of a representation that counts as evidence, bool, from their names."""
    return representations.isin(with_role(representations, EVIDENCE))


def evidence_tests(rows: pd.DataFrame) -> pd.DataFrame:
    """The evidence among probes, with p-values corrected over all of it."""
    rows = rows[is_evidence(rows["representation"])].reset_index(drop=True)
    if "p_learned" not in rows:
        rows = rows.assign(
            **dict.fromkeys(("learned_auroc", "learned_auroc_low", "learned_auroc_high", "p_learned"), math.nan)
        )
    return rows.assign(
        p_adjusted=benjamini_hochberg(rows["p_gain"]), p_learned_adjusted=benjamini_hochberg(rows["p_learned"])
    )


def best_test(tests: pd.DataFrame, t: Thresholds) -> dict[str, Any] | None:
    """The test that a study rests on: one that predicts and is learned, if there is any, and gains most."""
    scored = tests.dropna(subset=["gain_auroc"])
    if scored.empty:
        return None
    scored = scored.assign(predicts=predicts(scored, t), learned=_is_learned(scored, t))
    scored = scored.assign(both=scored["predicts"] & scored["learned"])
    order = ["both", "predicts", "gain_auroc"]
    return {str(k): v for k, v in scored.sort_values(order, ascending=False, kind="stable").iloc[0].items()}


def excluded(highest: pd.Series, t: Thresholds) -> bool:
    """Whether no test leaves room for a gain that counts. Nothing is known of a probe that could not be scored."""
    return bool(len(highest) and (highest < t.max_missed_gain_auroc).all())


def predicts(tests: pd.DataFrame, t: Thresholds) -> pd.Series:
    """Which tests show a gain that counts, each by its interval, its size and its corrected p-value."""
    enough = (tests["gain_auroc_low"] > 0) & (tests["gain_auroc"] >= t.min_gain_auroc)
    return enough & (tests["p_adjusted"] <= t.alpha)


def _is_learned(tests: pd.DataFrame, t: Thresholds) -> pd.Series:
    enough = (tests["learned_auroc_low"] > 0) & (tests["learned_auroc"] >= t.min_learned_gain_auroc)
    return enough & (tests["p_learned_adjusted"] <= t.alpha)
