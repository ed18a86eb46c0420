"""Probes: planted, repeated and absent information, hygiene of folds and swaps, and the arithmetic underneath."""

import numpy as np
import pandas as pd
import pytest
from scipy.sparse import csr_matrix
from scipy.stats import norm
from sklearn.metrics import roc_auc_score

from reprise.probing.folds import prompt_folds
from reprise.probing.logistic import FitError, fit_logistic
from reprise.probing.probes import Question, _weighted_mean, probe, random_latents
from reprise.probing.scores import prompt_wins, weighted_auroc
from reprise.statistics import bootstrap_weights

N_TIMES = 6


def autocorrelated(rng: np.random.Generator, n_clips: int, d: int) -> np.ndarray:
    """`[clip, time, d]`: an offset a clip and an AR(1) walk, so that the times of a clip are hardly independent."""
    x = rng.normal(size=(n_clips, N_TIMES, d))
    for t in range(1, N_TIMES):
        x[:, t] = 0.9 * x[:, t - 1] + 0.44 * x[:, t]
    return x + rng.normal(size=(n_clips, 1, d))


def world(seed: int, n_prompts: int = 24, n_seeds: int = 3, b: int = 6) -> dict[str, np.ndarray]:
    """Half of the clips have a plan and return at one of two times; B knows position and unrelated sound."""
    rng = np.random.default_rng(seed)
    n = n_prompts * n_seeds
    plan = rng.random(n) < 0.5
    start = rng.integers(1, 3, n)
    times = np.arange(N_TIMES)
    y = (plan[:, None] & (times >= start[:, None]) & (times < start[:, None] + 3)).astype(np.int8)
    position = np.broadcast_to(np.eye(N_TIMES), (n, N_TIMES, N_TIMES))
    sound = autocorrelated(rng, n, b)
    return {
        "plan": plan,
        "sound": sound,
        "y": y,
        "usable": rng.random(y.shape) < 0.9,
        "prompt": np.repeat(np.arange(n_prompts), n_seeds),
        "baseline": np.concatenate([position, sound], axis=2).astype(np.float32),
    }


def question(w: dict[str, np.ndarray]) -> Question:
    names = [f"time_{i}s" for i in range(N_TIMES)] + [f"now_{i}" for i in range(w["baseline"].shape[2] - N_TIMES)]
    clip_ids = [f"c{i}" for i in range(len(w["y"]))]
    return Question(w["y"], w["usable"], w["prompt"], clip_ids, w["baseline"], names)


def run(w: dict[str, np.ndarray], representation: np.ndarray, seed: int = 0, **options):
    return probe(question(w), representation, seed=seed, n_bootstrap=500, **options)


def test_a_plan_beyond_the_baseline_is_found() -> None:
    w = world(1)
    rng = np.random.default_rng(1)
    r = autocorrelated(rng, len(w["plan"]), 10) + w["plan"][:, None, None] * rng.normal(size=10)
    result = run(w, r.astype(np.float32), n_swaps=19)
    record = result.record
    assert record["gain_auroc_low"] > 0 and record["gain_bits_low"] > 0
    assert record["p_swap"] == record["p_swap_within_prompt"] == record["p_gain"] == 1 / 20
    assert record["auroc_BR"] > record["auroc_B"] + 0.05
    assert record["gain_auroc"] > record["swap_gain_q95"] > record["swap_gain_q50"] >= record["null_gain"]
    assert all(type(v) in (int, float, str) for v in record.values())
    rows = result.predictions
    assert len(rows) == record["n_rows"] == w["usable"].sum()
    assert roc_auc_score(rows["y"], rows["p_BR"]) == pytest.approx(record["auroc_BR"], abs=1e-9)
    p = rows["p_B"].where(rows["y"] == 1, 1 - rows["p_B"])
    rate = rows.groupby("fold")["y"].transform(lambda y: (rows["y"].sum() - y.sum()) / (len(rows) - len(y)))
    rate = rate.where(rows["y"] == 1, 1 - rate)
    assert np.mean(np.log2(p) - np.log2(rate)) == pytest.approx(record["bits_B"], abs=1e-9)


def test_a_representation_that_repeats_the_baseline_gains_nothing() -> None:
    w = world(2)
    rng = np.random.default_rng(2)
    w["sound"][:, :, 0] += 1.5 * w["plan"][:, None]  # the baseline hears the plan, and so does R
    w["baseline"][:, :, N_TIMES:] = w["sound"]
    copies = w["baseline"] @ rng.normal(size=(w["baseline"].shape[2], 8)).astype(np.float32)
    record = run(w, copies, n_swaps=19).record
    assert record["auroc_R"] > 0.6
    assert record["gain_auroc_low"] <= 0 <= record["gain_auroc_high"]
    # What is left in B+R is the baseline with its slope fitted once more.
    assert abs(record["gain_bits"]) < 0.01 and abs(record["gain_auroc"]) < 0.005
    assert record["p_swap"] == record["p_gain"] == 1.0


