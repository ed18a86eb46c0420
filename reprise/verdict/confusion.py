"""How often is a verdict right, where the truth is known? Counts and fractions with their intervals.

Degenerate input: no runs give an empty table; a fraction of zero runs is NaN with the interval 0 to 1.
"""

from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd
from scipy.stats import binomtest

from reprise.verdict.meanings import VERDICTS


def confusion(runs: pd.DataFrame) -> dict[str, dict[str, int]]:
    """How often each verdict was given: `{organism: {verdict: count}}`. runs: columns organism and verdict."""
    return {
        str(organism): {v: int((rows["verdict"] == v).sum()) for v in VERDICTS}
        for organism, rows in runs.groupby("organism", sort=False)
    }


def shares(counts: Mapping[str, Mapping[str, int]], truth: Mapping[str, str]) -> pd.DataFrame:
    """Fractions of right verdicts and of `foresight`, one row per organism.

    Columns: organism, truth, n_runs, and for the right verdict and for `foresight` the count, fraction, low and high
    (exact 95% interval of Clopper and Pearson).
    """
    rows = []
    for organism, of_verdict in counts.items():
        n = sum(of_verdict.values())
        row: dict[str, Any] = {"organism": organism, "truth": truth.get(organism, ""), "n_runs": n}
        for name, verdict in (("right", row["truth"]), ("foresight", "foresight")):
            k = of_verdict.get(verdict, 0)
            low, high = binomtest(k, n).proportion_ci() if n else (0.0, 1.0)
            row |= {f"n_{name}": k, f"{name}_fraction": k / n if n else np.nan}
            row |= {f"{name}_low": float(low), f"{name}_high": float(high)}
        rows.append(row)
    return pd.DataFrame(rows)
