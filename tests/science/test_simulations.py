"""The statistics hold as claimed, in the simulations of benchmarks/statistics.py with fewer draws.

The figures of the long runs are in benchmarks/statistics.json.
"""

import math

import numpy as np
import pandas as pd
import pytest
from scipy.stats import binom

from benchmarks.statistics import (
    CLUSTERING,
    coverage,
    draw_clips,
    draw_effects,
    false_confirmation,
    head_coverage,
    hits,
    learned_passes,
    null_confirmations,
    null_selectivity,
    power_simulated,
    ratio_coverage,
    sufficiency_coverage,
    target,
)
from reprise.probing import baseline
from reprise.probing.baseline import fit_baseline
from reprise.probing.folds import prompt_folds
from reprise.probing.scores import auroc
from reprise.statistics import bootstrap_weights, prompt_means, share_interval
from reprise.verdict.gates import verdict
from tests.unit.verdict.test_gates import CLIPS, THRESHOLDS, ablation, candidate, probe, probes


def at_least(n: int, share: float) -> float:
    """The least share of `n` that a true `share` falls below once in 200 times."""
    return binom.ppf(0.005, n, share) / n


@pytest.mark.parametrize(("n_tried", "n_studies"), [(1, 40), (5, 8), (10, 4)])
def test_however_many_null_features_are_tried_few_are_confirmed(n_tried: int, n_studies: int) -> None:
    """Confirmation at raw alpha until enough pass would confirm a null feature in 0.24 of studies that try five, and
    0.40 of those that try ten."""
    found = false_confirmation(n_tried, n_studies)["corrected"]
    assert found["value"] <= binom.ppf(0.995, n_studies, 0.05) / n_studies


def test_the_correction_counts_all_that_were_tried() -> None:
    found = null_confirmations(10, 3)
    assert len(found) == 10
    assert (found["p_adjusted"] >= np.minimum(found["p_gain"] * 10, 1) - 1e-9)[found["p_gain"].idxmin()]


@pytest.mark.parametrize("clustering", [0.0, CLUSTERING, 1.0])
@pytest.mark.parametrize("share", [0.0, 0.05, 0.5, 0.95, 1.0])
def test_intervals_cover_at_the_edges_and_between(share: float, clustering: float) -> None:
    """A percentile bootstrap gives "1 (1 to 1)" where all of 24 clips change, whatever the truth."""
    n = 60
    for name, found in coverage(share, n, clustering=clustering).items():
        assert found["value"] >= at_least(n, 0.93), name


@pytest.mark.parametrize("share", [0.0, 0.5, 1.0])
def test_intervals_of_sufficiency_cover(share: float) -> None:
    n = 60
    for name, found in sufficiency_coverage(share, n).items():
        assert found["value"] >= at_least(n, 0.95), name


def test_intervals_of_patched_heads_cover() -> None:
    n = 400
    assert head_coverage(False, n)["value"] >= at_least(n, 0.95)
    # Student's interval is too short for effects that few clips have.
    assert head_coverage(True, n)["value"] >= at_least(n, 0.93)


def test_a_percentile_bootstrap_would_not_cover() -> None:
    covered = {"bootstrap": 0, "here": 0}
    for seed in range(200):
        rng = np.random.default_rng(seed)
        prompt = draw_clips(rng)
        values = hits(rng, prompt, 0.95, CLUSTERING)
        means, counts = prompt_means(values, prompt)
        weights = bootstrap_weights(len(means), 300, seed) * counts
        low, high = np.percentile(weights @ means / weights.sum(axis=1), [2.5, 97.5])
        covered["bootstrap"] += low <= 0.95 <= high
        low, high = share_interval(values, prompt)
        covered["here"] += low <= 0.95 <= high
    assert covered["here"] >= 186 and covered["bootstrap"] < 170


def test_the_best_of_several_candidates_is_guarded() -> None:
    """Four edits that do nothing, each with its interval at 1 - 0.05 / 4: all of them hold 0."""
    missed = 0
    for seed in range(60):
        rng = np.random.default_rng([seed, 4])
        how = {"clustering": CLUSTERING, "wrecked": 0.0, "luck": 0.0}
        rows = [target(draw_effects(rng, draw_clips(rng), 0.05, **how), level=1 - 0.05 / 4) for _ in range(4)]
        missed += any(not row["effect_low"] <= 0.05 <= row["effect_high"] for row in rows)
    assert missed <= binom.ppf(0.995, 60, 0.05)


@pytest.mark.parametrize("ratio", [0.0, 0.5, 1.0])
def test_the_interval_of_a_stored_fraction_covers(ratio: float) -> None:
    assert ratio_coverage(ratio, 60)["value"] >= at_least(60, 0.93)


def test_one_more_control_is_not_selective() -> None:
    assert null_selectivity(60)["value"] <= binom.ppf(0.995, 60, 0.025) / 60


def test_one_more_reservoir_gains_nothing_over_random_weights() -> None:
    assert sum(learned_passes(30, plan=0.0)) <= binom.ppf(0.995, 30, 0.05)


