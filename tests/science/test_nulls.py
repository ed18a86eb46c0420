"""Nulls hold their level on slow features and labels, and what is planted is found as often as it is said to be.

What is drawn: `tests/science/nulls.py`. Every interval is the central 99% of its binomial unless said otherwise.
"""

from collections.abc import Sequence
from unittest import mock

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from scipy.stats import binom, norm, rankdata

from reprise.candidates.screen import false_discovery, screen
from reprise.candidates.swap_moments import centred_labels, swap_moments
from reprise.probing import baseline
from reprise.probing.folds import inner_folds, prompt_folds, swap_clips
from reprise.probing.probes import Question, probe
from tests.science.nulls import PROMPT, draw_codes, draw_returns, entries_of, label, slow

Array = NDArray[np.float64]


def interval(n: int, level: float) -> tuple[float, float]:
    """Where the share of `n` independent p-values at or below `level` lies in 99% of the cases."""
    low, high = binom.interval(0.99, n, level)
    return low / n, high / n


def holds(p: Sequence[float] | Array, level: float) -> bool:
    low, high = interval(np.size(p), level)
    return bool(low <= np.mean(np.asarray(p) <= level + 1e-9) <= high)


def shares(p: Sequence[float] | Array, *levels: float) -> dict[float, float]:
    return {level: float(np.mean(np.asarray(p) <= level + 1e-9)) for level in levels}


def null_screens(
    seed: int,
    *,
    within_prompt: bool,
    labels_prompt_sd: float,
    codes_prompt_sd: float = 0.7,
    confirmation_clips: int = 0,
    n_studies: int = 1000,
    n_features: int = 4,
) -> Array:
    """p `[study, feature]` of null features. The last `confirmation_clips` prompts lend no labels, as in the
    workflow."""
    rng = np.random.default_rng(seed)
    labels = label(*draw_returns(rng, n_studies, PROMPT, prompt_sd=labels_prompt_sd))
    screened = PROMPT.max() - confirmation_clips >= PROMPT
    p = np.empty((n_studies, n_features))
    for i, (y, usable) in enumerate(zip(*labels, strict=True)):
        latents = draw_codes(rng, PROMPT, y.shape[1], n_features, prompt_sd=codes_prompt_sd)
        table = screen(
            entries_of(latents),
            n_features,
            y,
            usable & screened[:, None],
            PROMPT,
            min_active=0.01,
            max_active=0.9,
            within_prompt=within_prompt,
        )
        assert table["tested"].all()
        p[i] = table["p"]
    return p


@pytest.mark.parametrize(("within_prompt", "labels_prompt_sd"), [(True, 1.0), (False, 0.0)])
def test_screen_of_null_features(within_prompt: bool, labels_prompt_sd: float) -> None:
    """Four null features against each of 1000 draws of the labels; across prompts, of labels that do not cluster.

    Which interval applies: the swap has its level given the labels, whatever they are, and the four features of a
    study are drawn independently. So their p-values are independent although they share labels, and the binomial of
    4000 applies. Should the level of the *approximated* law depend on the labels, they would not be: hence also the
    binomial of 1000, one feature a study, which asks for nothing.
    """
    p = null_screens(1, within_prompt=within_prompt, labels_prompt_sd=labels_prompt_sd)
    for independent in (p.ravel(), p[:, 0]):
        print(shares(independent, 0.01, 0.05))
        assert holds(independent, 0.05)
        assert np.mean(independent <= 0.01) <= interval(independent.size, 0.01)[1]


def test_screen_of_null_features_with_half_of_the_prompts_held_out() -> None:
    """1200 null features. With fewer prompts the approximated law errs on the safe side, so that only the interval's
    upper end is asked for: of 20000 features, a share of 0.049 had p < 0.05 with 48 prompts, and 0.040 with 24.
    """
    p = null_screens(1, within_prompt=True, labels_prompt_sd=1.0, confirmation_clips=24, n_studies=300)
    print(shares(p, 0.01, 0.05))
    assert all(np.mean(p <= level) <= interval(p.size, level)[1] for level in (0.01, 0.05))
    assert np.mean(p <= 0.05) > 0.02


def test_screen_across_prompts_fails_where_labels_cluster_by_prompt() -> None:
    """The other side of the test above: with prompts in features and labels, clips are not exchangeable."""
    p = null_screens(2, within_prompt=False, labels_prompt_sd=2.0, codes_prompt_sd=2.0, n_studies=150)
    print(shares(p, 0.05))
    assert np.mean(p <= 0.05) > 0.1 > interval(p.size, 0.05)[1]


