"""Do the statistics hold as claimed? Simulated rates, each with its number of trials and an exact 95 % interval.

The tests in tests/science call the same simulations with fewer draws. All of them use the code of the real stages
(`confirm`, `matched_damage`, `learned_gain`). Each function describes its data.
"""

from collections.abc import Callable, Iterator
from typing import Any
from unittest import mock

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy.stats import binomtest

from benchmarks.power import RANDOM, Pool, promised_and_found, summary
from reprise.candidates.confirmation import confirm
from reprise.config.schema import VerdictSettings
from reprise.interventions.heads import mean_and_interval
from reprise.interventions.matched_damage import matched_damage
from reprise.interventions.sufficiency import sufficiency_summary
from reprise.probing.learned import learned_gain
from reprise.probing.probes import Question, fit_question, probe
from reprise.statistics import ratio_interval
from reprise.verdict.preregistration import Thresholds

Array = NDArray[np.float64]

ALPHA = 0.05
THRESHOLDS = Thresholds(**VerdictSettings().model_dump(), alpha=ALPHA)
RATES = (0.0, 0.05, 0.5, 0.95, 1.0)
CLUSTERING = 0.3
# As in the demo's ablation: 24 clips from 24 held-out prompts with four seeds each.
N_CLIPS, N_HELD_OUT, N_SEEDS = 24, 24, 4
# Sometimes a larger study is advised, but it would take too long.
MAX_PROMPTS = 200
DOSES = (0.25, 0.5, 1.0, 2.0)
WRECKED_NATS, NOISE_NATS = 0.9, 0.02


def rate(outcomes: list[bool]) -> dict[str, float]:
    """Fraction of outcomes that are true, with its exact interval."""
    k, n = int(sum(outcomes)), len(outcomes)
    low, high = binomtest(k, n).proportion_ci()
    return {"value": k / n, "low": float(low), "high": float(high), "n": n}


# --- confirmation ---------------------------------------------------------------------------------------------


def null_confirmations(n_tried: int, seed: int, *, swaps_per_level: int = 1) -> pd.DataFrame:
    """Result of `confirm` for `n_tried` features that predict nothing.

    There are 16 held-out prompts, each with two clips of two times. Labels and features cluster by prompt. Features
    are independent of labels and of each other. swaps_per_level: see `reprise.candidates.confirmation`.
    """
    rng = np.random.default_rng([seed, n_tried])
    prompt = np.repeat(np.arange(16), 2)
    log_odds = 0.7 * rng.normal(size=16)[prompt] - 0.3
    y = np.repeat(rng.random(len(prompt)) < 1 / (1 + np.exp(-log_odds)), 2).reshape(-1, 2).astype(np.int8)
    x = np.broadcast_to(np.eye(2, dtype=np.float32), (len(prompt), 2, 2))
    latents = np.maximum(rng.normal(size=(len(prompt), 2, n_tried)) + rng.normal(size=(16, 1, n_tried))[prompt], 0)
    question = Question(
        y, np.ones(y.shape, bool), prompt, [str(i) for i in range(len(prompt))], x, ["time_0s", "time_1s"]
    )
    tried = pd.DataFrame({"horizon": ["h"] * n_tried})
    # Fewer swaps than in the stage, but enough for the least p to survive the correction. An exact test stays exact.
    with (
        mock.patch("reprise.candidates.confirmation.SWAPS_PER_LEVEL", swaps_per_level),
        mock.patch("reprise.candidates.confirmation.MIN_SWAPS", 19),
    ):
        return confirm(
            tried,
            {"h": question},
            lambda i: latents[:, :, [i]].astype(np.float32),
            np.ones(len(prompt), bool),
            alpha=ALPHA,
            seed_of=lambda horizon: seed,
        )


def false_confirmation(n_tried: int, n_studies: int) -> dict[str, dict[str, float]]:
    """How often any null feature is confirmed, and how often one would be without the correction of alpha."""
    found = [null_confirmations(n_tried, seed) for seed in range(n_studies)]
    raw = [bool(((f["gain_auroc_low"] > 0) & (f["p_gain"] <= ALPHA)).any()) for f in found]
    return {"corrected": rate([bool(f["confirmed"].any()) for f in found]), "raw": rate(raw)}


# --- intervals ------------------------------------------------------------------------------------------------


def draw_clips(rng: np.random.Generator, n_clips: int = N_CLIPS, n_prompts: int = N_HELD_OUT) -> NDArray[np.int64]:
    """The prompt of each clip with a return, int `[clip]`, drawn from prompts with `N_SEEDS` clips each."""
    drawn = rng.choice(np.repeat(np.arange(n_prompts), N_SEEDS), n_clips, replace=False)
    return np.unique(drawn, return_inverse=True)[1]


