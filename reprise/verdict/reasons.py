"""Reasons why clips or recordings could not be used, counted.

Degenerate input: no reasons give an empty count.
"""

import pandas as pd


def count_reasons(reasons: pd.Series) -> dict[str, int]:
    """How many have each reason, the commonest first. Reasons that differ in their numbers alone count as one, and are
    named by the first, with "(for one)" behind."""
    alike = reasons.str.replace(r"\d+(\.\d+)?", "#", regex=True)
    groups = sorted(reasons.groupby(alike), key=lambda group: (-len(group[1]), group[0]))
    return {
        str(of_group.iloc[0]) + (" (for one)" if of_group.nunique() > 1 else ""): len(of_group)
        for _, of_group in groups
    }