def test_what_only_the_trained_model_holds_is_a_learned_gain() -> None:
    assert sum(learned_passes(8, plan=6.0)) >= 4


def test_a_study_of_the_advised_size_decides_as_often_as_promised() -> None:
    """80 % power is asked of pilots; what is promised is rather too little, so more may decide."""
    found = power_simulated(5, 3)
    assert found["n"] >= 8 and found["promised"] >= 0.8
    assert found["value"] * found["n"] >= binom.ppf(0.005, found["n"], found["promised"])


def worlds(kind: str, seed: int) -> tuple[np.ndarray, np.ndarray, np.ndarray, list[str]]:
    """Labels, prompts and baseline columns of rows, where position, one sound, or a non-linear function of two sounds
    decides, beside 60 columns of sound that say nothing."""
    rng = np.random.default_rng([seed, 6])
    groups = np.repeat(np.arange(30), 12)
    time = np.tile(np.arange(4), 90)
    sound = rng.normal(size=(360, 62)) + 0.7 * rng.normal(size=(30, 62))[groups]
    score = {
        "position": 1.2 * (time - 1.5),
        "sound": 1.5 * sound[:, 0],
        "non-linear": 3.0 * (sound[:, 0] * sound[:, 1] > 0) - 1.5,
    }[kind]
    y = (rng.random(360) < 1 / (1 + np.exp(-score))).astype(float)
    x = np.concatenate([np.eye(4)[time], sound], axis=1).astype(np.float32)
    return y, groups, x, [f"time_{t}s" for t in range(4)] + [f"now_{i}" for i in range(62)]


@pytest.mark.parametrize("kind", ["position", "sound", "non-linear"])
def test_the_baseline_is_never_worse_than_its_best_part(kind: str) -> None:
    """One regression of all columns overfits: position alone had 0.69 where it had 0.65."""
    behind, trees = [], []
    for seed in range(4):
        y, groups, x, names = worlds(kind, seed)
        found = fit_baseline(y, groups, x, names, seed=seed, n_folds=4)
        folds, _ = prompt_folds(y, groups, 4, seed)
        scores = {form: auroc(baseline.tested(eta, folds), y) for form, eta in found.eta.items()}
        part = {"position": x[:, :4], "sound": x[:, 4:], "non-linear": x[:, 4:]}[kind]
        alone = fit_baseline(y, groups, part, names[:4] if kind == "position" else names[4:], seed=seed, n_folds=4)
        best = max(auroc(baseline.tested(eta, folds), y) for eta in alone.eta.values())
        behind.append(best - max(scores.values()))
        trees.append(scores["trees"] - scores["linear"])
    assert np.mean(behind) < 0.015
    if kind == "non-linear":
        assert np.mean(trees) > 0.05


FINDINGS = {"entangled", "correlate", "none", "local"}


def judge(**changes: object) -> str:
    given = {
        "clips": CLIPS,
        "probes": probes(),
        "candidates": pd.DataFrame([candidate()]),
        "matched": pd.DataFrame(ablation()),
        "sufficiency": pd.DataFrame(),
        "thresholds": THRESHOLDS,
        "long_role": "long",
    }
    return verdict(**(given | changes))["verdict"]


def test_intervals_that_are_too_wide_are_never_a_finding() -> None:
    """Whatever the values are: intervals that hold all that is possible decide nothing."""
    rng = np.random.default_rng(0)
    for _ in range(200):
        value = rng.uniform(-1, 1, 3)
        wide = {name: (v, -1.0, 1.0) for name, v in zip(("effect", "selectivity", "damage"), value, strict=True)}
        assert judge(matched=pd.DataFrame(ablation(**wide))) == "unresolved"
        gain, p = rng.uniform(-0.3, 0.5), rng.uniform(0, 1)
        rows = [probe(role, (gain, 0.5, p)) for role in ("long", "local")]
        assert judge(probes=pd.DataFrame(rows)) == "unresolved"


NUMBERS = ["gain_auroc", "gain_auroc_low", "gain_auroc_high", "p_gain", "learned_auroc_high"]


@pytest.mark.parametrize("name", NUMBERS)
@pytest.mark.parametrize("long", [(0.3, 0.02, 0.01), (0.3, 0.4, 0.01), (0.0, 0.2, 0.6)])
def test_nan_in_a_probe_is_never_a_finding(name: str, long: tuple[float, float, float]) -> None:
    """Whether a gain is shown, uncertain, or not excluded."""
    table = probes(long=long, local=(0.0, 0.04, 0.6))
    table.loc[table["role"] == "long", [name, "p_learned"]] = math.nan
    assert judge(probes=table) == "unresolved"


@pytest.mark.parametrize("name", ["gain_auroc", "gain_auroc_high", "null_gain"])
def test_absence_is_not_concluded_from_nan(name: str) -> None:
    """All numbers exclude a gain, but one that the exclusion rests on is missing."""
    table = probes(long=(0.0, 0.04, 0.6), local=(0.0, 0.04, 0.6))
    assert judge(probes=table) == "none"
    table.loc[table["role"] == "long", name] = math.nan
    assert judge(probes=table) == "unresolved"
