"""The feature screen: exact moments, ranks with ties, calibration on autocorrelated features, planted features."""

from itertools import permutations, product

import numpy as np
import pandas as pd
import pytest
from scipy.stats import norm, rankdata
from sklearn.metrics import roc_auc_score

from reprise.candidates.screen import (
    Entries,
    _sorted,
    active_entries,
    false_discovery,
    rank_lift,
    screen,
    stratified_auroc,
)
from reprise.candidates.swap_moments import centred_labels, swap_moments, swap_third_moment

N_TIMES = 6


def sparse_trajectories(
    rng: np.random.Generator, prompt: np.ndarray, n_features: int, share: float, prompt_sd: float = 0.7
) -> np.ndarray:
    """`[clip, time, feature]` >= 0, active in `share` of clips: prompt and clip offsets, AR(1), a threshold."""
    x = rng.normal(size=(len(prompt), N_TIMES, n_features))
    for t in range(1, N_TIMES):
        x[:, t] = 0.95 * x[:, t - 1] + 0.31 * x[:, t]
    x += rng.normal(size=(len(prompt), 1, n_features))
    x += prompt_sd * rng.normal(size=(prompt.max() + 1, 1, n_features))[prompt]
    return np.maximum(x - np.quantile(x.max(axis=1), 1 - share, axis=0), 0).astype(np.float32)


def entries_of(values: np.ndarray) -> Entries:
    clip, time, feature = np.nonzero(values)
    return Entries(clip, time, feature, values[clip, time, feature])


def labels(rng: np.random.Generator, rate: np.ndarray) -> np.ndarray:
    """Runs of 1 of three times, in a share `rate` `[clip]` of the clips."""
    start = rng.integers(0, 3, len(rate))[:, None]
    times = np.arange(N_TIMES)
    return ((rng.random(len(rate)) < rate)[:, None] & (times >= start) & (times < start + 3)).astype(np.int8)


def brute_force(ranks: np.ndarray, y: np.ndarray, group: np.ndarray) -> np.ndarray:
    """T under every permutation of clips within groups."""
    members = [np.flatnonzero(group == g) for g in np.unique(group)]
    out = []
    for choice in product(*(permutations(m) for m in members)):
        donors = np.empty(len(group), int)
        for own, other in zip(members, choice, strict=True):
            donors[own] = other
        out.append(np.sum(ranks[donors] * y))
    return np.array(out)


@pytest.mark.parametrize("n_times", [2, 9])  # the norm from time x time and from clip x clip matrices
@pytest.mark.parametrize("group", [[0] * 6, [0, 0, 0, 1, 1, 2], [0, 1, 0, 1, 0, 1]])
def test_moments_are_those_of_all_permutations(n_times: int, group: list[int]) -> None:
    rng = np.random.default_rng(1)
    ranks = rng.exponential(size=(3, 6, n_times))
    y = rng.exponential(size=(6, n_times)) * (rng.random((6, n_times)) < 0.7)
    statistic, mean, variance = swap_moments(ranks, y, np.array(group))
    third = swap_third_moment(ranks, y, np.array(group))
    for f in range(3):
        t = brute_force(ranks[f], y, np.array(group))
        assert statistic[f] == pytest.approx(t[0])
        assert mean[f] == pytest.approx(t.mean())
        assert variance[f] == pytest.approx(t.var())
        assert third[f] == pytest.approx(np.mean((t - t.mean()) ** 3), abs=1e-9)


def test_lifts_are_midranks_up_to_a_constant() -> None:
    rng = np.random.default_rng(2)
    values = (rng.integers(0, 4, (9, 5, 6)) * (rng.random((9, 5, 6)) < 0.7)).astype(np.float32)
    entries = _sorted(entries_of(values), 5)
    dense = np.zeros(values.shape)
    dense[entries.clip, entries.time, entries.feature] = rank_lift(*entries, np.full(5, 9))
    ranks = rankdata(values, axis=0)
    np.testing.assert_allclose(dense - dense.mean(axis=0), ranks - ranks.mean(axis=0), atol=1e-12)


