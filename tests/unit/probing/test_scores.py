"""AUROC over resampled prompts."""

import numpy as np
import pytest
from sklearn.metrics import roc_auc_score

from reprise.probing.scores import prompt_wins, weighted_auroc


def test_weighted_auroc_is_the_auroc_of_repeated_prompts() -> None:
    rng = np.random.default_rng(7)
    groups = rng.choice([0, 1, 2, 5, 9], 60)  # labels with gaps
    y = (rng.random(60) < 0.4).astype(float)
    y[groups == 5] = 0  # a prompt without positives
    score = rng.integers(0, 6, 60).astype(float)  # many ties
    weights = np.array([[1, 1, 1, 1, 1], [2, 0, 3, 1, 0], [0, 0, 0, 5, 0]], float)
    ours = weighted_auroc(prompt_wins(score, y, groups), y, groups, weights)
    for draw in range(2):
        times = weights[draw][np.searchsorted([0, 1, 2, 5, 9], groups)].astype(int)
        assert ours[draw] == pytest.approx(roc_auc_score(np.repeat(y, times), np.repeat(score, times)))
    assert np.isnan(ours[2])