def swap_p(rng: np.random.Generator, ranks: Array, labels: Array, group: NDArray, within_prompt: bool) -> float:
    """One-sided p of the screen's statistic from 19 drawn swaps: at most 5% exactly once in twenty."""
    swapped = [np.vdot(ranks[swap_clips(group, within_prompt, rng)], labels) for _ in range(19)]
    return (1 + np.sum(np.array(swapped) >= np.vdot(ranks, labels) - 1e-9)) / 20


@pytest.mark.parametrize("within_prompt", [False, True])
def test_drawn_swaps_of_null_trajectories(within_prompt: bool) -> None:
    """1000 studies of one trajectory each, which clusters by prompt as the labels do."""
    rng = np.random.default_rng(3)
    prompt = np.repeat(np.arange(12), 3)
    labels = label(*draw_returns(rng, 1000, prompt, prompt_sd=2.0))
    p, p_clips = [], []
    for y, usable in zip(*labels, strict=True):
        trajectories = slow(rng, (36, y.shape[1], 1))[:, :, 0] + 2.0 * rng.normal(size=(12, 1))[prompt]
        ranks, centred = rankdata(trajectories, axis=0), centred_labels(y, usable)
        p.append(swap_p(rng, ranks, centred, prompt, within_prompt))
        p_clips.append(swap_p(rng, ranks, centred, np.zeros(36, int), True))
    print(shares(p, 0.05, 0.25, 0.5), "clip by clip", shares(p_clips, 0.05))
    assert all(holds(p, level) for level in (0.05, 0.25, 0.5))
    assert np.mean(np.array(p_clips) <= 0.05) > interval(1000, 0.05)[1]


P_VALUES = ("p_swap", "p_swap_within_prompt")


def asked(y: NDArray, usable: NDArray, prompt: NDArray, b: NDArray) -> Question:
    """A question whose baseline has a column for each time, and the rest is sound."""
    n_times = y.shape[1]
    names = [f"time_{t}s" for t in range(n_times)] + [f"now_{i}" for i in range(b.shape[2] - n_times)]
    return Question(y, usable, prompt, [f"c{i}" for i in range(len(y))], b, names)


def null_probes(seed: int, n_studies: int, *, sounds: bool) -> pd.DataFrame:
    """Records of probes of an R that says nothing beyond B: three slow latents.

    B knows the position. With `sounds` it also hears two slow sounds, the first of which drives the returns, and R
    repeats both. Returns, sounds and latents cluster by prompt.
    """
    rng = np.random.default_rng(seed)
    prompt = np.repeat(np.arange(12), 3)
    heard = np.stack([slow(rng, (36, 4, 2)) + 0.7 * rng.normal(size=(12, 1, 2))[prompt] for _ in range(n_studies)])
    heard *= sounds
    tilt = 1.5 * heard[:, :, :, 0].mean(axis=2)
    labels = label(*draw_returns(rng, n_studies, prompt, prompt_sd=0.7, tilt=tilt), step_s=3.0)
    position = np.broadcast_to(np.eye(4), (36, 4, 4))
    records = []
    for i, (y, usable) in enumerate(zip(*labels, strict=True)):
        b = np.concatenate([position, heard[i]], axis=2).astype(np.float32)
        r = (draw_codes(rng, prompt, 4, 3) + heard[i] @ rng.normal(size=(2, 3))).astype(np.float32)
        question = asked(y, usable, prompt, b)
        records.append(probe(question, r, seed=i, n_swaps=19, n_folds=2, n_bootstrap=20).record)
    return pd.DataFrame(records)


def test_probe_swaps_are_exact(monkeypatch: pytest.MonkeyPatch) -> None:
    """200 studies in which nothing but the swap is approximate: one penalty, so that none is chosen, and a B that
    leaves R nothing to be cleared of. Then p is uniform as far as gains are above 0; where they are not it is 1, so
    that a level above their share can't be reached.
    """
    monkeypatch.setattr(baseline, "PENALTIES", (100.0,))
    records = null_probes(4, 200, sounds=False)
    for name in P_VALUES:
        print(name, shares(records[name], 0.05, 0.1, 0.25, 0.5), np.mean(records["gain_auroc"] > 0))
        assert all(holds(records[name], level) for level in (0.05, 0.1))
        assert (records.loc[records["gain_auroc"] <= 0, name] == 1).all()
    # Both must be beaten, which is rarer than either.
    assert np.mean(records["p_gain"] <= 0.05) <= interval(len(records), 0.05)[1]


