"""Confirmation: do candidates also predict in prompts that they were not found on?

Everything tried is counted. What is tried depends only on screened prompts and on declared limits, never on what
confirmation finds. All candidates of all kinds are tried, and their p-values are corrected together (Holm), including
those of candidates that fail. There are enough swaps for the smallest possible p to survive the
correction several times over.

Degenerate input: if nothing is tried the table is empty; a candidate that could not be scored has NaN, is not
confirmed, and counts as tried.
"""

from collections.abc import Callable, Mapping

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray

from reprise.draws import fewest_draws
from reprise.probing.probes import Question, fit_question, probe
from reprise.statistics import holm

# The smallest possible p, 1 / (1 + swaps), is this many times below the strictest of Holm's levels.
SWAPS_PER_LEVEL = 4
MIN_SWAPS = 199
COLUMNS = ("gain_auroc", "gain_auroc_low", "gain_auroc_high", "p_gain", "p_adjusted", "note")


def swaps_for(n_tried: int, alpha: float) -> int:
    """The number of swaps for the confirmation of `n_tried` candidates."""
    return max(MIN_SWAPS, fewest_draws(alpha / (SWAPS_PER_LEVEL * max(1, n_tried))))


def confirmation_question(question: Question, confirmation_clips: ArrayLike) -> Question:
    """The same question about the held-out clips only, bool `[clip]`.

    Raises ValueError if a prompt has clips on both sides.
    """
    confirmation_clips, prompt = np.asarray(confirmation_clips, bool), np.asarray(question.prompt)
    split = np.intersect1d(prompt[confirmation_clips], prompt[~confirmation_clips])
    if len(split):
        raise ValueError(f"confirmation_clips: prompt {split[0]!r} is on both sides; valid: whole prompts")
    ids = [clip for clip, out in zip(question.clip_ids, confirmation_clips, strict=True) if out]
    y, usable, prompts = (np.asarray(part)[confirmation_clips] for part in question[:3])
    return Question(y, usable, prompts, ids, question.x[confirmation_clips], question.names)


def confirm(
    tried: pd.DataFrame,
    questions: Mapping[str, Question],
    values_of: Callable[[int], NDArray[np.float32]],
    confirmation_clips: ArrayLike,
    *,
    alpha: float,
    seed_of: Callable[[str], int],
) -> pd.DataFrame:
    """Try every candidate in held-out clips, each at its horizon.

    Parameters
    ----------
    tried : DataFrame
        The candidates, with a column horizon.
    questions : mapping
        By horizon, the question about all clips.
    values_of : callable
        From the position of a row to the candidate's coordinates `[clip, time, rank]` on the grid of its horizon.
    confirmation_clips : bool array `[clip]`
        The held-out clips: whole prompts, on none of which a candidate was found.
    alpha : float
        Level of the corrected p-values.
    seed_of : callable
        From a horizon to its seed. The candidates of a horizon share folds, baseline and swaps.

    Returns
    -------
    DataFrame
        `tried` with the `COLUMNS` added: the conditional gain over the baseline in held-out prompts, and its p against
        both kinds of swaps, before and after Holm's correction over all that were tried; and `confirmed`: interval
        above 0 and corrected p at most alpha.

    Raises
    ------
    ValueError
        If a prompt has clips on both sides.
    """
    tried = tried.reset_index(drop=True)
    n_swaps = swaps_for(len(tried), alpha)
    confirmation_clips = np.asarray(confirmation_clips, bool)
    asked, baselines, records = {}, {}, []
    for horizon in tried["horizon"].unique():
        asked[horizon] = confirmation_question(questions[horizon], confirmation_clips)
        baselines[horizon] = fit_question(asked[horizon], seed=seed_of(horizon))
    for i, horizon in enumerate(tried["horizon"]):
        result = probe(
            asked[horizon],
            np.asarray(values_of(i), np.float32)[confirmation_clips],
            seed=seed_of(horizon),
            baseline=baselines[horizon],
            n_swaps=n_swaps,
        )
        records.append(result.record)
    found = pd.DataFrame(records, columns=[c for c in COLUMNS if c != "p_adjusted"], index=tried.index)
    found = found.astype({c: float for c in found.columns if c != "note"})
    found["p_adjusted"] = holm(found["p_gain"])
    found["confirmed"] = (found["gain_auroc_low"] > 0) & (found["p_adjusted"] <= alpha)
    return pd.concat([tried, found[[*COLUMNS, "confirmed"]]], axis=1)