def hits(rng: np.random.Generator, prompt: NDArray[np.int64], share: float, clustering: float) -> Array:
    """Draw 0 or 1 for each clip, `[clip]`, with mean `share`.

    prompt: int `[clip]`. Clips of a prompt are similar: beta-binomial with intra-class correlation `clustering`.
    """
    n_prompts = prompt.max() + 1
    if share in (0.0, 1.0) or clustering == 0:
        chance = np.full(n_prompts, share)
    elif clustering == 1:
        chance = (rng.random(n_prompts) < share).astype(float)
    else:
        size = (1 - clustering) / clustering
        chance = rng.beta(share * size, (1 - share) * size, n_prompts)
    return (rng.random(len(prompt)) < chance[prompt]).astype(float)


def control_curve(dose: float) -> tuple[float, float]:
    """Fraction of returns that a control loses at a dose, and its mean damage in nats. Both grow with the dose."""
    damage = 0.1 * dose
    return 1 - np.exp(-3 * damage), damage


def draw_effects(
    rng: np.random.Generator,
    prompt: NDArray[np.int64],
    share: float,
    *,
    clustering: float,
    wrecked: float,
    luck: float,
) -> pd.DataFrame:
    """Draw the effects of a target and of three controls.

    Parameters
    ----------
    rng : numpy.random.Generator
        For all draws.
    prompt : int array `[clip]`
        The prompt of each clip.
    share : float
        Fraction of returns that the target removes.
    clustering : float
        Intra-class correlation of clips of a prompt.
    wrecked : float
        Fraction of clips that the target damages by `WRECKED_NATS`.
    luck : float
        Fraction of returns that fresh noise alone loses.

    Returns
    -------
    DataFrame
        One row per clip and condition, as for `matched_damage`.
    """
    conditions: list[tuple[str, float, float, float]] = [("resampled", 0.0, luck, 0.0), ("target", 1.0, share, -1.0)]
    for kind in ("matched_feature", "random_subspace"):
        conditions += [(kind, dose, *control_curve(dose)) for dose in DOSES]
    parts = []
    for kind, dose, lost, damage in conditions:
        noise = rng.normal(0, NOISE_NATS, len(prompt))
        nats = WRECKED_NATS * hits(rng, prompt, wrecked, clustering) if damage < 0 else damage
        window = "none" if kind == "resampled" else "until_event"
        table = {"clip_id": np.arange(len(prompt)), "prompt_id": prompt, "kind": kind, "control": 0, "dose": dose}
        table |= {"window": window, "effect_rate": hits(rng, prompt, lost, clustering), "damage_nats": nats + noise}
        parts.append(pd.DataFrame(table))
    return pd.concat(parts)


def target(effects: pd.DataFrame, *, level: float = 0.95) -> pd.Series:
    """The row of the target."""
    found = matched_damage(effects, level=level)
    return found[found["kind"] == "target"].iloc[0]


def coverage(
    share: float, n_studies: int, *, clustering: float = CLUSTERING, wrecked: float | None = None, luck: float = 0.1
) -> dict[str, dict[str, float]]:
    """How often the intervals of effect, damage and selectivity contain the truth.

    share: the true fraction of returns lost. wrecked: that of clips damaged, by default `share`. clustering and luck
    are as in `draw_effects`. The true selectivity is computed from 3,000 prompts.
    """
    wrecked = share if wrecked is None else wrecked
    how = {"clustering": clustering, "wrecked": wrecked, "luck": luck}
    large = np.repeat(np.arange(3000), 2)
    truth = {"effect": share, "damage": WRECKED_NATS * wrecked}
    truth["selectivity"] = target(draw_effects(np.random.default_rng(99), large, share, **how))["selectivity"]
    covered: dict[str, list[bool]] = {name: [] for name in truth}
    for seed in range(n_studies):
        rng = np.random.default_rng([seed, round(100 * share), round(100 * clustering)])
        row = target(draw_effects(rng, draw_clips(rng), share, **how))
        for name, value in truth.items():
            covered[name].append(bool(row[f"{name}_low"] - 1e-9 <= value <= row[f"{name}_high"] + 1e-9))
    return {name: rate(held) for name, held in covered.items()}


def ratio_coverage(ratio: float, n_studies: int, *, whole: float = 0.8) -> dict[str, float]:
    """How often the interval of a stored fraction contains the truth.

    A clip loses its return under the whole edit with probability `whole`. If it does, it loses it under the edit of
    the prefix with probability `ratio`.
    """
    covered = []
    for seed in range(n_studies):
        rng = np.random.default_rng([seed, round(100 * ratio), 1])
        prompt = draw_clips(rng)
        lost = hits(rng, prompt, whole, CLUSTERING)
        low, high = ratio_interval(lost * hits(rng, prompt, ratio, CLUSTERING), lost, prompt)
        covered.append(bool(low - 1e-9 <= ratio <= high + 1e-9))
    return rate(covered)