def test_stratified_auroc_with_ties_and_missing_rows() -> None:
    rng = np.random.default_rng(3)
    values = (rng.integers(0, 4, (20, 5, 4)) * (rng.random((20, 5, 4)) < 0.6)).astype(np.float32)
    y, usable = (rng.random((20, 5)) < 0.4).astype(np.int8), rng.random((20, 5)) < 0.8
    y[:, 2] = 1  # a time with one class
    ours = stratified_auroc(*_sorted(entries_of(values), 5), 4, y, usable)
    for f in range(4):
        won = pairs = 0.0
        for t in (0, 1, 3, 4):
            here = usable[:, t]
            weight = y[here, t].sum() * (1 - y[here, t]).sum()
            won += weight * roc_auc_score(y[here, t], values[here, t, f])
            pairs += weight
        assert ours[f] == pytest.approx(won / pairs)
    assert np.isnan(stratified_auroc(*_sorted(entries_of(values), 5), 4, np.ones_like(y), usable)).all()


@pytest.mark.parametrize("within_prompt", [True, False])
def test_null_p_values_are_uniform_on_autocorrelated_features(within_prompt: bool) -> None:
    rng = np.random.default_rng(4)
    prompt = np.repeat(np.arange(30), 4)
    prompt_sd = 0.7 if within_prompt else 0.0
    values = sparse_trajectories(rng, prompt, 2000, 0.25, prompt_sd)
    rate = 1 / (1 + np.exp(-2 * prompt_sd * rng.normal(size=30)))[prompt]
    y, usable = labels(rng, rate), rng.random((120, N_TIMES)) < 0.9
    table = screen(
        entries_of(values), 2000, y, usable, prompt, min_active=0.1, max_active=0.5, within_prompt=within_prompt
    )
    p = table["p"][table["tested"]]
    assert len(p) == 2000
    # Three binomial standard errors at n = 2000.
    assert abs(np.mean(p < 0.05) - 0.05) < 0.015
    assert abs(np.mean(p < 0.5) - 0.5) < 0.034
    assert np.nanmin(false_discovery(p)) > 0.05
    # Rows taken for independent would not do.
    r = np.corrcoef(y[usable], values[usable], rowvar=False)[0, 1:]
    assert np.mean(np.abs(r) * np.sqrt(usable.sum()) > norm.isf(0.025)) > 0.15


def test_rare_features_and_labels_give_no_discoveries_where_normal_tails_would() -> None:
    rng = np.random.default_rng(5)
    prompt = np.arange(150)
    values = sparse_trajectories(rng, prompt, 2000, 0.05)
    y = labels(rng, np.full(150, 0.06))
    table = screen(entries_of(values), 2000, y, np.ones_like(y, bool), prompt, min_active=0.01, max_active=0.5)
    assert np.nanmin(false_discovery(2 * norm.sf(np.abs(table["z"])))) < 0.01
    assert np.nanmin(false_discovery(table["p"])) > 0.05
    assert np.nanmean(table["p"] < 0.05) < 0.06


def planted(seed: int) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    prompt = np.repeat(np.arange(40), 4)
    y = labels(rng, np.full(160, 0.5))
    values = sparse_trajectories(rng, prompt, 400, 0.3)
    planned = y.any(axis=1)
    values[planned, :, 7] += (0.5 + rng.random((planned.sum(), 1))).astype(np.float32)
    values[:, :, 9] = np.arange(1, N_TIMES + 1)  # position alone, in every clip
    values[:, :, 11] = 0
    return values, y, rng.random(y.shape) < 0.9, prompt


def test_a_planted_feature_is_found_and_the_filter_precedes_the_family() -> None:
    values, y, usable, prompt = planted(6)
    table = screen(entries_of(values), 400, y, usable, prompt, min_active=0.05, max_active=0.95)
    q = false_discovery(table["p"])
    assert np.nanargmin(q) == 7 and q[7] < 0.001 and table["auroc"][7] > 0.7 and table["z"][7] > 0
    assert np.sum(q < 0.05) <= 3
    assert not table["tested"][9] and table["active_fraction"][9] == 1.0 and table["rate"][9] == 1.0
    assert table["auroc"][9] == 0.5  # position is no information at one time
    assert not table["tested"][11] and np.isnan(table["p"][11]) and np.isnan(table["mean_activation"][11])
    assert table["mean_activation"][9] == pytest.approx(3.5)
    assert table["tested"].sum() == 398


