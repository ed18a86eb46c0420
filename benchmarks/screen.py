"""The cost of the feature screen: a wide SAE's features at several horizons, against scikit-learn feature by feature.

Latents are like those of a wide SAE: `K` of `N_FEATURES` features are active at each clip and time. The rate of a
feature is log-normal. Each clip has a pool of `POOL` features, in which frequent features are more likely. Each
feature of the pool has a level that drifts over time, and the highest are active. Half of these are still active one
grid time later. Labels: half of the clips have one return, and y is whether it begins within the horizon.

Both methods start from sparse latents in memory. Ours is `reprise.candidates.screen.screen` as in the workflow, called
once per horizon. It sorts and ranks all features and gives their AUROC. Features within the shipped activity limits
("tested") also get z, and p corrected for skewness. The plain method makes the dense column of a tested feature once
for all horizons, from a matrix that is already sorted by feature, and calls `roc_auc_score` at each horizon on the
usable positions. It pools all times and tests nothing. Unit: processor seconds on one thread, in interleaved rounds.
"""

import time
from statistics import median
from typing import Any

import numpy as np
from scipy.sparse import csc_array
from sklearn.metrics import roc_auc_score

from benchmarks.processes import in_fresh_process
from benchmarks.records import record
from reprise.candidates.screen import active_entries, screen
from reprise.identity import seed_from

N_FEATURES, K, POOL, LOG_RATE_SD, DRIFT = 32_768, 32, 512, 1.7, 0.8
N_PROMPTS, N_SEEDS, N_TIMES, GRID_S = 250, 4, 100, 0.25
N_CLIPS = N_PROMPTS * N_SEEDS
HORIZONS_S = ((0.5, 2.0), (2.0, 4.0), (4.0, 6.0), (6.0, 8.0), (8.0, 12.0))
LIMITS = {"min_active": 0.01, "max_active": 0.6}  # the shipped settings
CLIPS_AT_ONCE = 100
N_SAMPLED = 40
N_ROUNDS = 5


def draw_codes() -> list[tuple[np.ndarray, np.ndarray]]:
    """Batches of (values float32, indices int32) `[clip, time, k]`."""
    rng = np.random.default_rng(seed_from("benchmark", "screen", "latents"))
    log_rate = LOG_RATE_SD * rng.standard_normal(N_FEATURES)
    batches = []
    for _ in range(N_CLIPS // CLIPS_AT_ONCE):
        # The largest of log rate plus Gumbel noise: a draw without replacement.
        noisy = log_rate + rng.gumbel(size=(CLIPS_AT_ONCE, N_FEATURES))
        pool = np.argpartition(-noisy, POOL, axis=1)[:, :POOL]
        level = rng.standard_normal((CLIPS_AT_ONCE, N_TIMES, POOL))
        for t in range(1, N_TIMES):
            level[:, t] = DRIFT * level[:, t - 1] + np.sqrt(1 - DRIFT**2) * level[:, t]
        top = np.argpartition(-level, K, axis=2)[:, :, :K]
        values = np.exp(np.take_along_axis(level, top, axis=2)).astype(np.float32)
        batches.append((values, pool[np.arange(CLIPS_AT_ONCE)[:, None, None], top].astype(np.int32)))
    return batches


def draw_labels() -> list[tuple[np.ndarray, np.ndarray]]:
    """(y, usable) `[clip, time]` of each horizon.

    Not usable are the two seconds after an onset, and times whose horizon ends after the clip.
    """
    rng = np.random.default_rng(seed_from("benchmark", "screen", "labels"))
    times_s = GRID_S * np.arange(N_TIMES)
    onset_s = np.where(rng.random(N_CLIPS) < 0.5, rng.uniform(4.0, times_s[-1], N_CLIPS), np.inf)
    ahead_s = onset_s[:, None] - times_s
    sounding = (ahead_s < 0) & (ahead_s > -2.0)
    return [
        (((ahead_s >= a) & (ahead_s <= b)).astype(np.int8), ~sounding & (times_s + b <= times_s[-1]))
        for a, b in HORIZONS_S
    ]


def time_screens(n: int) -> dict[str, Any]:
    """Processor seconds of `n` interleaved rounds at all horizons.

    Returns `ours` for all features, `plain` for `N_SAMPLED` tested features, and `n_tested`, the number of tested
    (feature, horizon) pairs.
    """
    entries, labels = active_entries(draw_codes(), np.arange(N_TIMES), N_FEATURES), draw_labels()
    prompt = np.repeat(np.arange(N_PROMPTS), N_SEEDS)
    place = entries.clip * N_TIMES + entries.time
    columns = csc_array((entries.value, (place, entries.feature)), (N_CLIPS * N_TIMES, N_FEATURES))

    def ours() -> np.ndarray:
        tables = [screen(entries, N_FEATURES, y, usable, prompt, **LIMITS) for y, usable in labels]
        return np.array([table["tested"] for table in tables])

    def plain(features: np.ndarray) -> None:
        for feature in features:
            column = columns[:, [feature]].toarray().reshape(N_CLIPS, N_TIMES)
            for y, usable in labels:
                roc_auc_score(y[usable], column[usable])

    tested = ours()
    everywhere = np.flatnonzero(tested.all(axis=0))
    sample = np.random.default_rng(seed_from("benchmark", "screen", "sample")).choice(everywhere, N_SAMPLED, False)
    plain(sample[:1])
    methods = {"ours": ours, "plain": lambda: plain(sample)}
    taken: dict[str, Any] = {"n_tested": int(tested.sum()), "ours": [], "plain": []}
    for _ in range(n):
        for name, method in methods.items():
            began = time.process_time()
            method()
            taken[name].append(time.process_time() - began)
    return taken


def run() -> list[dict[str, Any]]:
    """The record for `results.json`."""
    taken = in_fresh_process("screen", f"time_screens({N_ROUNDS})", threads=1)
    n_horizons = len(HORIZONS_S)
    ours_s, n_tested = median(taken["ours"]), taken["n_tested"] / n_horizons
    ours_ms, plain_ms = 1e3 * ours_s / taken["n_tested"], 1e3 * median(taken["plain"]) / (N_SAMPLED * n_horizons)
    return [
        record(
            "feature_screen",
            ours_ms,
            plain_ms,
            plain_ms / ours_ms,
            "ms",
            N_ROUNDS,
            (
                f"one feature at one horizon over {N_CLIPS * N_TIMES:,} positions: AUROC, z and p from latents, "
                f"the time of the whole screen over its {n_tested:,.0f} tested features a horizon "
                f"({1e6 * ours_s / n_horizons / N_FEATURES:.0f} µs over all {N_FEATURES:,}), against scikit-learn's "
                f"roc_auc_score alone on the feature's dense column (ratio: times faster; one core)"
            ),
        )
    ]
