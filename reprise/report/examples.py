"""Which clips does the report play as examples? They are picked by rule, not by ear."""

from collections.abc import Sequence

import pandas as pd

from reprise.targets.view import Words


def example_clips(events: pd.DataFrame, clip_ids: Sequence[str], words: Words) -> list[tuple[str, str]]:
    """Up to three (clip_id, why), by rule: a typical event, no event, and the nearest miss.

    These are the accepted event of median score; the first clip by name without an accepted or similar
    passage; and, among clips without an accepted event, the one whose rejected candidate scores highest.

    Parameters
    ----------
    events : DataFrame
        One row per candidate with clip_id, score and accepted.
    clip_ids : sequence of str
        All clips of the study.
    words : Words
        The words of the target.

    Returns
    -------
    list of (str, str)
    """
    events = events.sort_values(["score", "clip_id"], kind="stable")
    ok = events["accepted"].astype(bool)
    returning, rejected = events[ok], events[~ok]
    missed = rejected[~rejected["clip_id"].isin(returning["clip_id"])]
    chosen = []
    if len(returning):
        median = str(returning["clip_id"].iloc[(len(returning) - 1) // 2])
        chosen.append((median, f"A typical {words.event}: the valid one with the median score."))
    near = str(missed["clip_id"].iloc[-1]) if len(missed) else ""
    silent = [c for c in sorted(clip_ids) if c not in set(returning["clip_id"]) and c != near]
    # Clips without any listed candidate come first.
    silent.sort(key=lambda c: c in set(missed["clip_id"]))
    if silent:
        chosen.append((silent[0], f"No {words.event}: the first clip, in order of name, without one."))
    if near:
        chosen.append((near, f"The nearest miss: the best rejected candidate among clips without {words.an_event}."))
    return chosen