def test_small_blocks_give_the_same_table(monkeypatch: pytest.MonkeyPatch) -> None:
    values, y, usable, prompt = planted(7)
    entries = entries_of(values)
    whole = screen(entries, 400, y, usable, prompt, min_active=0.05, max_active=1.0)
    for module in ("screen", "swap_moments"):
        monkeypatch.setattr(f"reprise.candidates.{module}.BLOCK_FLOATS", 7 * y.size)
    shuffled = np.random.default_rng(7).permutation(len(entries.clip))
    parts = screen(Entries(*(c[shuffled] for c in entries)), 400, y, usable, prompt, min_active=0.05, max_active=1.0)
    pd.testing.assert_frame_equal(whole, parts, rtol=1e-5)


def test_a_feature_of_the_prompt_is_not_tested_within_prompts() -> None:
    rng = np.random.default_rng(8)
    prompt = np.repeat(np.arange(20), 3)
    values = np.zeros((60, N_TIMES, 1), np.float32)
    values[prompt % 2 == 0] = 1.0
    y = labels(rng, np.where(prompt % 2 == 0, 0.9, 0.1))
    options = {"usable": np.ones_like(y, bool), "prompt": prompt, "min_active": 0.0, "max_active": 1.0}
    within = screen(entries_of(values), 1, y, **options)
    assert not within["tested"][0] and within["auroc"][0] > 0.6
    assert screen(entries_of(values), 1, y, **options, within_prompt=False)["p"][0] < 1e-3


def test_centred_labels_sum_to_zero_at_each_time() -> None:
    y = np.array([[1, 1], [0, 1], [1, 0]])
    usable = np.array([[True, True], [True, True], [False, False]])
    assert centred_labels(y, usable).tolist() == [[0.5, 0], [-0.5, 0], [0, 0]]


def test_false_discovery() -> None:
    # The example of Benjamini & Hochberg (1995): four of fifteen are rejected at 5 %.
    p = [0.0001, 0.0004, 0.0019, 0.0095, 0.0201, 0.0278, 0.0298, 0.0344, 0.0459, 0.3240, 0.4262, 0.5719, 0.6528]
    p += [0.7590, 1.0]
    q = false_discovery(p)
    assert np.sum(q <= 0.05) == 4 and q[0] == pytest.approx(0.0015)
    with_gaps = false_discovery(np.insert(np.array(p), [0, 5, 15], np.nan))
    np.testing.assert_array_equal(with_gaps[np.isfinite(with_gaps)], q)
    assert np.isnan(false_discovery([np.nan])).all()


def test_entries_from_batches() -> None:
    rng = np.random.default_rng(9)
    indices = np.argsort(rng.random((5, 8, 12)), axis=2)[:, :, :3].astype(np.int32)
    values = (rng.random((5, 8, 3)) * (rng.random((5, 8, 3)) < 0.8)).astype(np.float32)
    one = active_entries([(values, indices)], [1, 4, 7], 12)
    two = active_entries([(values[:2], indices[:2]), (values[2:], indices[2:])], [1, 4, 7], 12)
    for a, b in zip(one, two, strict=True):
        np.testing.assert_array_equal(a, b)
    dense = np.zeros((5, 8, 12), np.float32)
    np.put_along_axis(dense, indices, values, axis=2)
    back = np.zeros((5, 3, 12), np.float32)
    back[one.clip, one.time, one.feature] = one.value
    np.testing.assert_array_equal(back, dense[:, [1, 4, 7]])
    with pytest.raises(ValueError, match="valid: finite"):
        active_entries([(values - 1, indices)], [1], 12)
    with pytest.raises(ValueError, match="valid: 0 to 4"):
        active_entries([(values, indices)], [1], 5)
    with pytest.raises(ValueError, match="occurs twice"):
        active_entries([(np.ones_like(values), np.zeros_like(indices))], [1], 12)
