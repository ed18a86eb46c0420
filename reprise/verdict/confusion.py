"""How often a verdict is right, where the truth is known: counts and shares with their intervals.

Degenerate input: no runs give an empty table; a share of nothing is NaN with the interval 0 to 1.
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
    """A row an organism: truth, n_runs, and of the right verdict and of `foresight` count, share, low and high (exact
    95% interval of Clopper and Pearson)."""
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