def test_probe_of_null_representations() -> None:
    """200 studies as probes are run.

    Here p errs on the safe side, so that only the interval's upper end is asked for. The penalty is chosen on the
    unswapped R: a small one where chance made R look useful inside the training folds, which it then pays for outside
    of them. And R is cleared of B by other prompts' coefficients, whose error counts against the unswapped R alone.
    """
    records = null_probes(5, 200, sounds=True)
    assert (records["note"] == "").all() and records["auroc_B"].mean() > 0.65 and records["auroc_R"].mean() > 0.55
    for name in (*P_VALUES, "p_gain"):
        print(name, shares(records[name], 0.05, 0.25, 0.5))
        for level, share in shares(records[name], 0.05, 0.25, 0.5).items():
            assert share <= interval(len(records), level)[1]


def test_false_discovery_rate_of_a_mixture() -> None:
    """150 studies of 50 features at two horizons, corrected as one family; ten features know of the return."""
    rng = np.random.default_rng(6)
    n_studies, n_features, n_planted = 150, 50, 10
    returns, onset_s = draw_returns(rng, n_studies, PROMPT, prompt_sd=1.0)
    horizons = [label(returns, onset_s, horizon=horizon) for horizon in ((5.0, 15.0), (7.0, 17.0))]
    strength = np.r_[np.linspace(0.4, 2.0, n_planted), np.zeros(n_features - n_planted)]
    false_fraction: dict[str, list[float]] = {"q": [], "p": []}
    power = []
    for i in range(n_studies):
        latents = draw_codes(rng, PROMPT, 11, n_features, plan=strength * returns[i][:, None, None])
        p = []
        for labels in horizons:
            y, usable = labels.y[i], labels.usable[i]
            entries = entries_of(latents[:, : y.shape[1]])
            table = screen(entries, n_features, y, usable, PROMPT, min_active=0.01, max_active=0.9)
            p.append(table["p"].to_numpy())
        q = false_discovery(np.array(p))
        for name, values in (("q", q), ("p", np.array(p))):
            found = values <= 0.05
            false_fraction[name].append(found[:, n_planted:].sum() / max(1, found.sum()))
        power.append(np.mean(q[:, :n_planted] <= 0.05))
    fdr, se = np.mean(false_fraction["q"]), np.std(false_fraction["q"]) / np.sqrt(n_studies)
    print("FDR", fdr, se, "uncorrected", np.mean(false_fraction["p"]), "power", np.mean(power))
    assert fdr <= 0.05 + norm.isf(0.005) * se and se < 0.01
    assert np.mean(power) > 0.3
    assert np.mean(false_fraction["p"]) > 0.1  # uncorrected, the same p-values would not do


def shift_moments(ranks: Array, labels: Array) -> tuple[Array, Array, Array]:
    """T and its exact mean and variance when each clip's ranks are shifted circularly, clip by clip independently.

    `ranks` `[feature, clip, time]`, `labels` `[clip, time]`, as `swap_moments` takes them.
    """
    shifts = range(labels.shape[1])
    by_clip = np.stack([np.einsum("fnt,nt->fn", np.roll(ranks, s, axis=2), labels) for s in shifts])
    return by_clip[0].sum(axis=1), by_clip.mean(axis=0).sum(axis=1), by_clip.var(axis=0).sum(axis=1)


def null_shifts(seed: int, n_studies: int, *, autocorrelation: float, drift_sd: float) -> dict[tuple[str, str], Array]:
    """Two-sided p of null features, by (statistic, null), of two statistics and of the same two nulls each.

    `stratified` is the screen's statistic; `pooled` ranks all rows together, and centres the labels over them. Both
    nulls have exact moments and a normal law; only what is exchanged differs.
    """
    rng = np.random.default_rng(seed)
    labels = label(*draw_returns(rng, n_studies, PROMPT, prompt_sd=1.0))
    p: dict[tuple[str, str], list[Array]] = {}
    for y, usable in zip(*labels, strict=True):
        latents = draw_codes(rng, PROMPT, y.shape[1], 5, autocorrelation=autocorrelation, drift_sd=drift_sd)
        latents = np.moveaxis(latents, 2, 0)
        pooled_ranks = rankdata(latents.reshape(5, -1), axis=1).reshape(latents.shape)
        statistics = {
            "stratified": (rankdata(latents, axis=1), centred_labels(y, usable)),
            "pooled": (pooled_ranks, np.where(usable, y - y[usable].mean(), 0.0)),
        }
        for name, (ranks, centred) in statistics.items():
            nulls = {"swap": swap_moments(ranks, centred, PROMPT), "shift": shift_moments(ranks, centred)}
            for null, (found, mean, variance) in nulls.items():
                p.setdefault((name, null), []).append(2 * norm.sf(np.abs(found - mean) / np.sqrt(variance)))
    return {key: np.concatenate(values) for key, values in p.items()}


