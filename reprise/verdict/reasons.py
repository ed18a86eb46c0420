"""Count the reasons why clips or recordings could not be used.

Degenerate input: no reasons give an empty count.
"""

import pandas as pd


def count_reasons(reasons: pd.Series) -> dict[str, int]:
    """How often each reason occurs, the most common first.

    Reasons that differ only in their numbers count as one. They are named by the first of them, followed by "(for
    one)".
    """
    alike = reasons.str.replace(r"\d+(\.\d+)?", "#", regex=True)
    groups = sorted(reasons.groupby(alike), key=lambda group: (-len(group[1]), group[0]))
    return {
        str(of_group.iloc[0]) + (" (for one)" if of_group.nunique() > 1 else ""): len(of_group)
        for _, of_group in groups
    }
