"""Confirmation: do the features that the screen ranks highest also predict in prompts that the screen did not use?

Everything tried is counted. The number of features tried depends only on what the screen found and on a declared limit
(`max_tried`), never on what confirmation finds. All of them are tried, and their p-values are corrected together
(Holm), including those of features that fail. There are enough swaps for the smallest possible p to survive the
correction several times over.

Degenerate input: if nothing is ranked the table is empty; a feature that could not be scored has NaN, is not
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
    """The number of swaps for the confirmation of `n_tried` features."""
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
    ranked: pd.DataFrame,
    questions: Mapping[str, Question],
    values_of: Callable[[int, int, str], NDArray[np.float32]],
    confirmation_clips: ArrayLike,
    *,
    alpha: float,
    max_tried: int,
    seed_of: Callable[[str], int],
) -> pd.DataFrame:
    """Try the first `max_tried` of the ranked features in held-out clips, each at the horizon where it was strongest.

    Parameters
    ----------
    ranked : DataFrame
        Columns layer, feature, horizon, ..., best first.
    questions : mapping
        By horizon, the question about all clips.
    values_of : callable
        From (layer, feature, horizon) to the feature's activation `[clip, time]` on the grid of that horizon.
    confirmation_clips : bool array `[clip]`
        The held-out clips: whole prompts, none of which was screened.
    alpha : float
        Level of the corrected p-values.
    max_tried : int
        The declared limit of features.
    seed_of : callable
        From a horizon to its seed. The features of a horizon share folds, baseline and swaps.

    Returns
    -------
    DataFrame
        The rows that were tried with the `COLUMNS` added: the conditional gain over the baseline in held-out prompts,
        and its p against both kinds of swaps, before and after Holm's correction over all that were tried; and
        `confirmed`: interval above 0 and corrected p at most alpha.

    Raises
    ------
    ValueError
        If a prompt has clips on both sides.
    """
    tried = ranked.head(max_tried).reset_index(drop=True)
    n_swaps = swaps_for(len(tried), alpha)
    confirmation_clips = np.asarray(confirmation_clips, bool)
    asked, baselines, records = {}, {}, []
    for horizon in tried["horizon"].unique():
        asked[horizon] = confirmation_question(questions[horizon], confirmation_clips)
        baselines[horizon] = fit_question(asked[horizon], seed=seed_of(horizon))
    for row in tried.itertuples():
        values = np.asarray(values_of(int(row.layer), int(row.feature), str(row.horizon)), np.float32)[
            confirmation_clips
        ]
        result = probe(
            asked[row.horizon],
            values[..., None],
            seed=seed_of(row.horizon),
            baseline=baselines[row.horizon],
            n_swaps=n_swaps,
        )
        records.append(result.record)
    found = pd.DataFrame(records, columns=[c for c in COLUMNS if c != "p_adjusted"], index=tried.index)
    found = found.astype({c: float for c in found.columns if c != "note"})
    found["p_adjusted"] = holm(found["p_gain"])
    found["confirmed"] = (found["gain_auroc_low"] > 0) & (found["p_adjusted"] <= alpha)
    return pd.concat([tried, found[[*COLUMNS, "confirmed"]]], axis=1)