def test_circular_shift_finds_what_is_not_there() -> None:
    """Same features, same labels, same statistic: swapping clips holds its level, shifting in time does not.

    A shift keeps the autocorrelation, but not what ties both to the position: labels have a beginning and an end, and
    features drift. And a slow feature and a run of positives have both only a few independent values a clip, joined
    at their ends by the shift, so that even where the position is taken out (stratified) too much is found (Harris,
    "Nonsense correlations in neuroscience", bioRxiv 2020). On features without memory or drift the shift is right.
    """
    p = null_shifts(7, 400, autocorrelation=0.95, drift_sd=1.0)
    print({key: shares(values, 0.05) for key, values in p.items()})
    assert holds(p["stratified", "swap"], 0.05) and holds(p["pooled", "swap"], 0.05)
    assert np.mean(p["stratified", "shift"] <= 0.05) > 0.1
    assert np.mean(p["pooled", "shift"] <= 0.05) > 0.5
    memoryless = null_shifts(8, 400, autocorrelation=0.0, drift_sd=0.0)
    print({key: shares(values, 0.05) for key, values in memoryless.items()})
    assert all(holds(values, 0.05) for values in memoryless.values())


@settings(derandomize=True, deadline=None, max_examples=150)
@given(
    rows=st.lists(st.tuples(st.integers(0, 9), st.booleans()), min_size=1, max_size=60),
    n_folds=st.integers(2, 6),
    seed=st.integers(0, 5),
)
def test_no_prompt_is_in_two_folds(rows: list[tuple[int, bool]], n_folds: int, seed: int) -> None:
    groups, y = np.array(rows)[:, 0], np.array(rows)[:, 1].astype(float)
    folds, note = prompt_folds(y, groups, n_folds, seed)
    assert all(len(np.unique(folds[groups == g])) == 1 for g in groups)
    if not note:
        assert 2 <= len(np.unique(folds)) <= n_folds
        assert all(len(np.unique(y[folds != f])) == 2 for f in folds)


@settings(derandomize=True, deadline=None, max_examples=25)
@given(sizes=st.lists(st.integers(1, 4), min_size=4, max_size=9), n_folds=st.integers(2, 5), seed=st.integers(0, 1000))
def test_no_prompt_is_in_two_folds_of_a_probe(sizes: list[int], n_folds: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    prompt = rng.permutation(np.repeat([f"prompt {i}" for i in range(len(sizes))], sizes))
    shape = (len(prompt), 3)
    y, usable = (rng.random(shape) < 0.4).astype(np.int8), rng.random(shape) < 0.9
    b, r = (rng.normal(size=(*shape, 2)).astype(np.float32) for _ in range(2))
    x = np.concatenate([np.broadcast_to(np.eye(3, dtype=np.float32), (*shape, 3)), b], axis=2)
    seen: list[tuple[NDArray[np.int64], list[NDArray[np.int64]]]] = []

    def noted(y: Array, groups: NDArray, folds: NDArray, seed: int) -> list[NDArray[np.int64]]:
        seen.append((groups, inner_folds(y, groups, folds, seed)))
        return seen[-1][1]

    with mock.patch.object(baseline, "inner_folds", noted):
        result = probe(asked(y, usable, prompt, x), r, seed=seed, n_swaps=1, n_folds=n_folds, n_bootstrap=5)
    if result.record["note"]:
        return
    rows = result.predictions
    assert (rows["prompt"] == prompt[rows["clip"]]).all()
    assert (rows.groupby("prompt")["fold"].nunique() == 1).all()
    assert len(seen) == 1  # for the baseline; what is fitted on top of it has the same
    for groups, inner in seen:
        assert len(inner) == result.record["n_folds"]
        for fold, inner_fold in enumerate(inner):
            assert ((inner_fold == -1) == (rows["fold"] == fold)).all()
            assert (pd.Series(inner_fold).groupby(groups).nunique() == 1).all()


def test_what_is_learned_of_a_prompt_is_of_no_use_for_it() -> None:
    """R names the prompt, and the prompt decides: folds that split a prompt would know every answer."""
    rng = np.random.default_rng(10)
    prompt = np.repeat(np.arange(20), 4)
    y = np.repeat((rng.permutation(20) < 10)[prompt][:, None], 3, axis=1).astype(np.int8)
    names = np.repeat(np.eye(20, dtype=np.float32)[prompt][:, None], 3, axis=1)
    b = rng.normal(size=(80, 3, 2)).astype(np.float32)
    x = np.concatenate([np.broadcast_to(np.eye(3, dtype=np.float32), (80, 3, 3)), b], axis=2)
    question = asked(y, np.ones(y.shape, bool), prompt, x)
    record = probe(question, names, seed=0, n_swaps=1, n_bootstrap=5).record
    print(record["auroc_R"], record["bits_R"])
    assert record["auroc_R"] < 0.6 and record["bits_R"] < 0.05
