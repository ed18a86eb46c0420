"""Exchanges between clips keep prompts together."""

import numpy as np
import pandas as pd

from reprise.probing.folds import swap_clips


def test_swaps_keep_prompts_together_or_stay_within_them() -> None:
    group = np.repeat(np.arange(6), 4)
    rng = np.random.default_rng(5)
    for _ in range(20):
        across, within = swap_clips(group, False, rng), swap_clips(group, True, rng)
        for donors in (across, within):
            assert sorted(donors) == list(range(24))
        assert (pd.Series(group[across]).groupby(group).nunique() == 1).all()
        assert np.array_equal(group[within], group)
    uneven = np.array([0, 0, 0, 1, 2, 2])
    donors = swap_clips(uneven, False, rng)
    assert (pd.Series(uneven[donors]).groupby(uneven).nunique() == 1).all()