def null_selectivity(n_studies: int, *, min_selectivity: float = 0.1) -> dict[str, float]:
    """How often an edit that is like one more control passes the gate of selectivity.

    Its fraction of returns lost and its damage are those of a control at dose 1.
    """
    passes = []
    for seed in range(n_studies):
        rng = np.random.default_rng([seed, 2])
        lost, damage = control_curve(1.0)
        how = {"clustering": CLUSTERING, "wrecked": damage / WRECKED_NATS, "luck": 0.1}
        row = target(draw_effects(rng, draw_clips(rng), lost, **how))
        passes.append(bool(row["selectivity_low"] > 0 and row["selectivity"] >= min_selectivity))
    return rate(passes)


# --- learned gain ---------------------------------------------------------------------------------------------


def reservoirs(
    seed: int, *, plan: float = 0.0, n_prompts: int = 20, n_seeds: int = 3, model: int | None = None
) -> tuple[Question, Array, Array]:
    """Draw a question, and representations R of the trained model and M of random weights.

    A cue decides the return. Both representations are noisy random projections of a memory that contains the cue and
    seven other values.

    Parameters
    ----------
    seed : int
        Seed of the study.
    plan : float
        How much larger the cue is in R than in M.
    n_prompts, n_seeds : int
        Number of prompts, and of clips per prompt.
    model : int, optional
        Seed of the projections. By default every study has its own.

    Returns
    -------
    question : Question
    r, m : float32 arrays `[clip, time, 6]`
    """
    rng = np.random.default_rng([seed, 3])
    weights = rng if model is None else np.random.default_rng([model, 4])
    n, n_times = n_prompts * n_seeds, 2
    memory = rng.normal(size=(n, 1, 8))
    y = np.repeat((memory[:, 0, :1] + 0.8 * rng.normal(size=(n, 1)) > 0), n_times, axis=1).astype(np.int8)
    position = np.broadcast_to(np.eye(n_times), (n, n_times, n_times))
    sound = rng.normal(size=(n, n_times, 3))
    x = np.concatenate([position, sound], axis=2).astype(np.float32)
    names = ["time_0s", "time_1s", "now_0", "now_1", "now_2"]

    def projection(extra: float) -> Array:
        held = memory * np.r_[1 + extra, np.ones(7)]
        return (held @ weights.normal(size=(8, 6)) + 2.0 * rng.normal(size=(n, n_times, 6))).astype(np.float32)

    ids = [f"c{i}" for i in range(n)]
    question = Question(y, np.ones(y.shape, bool), np.repeat(np.arange(n_prompts), n_seeds), ids, x, names)
    return question, projection(plan), projection(0.0)


def learned(question: Question, r: Array, m: Array, seed: int, *, n_swaps: int = 1) -> tuple[dict, dict]:
    """The record of R's probe, and the result of `learned_gain` for R against M. r, m: as from `reservoirs`."""
    baseline = fit_question(question, seed=seed, n_folds=3)
    results = [
        probe(question, of, seed=seed, baseline=baseline, n_swaps=swaps, n_folds=3, n_bootstrap=300)
        for of, swaps in ((r, n_swaps), (m, 1))
    ]
    tables = [
        one.predictions.assign(clip_id=one.predictions["clip"], time_s=one.predictions["time"]) for one in results
    ]
    return results[0].record, learned_gain(*tables, seed=seed, n_bootstrap=300, n_swaps=199)


def learned_passes(n_studies: int, *, plan: float) -> list[bool]:
    """For each study, whether the gate of the learned gain passes (interval above 0, p at most alpha)."""
    found = [learned(*reservoirs(seed, plan=plan), seed)[1] for seed in range(n_studies)]
    return [bool(f["learned_auroc_low"] > 0 and f["p_learned"] <= ALPHA) for f in found]


# --- power ----------------------------------------------------------------------------------------------------


def power_simulated(n_pilots: int, n_studies: int, *, n_prompts: int = 48, n_seeds: int = 4) -> dict[str, Any]:
    """Pilots from models that plan more or less, against `n_studies` studies of the advised size for each pilot.

    n_prompts: prompts of a pilot. n_seeds: clips per prompt.
    """
    rows = []
    for number in range(n_pilots):

        def study(size: int, seed: int, number: int = number) -> Pool | None:
            if size > MAX_PROMPTS:
                return None
            question, r, m = reservoirs(seed, plan=number % 3, n_prompts=size, n_seeds=n_seeds, model=number)
            return {"question": question, "resid": r, RANDOM: m}

        rows.append(
            promised_and_found(
                study(n_prompts, 1000 + number) or {},
                lambda size, draw, study=study, number=number: study(size, 100 * number + draw),
                THRESHOLDS,
                seed=number,
                n_studies=n_studies,
                n_folds=3,
            )
        )
    return summary(rows)