@pytest.mark.parametrize("within_prompt", [False, True])
def test_autocorrelated_noise_is_rejected_no_more_often_than_its_level(within_prompt: bool) -> None:
    p, above = [], 0
    for seed in range(20):
        w = world(100 + seed, n_prompts=14, b=3)
        r = autocorrelated(np.random.default_rng(seed), len(w["plan"]), 4).astype(np.float32)
        record = run(w, r, seed, n_swaps=9, n_folds=3).record
        p.append(record["p_swap_within_prompt" if within_prompt else "p_swap"])
        above += record["gain_bits_low"] > 0
    assert np.mean(np.array(p) <= 0.1) <= 0.25  # 99 % of binomial(20, 0.1) lies at or below 5
    assert np.mean(np.array(p) > 0.3) >= 0.4
    assert above <= 3


def test_what_only_the_prompt_decides_is_found_across_prompts_but_not_within() -> None:
    w = world(3, n_prompts=30)
    rng = np.random.default_rng(3)
    decided = rng.random(30) < 0.5
    w["y"] = np.broadcast_to(decided[w["prompt"], None], w["y"].shape).astype(np.int8)
    r = np.broadcast_to((decided + 0.5 * rng.normal(size=30))[w["prompt"], None, None], (*w["y"].shape, 1))
    r = np.ascontiguousarray(r, np.float32)
    found = run(w, r, n_swaps=19).record
    assert found["p_swap"] == 1 / 20 and found["gain_auroc_low"] > 0
    assert found["p_gain"] == found["p_swap_within_prompt"] > 0.2
    one_seed = {k: v[::3] for k, v in w.items()}
    alone = run(one_seed, r[::3], n_swaps=19).record
    assert np.isnan(alone["p_swap_within_prompt"]) and alone["p_gain"] == alone["p_swap"] == 1 / 20


def test_no_prompt_is_in_two_folds() -> None:
    rng = np.random.default_rng(4)
    groups = rng.integers(0, 17, 300)
    y = (rng.random(300) < 0.2).astype(float)
    folds, note = prompt_folds(y, groups, 5, seed=7)
    assert note == "" and set(folds) == set(range(5))
    assert (pd.Series(folds).groupby(groups).nunique() == 1).all()
    assert not np.array_equal(folds, prompt_folds(y, groups, 5, seed=8)[0])
    w = world(4)
    rows = run(w, w["sound"].astype(np.float32), n_swaps=1).predictions
    assert (rows.groupby("prompt")["fold"].nunique() == 1).all()


