"""p-values, corrections and intervals against known numbers, and what degenerate input gives."""

import numpy as np
import pytest
from scipy.stats import beta, binomtest

from reprise.draws import fewest_draws
from reprise.probing.baseline import Baseline
from reprise.probing.questions import read_baseline, write_baseline
from reprise.statistics import (
    benjamini_hochberg,
    bounded_interval,
    effective_prompts,
    holm,
    largest_p,
    p_value,
    ratio_interval,
    share_interval,
)


def test_a_p_value_counts_ties_and_is_never_0() -> None:
    assert p_value(0.3, [0.1, 0.2, 0.3, 0.4]) == 3 / 5
    assert p_value(1.0, np.zeros(19)) == 1 / 20


def test_a_gain_below_0_has_no_small_p() -> None:
    """Even where every swap does worse: a useless representation overfits, and a swapped one may overfit more."""
    assert p_value(-0.01, np.full(99, -0.05)) == 1.0
    assert p_value(0.0, np.full(99, -0.05)) == 1.0
    assert p_value(0.01, np.full(99, -0.05)) == 1 / 100


def test_nan_never_gives_a_p_value() -> None:
    assert np.isnan(p_value(np.nan, [0.1, 0.2]))
    assert np.isnan(p_value(0.5, [0.1, np.nan]))
    assert np.isnan(p_value(0.5, []))
    assert np.isnan(largest_p([0.01, np.nan])) and largest_p([0.01, 0.2]) == 0.2


@pytest.mark.parametrize(("level", "n"), [(0.05, 19), (0.01, 99), (0.05 / 4, 79), (0.3, 3)])
def test_the_fewest_draws_reach_a_level(level: float, n: int) -> None:
    assert fewest_draws(level) == n and 1 / (1 + n) <= level < 1 / n


def test_corrections_by_hand() -> None:
    p = [0.01, 0.04, 0.03, 0.005]
    np.testing.assert_allclose(holm(p), [0.03, 0.06, 0.06, 0.02])
    np.testing.assert_allclose(benjamini_hochberg(p), [0.02, 0.04, 0.04, 0.02])
    assert len(holm([])) == len(benjamini_hochberg([])) == 0


def test_what_has_no_p_value_counts_as_a_test() -> None:
    for correct in (holm, benjamini_hochberg):
        found = correct([0.02, np.nan, np.nan])
        assert found[0] == pytest.approx(0.06) and np.isnan(found[1:]).all()


def test_prompts_are_the_sample() -> None:
    assert effective_prompts([4, 4, 4]) == 3 and effective_prompts([4]) == 1 and effective_prompts([]) == 0
    assert effective_prompts([3, 1]) == 16 / 10
    # Ten copies of every clip are no more evidence.
    values, groups = np.array([1.0, 1, 0, 1, 0, 1]), np.arange(6)
    for interval in (share_interval, lambda v, g: bounded_interval(v, g, (0, 1))):
        once, tenfold = interval(values, groups), interval(np.tile(values, 10), np.tile(groups, 10))
        np.testing.assert_allclose(once, tenfold)


@pytest.mark.parametrize(("hits", "n"), [(0, 12), (3, 12), (12, 12), (1, 1)])
def test_with_one_clip_a_prompt_a_share_has_its_exact_interval(hits: int, n: int) -> None:
    ends = share_interval(np.arange(n) < hits, np.arange(n))
    assert ends == pytest.approx(tuple(binomtest(hits, n).proportion_ci()), abs=1e-9)


def test_where_all_clips_change_the_lower_end_is_what_12_prompts_can_say() -> None:
    low, high = share_interval(np.ones(24), np.repeat(np.arange(12), 2))
    assert low == pytest.approx(beta.ppf(0.025, 12, 1)) == pytest.approx(0.735, abs=0.001) and high == 1.0


def test_a_bounded_mean_moves_where_all_values_are_equal() -> None:
    for value in (-1.0, 0.0, 1.0):
        low, high = bounded_interval(np.full(10, value), np.arange(10), (-1, 1))
        assert low <= value <= high and -1 <= low < high <= 1
    narrow = bounded_interval(np.zeros(10), np.arange(10), (-0.1, 0.1))
    assert narrow[1] - narrow[0] < 0.2


def test_a_ratio_follows_the_pairs() -> None:
    rng = np.random.default_rng(0)
    whole = (rng.random(200) < 0.6).astype(float)
    groups = np.arange(200)
    low, high = ratio_interval(whole, whole, groups)
    assert low > 0.93 and high < 1.07, "numerator and denominator fail together"
    low, high = ratio_interval(rng.permutation(whole), whole, groups)
    assert low < 0.9 and high > 1.1
    # Nothing to be a share of: any ratio is possible.
    assert ratio_interval(np.zeros(9), np.zeros(9), np.arange(9)) == (0.0, 2.0)


def test_no_interval_from_nothing_or_from_nan() -> None:
    empty, nan = (np.zeros(0), np.zeros(0, int)), (np.array([1.0, np.nan]), np.arange(2))
    for values, groups in (empty, nan):
        assert np.isnan(share_interval(values, groups)).all()
        assert np.isnan(bounded_interval(values, groups, (0, 1))).all()
        assert np.isnan(ratio_interval(values, values, groups)).all()
    with pytest.raises(ValueError, match="valid: from 0 to 1"):
        share_interval([0.5, 1.5], [0, 1])
    with pytest.raises(ValueError, match="valid: from -1 to 1"):
        bounded_interval([0.5, -1.5], [0, 1], (-1, 1))


def test_a_baseline_is_read_as_it_was_written(tmp_path) -> None:
    rng = np.random.default_rng(1)
    folds = np.array([0, 1, 2, 0, 1])
    inner = [np.where(folds == fold, -1, rng.integers(2, size=5)) for fold in range(3)]
    written = Baseline({"linear": rng.normal(size=(3, 5)), "trees": rng.normal(size=(3, 5))}, folds, {}, inner=inner)
    write_baseline(tmp_path / "b.parquet", written)
    found = read_baseline(tmp_path / "b.parquet")
    assert found.note == "" and np.array_equal(found.folds, folds)
    for form, eta in written.eta.items():
        assert np.array_equal(found.eta[form], eta)
    assert np.array_equal(found.inner, inner)
    for folds, note in ((np.zeros(3, int), "one class"), (np.zeros(0, int), "no usable time")):
        write_baseline(tmp_path / "n.parquet", Baseline({}, folds, {}, note))
        found = read_baseline(tmp_path / "n.parquet")
        assert found.note == note and len(found.folds) == len(folds)