def sufficiency_coverage(share: float, n_studies: int, *, luck: float = 0.1) -> dict[str, dict[str, float]]:
    """How often the intervals of sufficiency contain the truth.

    A clip without a return gets one with probability `share` under the edit, and with probability `luck` untouched and
    under each of three controls.
    """
    truth = {"rate_untouched": luck, "rate_edited": share, "gained": share - luck, "more_than_controls": share - luck}
    covered: dict[str, list[bool]] = {name: [] for name in truth}
    conditions = [("untouched", 0), ("target", 0), ("matched_feature", 0), ("swapped_fit", 0), ("random_subspace", 0)]
    for seed in range(n_studies):
        rng = np.random.default_rng([seed, round(100 * share), 2])
        prompt = draw_clips(rng)
        table = {"arm": "sufficiency", "clip_id": np.arange(len(prompt)), "prompt_id": prompt, "damage_nats": 0.0}
        parts = []
        for kind, control in conditions:
            found = hits(rng, prompt, share if kind == "target" else luck, CLUSTERING)
            parts.append(pd.DataFrame(table | {"kind": kind, "control": control, "found": found}))
        row = sufficiency_summary(pd.concat(parts)).iloc[0]
        for name, value in truth.items():
            covered[name].append(bool(row[f"{name}_low"] - 1e-9 <= value <= row[f"{name}_high"] + 1e-9))
    return {name: rate(held) for name, held in covered.items()}


def head_coverage(skewed: bool, n_studies: int) -> dict[str, float]:
    """How often the interval of a patched head's effect contains the truth.

    Effects of clips are normal, or skewed as those of a head that matters in few clips (gamma with shape 0.5), and
    cluster by prompt.
    """
    covered = []
    for seed in range(n_studies):
        rng = np.random.default_rng([seed, int(skewed), 3])
        prompt = draw_clips(rng)

        def draw(n: int, rng: np.random.Generator = rng) -> Array:
            return (rng.gamma(0.5, size=n) - 0.5) / 0.5**0.5 if skewed else rng.standard_normal(n)

        values = CLUSTERING**0.5 * draw(prompt.max() + 1)[prompt] + (1 - CLUSTERING) ** 0.5 * draw(len(prompt))
        _, low, high = mean_and_interval(values, prompt)
        covered.append(bool(low <= 0 <= high))
    return rate(covered)


# --- all ------------------------------------------------------------------------------------------------------

N_CONFIRMATIONS = {1: 300, 5: 60, 10: 30, 40: 6}
N_COVERAGE, N_LEARNED = 400, 150


def simulations() -> Iterator[tuple[str, Callable[[], Any]]]:
    """Name and simulation of each figure in `statistics.json`."""
    for k, n in N_CONFIRMATIONS.items():
        yield f"false confirmation, {k} tried", lambda k=k, n=n: false_confirmation(k, n)
    for share in RATES:
        yield f"coverage at a true rate of {share:g}", lambda share=share: coverage(share, N_COVERAGE)
    for ratio in (0.0, 0.5, 1.0):
        yield f"coverage of a stored share of {ratio:g}", lambda ratio=ratio: ratio_coverage(ratio, N_COVERAGE)
    for share in RATES:
        yield (
            f"coverage of sufficiency at a true rate of {share:g}",
            lambda share=share: sufficiency_coverage(share, N_COVERAGE),
        )
    for skewed in (False, True):
        name = f"coverage of a patched head's effect{', skewed' if skewed else ''}"
        yield name, lambda skewed=skewed: head_coverage(skewed, N_COVERAGE)
    yield "null edit passes selectivity", lambda: null_selectivity(N_COVERAGE)
    yield "one more reservoir passes the learned gain", lambda: rate(learned_passes(N_LEARNED, plan=0.0))
    yield "a plan passes the learned gain", lambda: rate(learned_passes(N_LEARNED // 3, plan=3.0))
    yield "a study of the size that 48 prompts advise decides", lambda: power_simulated(18, 8)
    few = {"n_prompts": 20, "n_seeds": 3}
    yield "a study of the size that 20 prompts advise decides", lambda: power_simulated(18, 8, **few)


def run() -> dict[str, Any]:
    """The content of `statistics.json`."""
    return {name: simulate() for name, simulate in simulations()}