def test_bootstrap_intervals_over_prompts_cover() -> None:
    n_prompts, per_prompt, sd, covered = 40, 8, 0.7, np.zeros(2)
    truth = norm.cdf(1 / np.sqrt(2 * (1 + sd**2)))
    groups = np.repeat(np.arange(n_prompts), per_prompt)
    for seed in range(80):
        rng = np.random.default_rng(seed)
        score = (sd * rng.normal(size=n_prompts))[groups] + rng.normal(size=len(groups))
        y = np.tile(np.repeat([0.0, 1.0], per_prompt // 2), n_prompts)
        weights = bootstrap_weights(n_prompts, 300, [seed, 2])
        low, high = np.percentile(_weighted_mean(score, groups, weights), [2.5, 97.5])
        covered[0] += low <= 0 <= high
        # Within a prompt its own effect cancels: the share 1 / n_prompts of pairs, negligible here.
        low, high = np.percentile(weighted_auroc(prompt_wins(score + y, y, groups), y, groups, weights), [2.5, 97.5])
        covered[1] += low <= truth <= high
    assert (covered >= 70).all()  # 76 expected; binomial(80, 0.95) is below 70 once in 200 times


def test_wide_representations_dense_and_sparse() -> None:
    w = world(8)
    rng = np.random.default_rng(8)
    active = rng.random((len(w["plan"]), N_TIMES, 300)) < 0.05
    latents = active * rng.random(active.shape)
    latents[:, :, :5] += w["plan"][:, None, None] * rng.random((len(w["plan"]), N_TIMES, 5))
    dense = latents.astype(np.float32)
    sparse = csr_matrix(dense.reshape(-1, 300))
    for r in (dense, sparse):
        record = run(w, r, n_swaps=9, max_components=20).record
        assert record["n_components"] == 20 and 0 < record["variance_kept"] < 1
        assert record["gain_auroc_low"] > 0 and record["p_gain"] == 0.1


def test_the_same_seed_gives_the_same_record() -> None:
    w = world(9, n_prompts=10)
    r = w["sound"].astype(np.float32)
    assert run(w, r, n_swaps=4).record == run(w, r, n_swaps=4).record
    renamed = w | {"prompt": np.array([f"p{i:02d}" for i in w["prompt"]])}
    assert run(renamed, r, n_swaps=4).record == run(w, r, n_swaps=4).record


def test_degenerate_labels_give_nan_and_a_note() -> None:
    w = world(10)
    r = w["sound"].astype(np.float32)
    full = run(w, r, n_swaps=2).record
    one_prompt = np.where((w["prompt"] == 0)[:, None], 1, 0) * np.ones_like(w["y"])
    nothing = {"usable": np.zeros_like(w["usable"])}
    for change in ({"y": np.zeros_like(w["y"])}, {"y": np.ones_like(w["y"])}, {"y": one_prompt}, nothing):
        result = run(w | change, r, n_swaps=2)
        assert result.record["note"] and np.isnan(result.record["gain_bits"]) and np.isnan(result.record["p_swap"])
        assert result.record.keys() == full.keys()


def test_wrong_shapes_are_named() -> None:
    w = world(11)
    r = w["sound"].astype(np.float32)
    with pytest.raises(ValueError, match="representation: shape begins with"):
        run(w, r[:, 1:])
    with pytest.raises(ValueError, match="CSR"):
        run(w, csr_matrix(r[0]))
    with pytest.raises(ValueError, match="valid: 0 and 1"):
        run(w | {"y": w["y"] * 2}, r)


def test_a_random_dictionary_keeps_the_largest_products_of_centred_activations() -> None:
    rng = np.random.default_rng(0)
    x = (100 + rng.standard_normal((6, 5, 16))).astype(np.float32)
    latents = random_latents(x, d_sae=64, k=4, seed=3)
    assert latents.shape == (30, 64) and (latents.data > 0).all() and np.diff(latents.indptr).max() == 4
    same, other = (random_latents(x, d_sae=64, k=4, seed=seed) for seed in (3, 4))
    assert (latents != same).nnz == 0 < (latents != other).nnz
    # Where activations share a large mean, other directions are chosen in other rows all the same.
    assert len(np.unique(latents.indices)) > 32


def test_a_fit_that_fails_is_an_error_and_a_note() -> None:
    rng = np.random.default_rng(0)
    x, y = np.c_[np.ones(50), rng.normal(size=(50, 2))].astype(np.float32), (rng.random(50) < 0.5).astype(float)
    broken = x.copy()
    broken[3, 1] = np.nan
    with pytest.raises(FitError, match="loss"):
        fit_logistic(broken, y, np.array([0.0, 1.0, 1.0]))
    with pytest.raises(FitError, match="not positive definite"):
        fit_logistic(x, y, np.array([0.0, -1e6, 1.0]))
    w = world(12, n_prompts=10)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("reprise.probing.logistic.MAX_STEPS", 1)
        record = run(w, w["sound"].astype(np.float32), n_swaps=2).record
    assert "did not converge in 1 steps" in record["note"]
    assert np.isnan(record["gain_auroc"]) and np.isnan(record["p_gain"])


def test_a_clip_that_cannot_be_read_is_lost_alone() -> None:
    """Its descriptors are NaN and none of its times is usable: everything is as if it were not there."""
    w = world(13, n_prompts=12)
    rng = np.random.default_rng(13)
    r = (autocorrelated(rng, len(w["plan"]), 6) + w["plan"][:, None, None]).astype(np.float32)
    for broken in (False, True):
        w["usable"][5] = False
        if broken:
            w["baseline"][5, :, N_TIMES:] = np.nan
            r[5] = np.nan
        found = run(w, r, n_swaps=9).record
        if not broken:
            whole = found
    assert found == whole and found["p_gain"] == 0.1


def test_a_nan_in_a_design_names_clip_and_column() -> None:
    w = world(14, n_prompts=10)
    r = w["sound"].astype(np.float32)
    w["usable"][7] = True
    bad = {name: value.copy() for name, value in w.items()}
    bad["baseline"][7, 2, N_TIMES + 1] = np.nan
    with pytest.raises(ValueError, match=r"baseline: clip c7, column now_1 is nan"):
        run(bad, r, n_swaps=2)
    r = r.copy()
    r[7, 2, 3] = np.inf
    for given in (r, csr_matrix(r.reshape(-1, r.shape[2]))):
        with pytest.raises(ValueError, match=r"representation: clip c7, column 3 is inf"):
            run(w, given, n_swaps=2)
