"""Would a larger study decide? Power of the gates that read probes, simulated from a finished study.

The gates: enough clips and prompts with an event, a conditional gain, and a learned gain (reprise/verdict/gates.py). A
study of another size is drawn from the out-of-fold predictions of the finished one, with its prompts, its clips and
their clustering:

1. The truth is not known, so a population is drawn first: the study's prompts, resampled with replacement. Fewer are
drawn than there are (`REFIT_VARIANCE`), because the probes of another study are fitted again. The result is therefore
an average over what this study leaves open, and not what its best estimate would give.
2. From that population prompts are drawn, as many as the larger study would have, each with all of its clips. For more
seeds, the number of prompts stays the same and each has more clips, drawn from its own.
3. Each drawn study is judged as the verdict does, with two shortcuts. Its interval is normal instead of a bootstrap,
with a variance from the AUROC's derivative by prompt (the infinitesimal jackknife; Efron 1982). Its p-value is normal
too: for the gain, with the spread of this study's swaps divided by the root of the ratio of prompt numbers; for the
learned gain, with the spread of the interval. It is corrected by Bonferroni, which is never easier than the correction
in use.

A drawn study `decides` if it continues to the candidates (`passes`: one probe shows both gains) or if every probe
excludes a gain that counts (`excludes`). The simulation leaves out that larger studies also fit better probes, so the
power is rather too low than too high. It does not cover the gates that read edits: those need more clips with an
event.

Degenerate input: without a scored probe nothing is simulated, and every number is NaN with a `note`.
"""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy.special import logit, ndtr, ndtri

from reprise.probing.representations import REFERENCE

Array = NDArray[np.float64]

SIZES = (1.0, 1.25, 1.5, 2.0, 2.5, 3.0, 4.0, 6.0, 8.0)
SEED_FACTORS = (2.0, 3.0, 4.0)
POWERS = (0.8, 0.95)
N_DRAWS = 300
# By which factor the variance of a cross-validated score exceeds that of its rows, because probes are fitted again:
# 1 + k / (k - 1) for k = 5 folds (Nadeau & Bengio 2003, "Inference for the generalization error").
REFIT_VARIANCE = 2.25
# Pilots with fewer prompts give a power that is too high (docs/statistics.md).
MIN_PILOT_PROMPTS = 24
# With more clips than this, a random part of the prompts is used for the simulation.
MAX_CLIPS = 1500
COLUMNS = ("axis", "factor", "n_prompts", "n_clips", "decides", "passes", "excludes")


class Gain(NamedTuple):
    """The gain of one probe.

    score, random: the names of its score and of the random model's in `Pilot.pairs`. spread: the standard deviation of
    its swaps.
    """

    score: str
    random: str
    spread: float


class ProbeThresholds(NamedTuple):
    """The thresholds of the gates that read probes; see `Thresholds` in reprise/verdict/preregistration.py."""

    min_positive_clips: int
    min_negative_clips: int
    min_positive_prompts: int
    min_gain_auroc: float
    max_missed_gain_auroc: float
    min_learned_gain_auroc: float
    alpha: float


class Pilot(NamedTuple):
    """The finished study that is drawn from.

    prompt: int `[clip]`. positives, negatives: number of rows with and without an event, `[clip]`. pairs: by score
    name, see `clip_pairs`; the baseline's name is "B". gains: one per probe that is evidence.
    """

    prompt: NDArray[np.int64]
    positives: Array
    negatives: Array
    pairs: Mapping[str, Array]
    gains: Sequence[Gain]


def make_pilot(
    predictions: Mapping[str, pd.DataFrame],
    records: Mapping[str, Mapping[str, Any]],
    *,
    evidence: Sequence[str],
    seed: int,
) -> Pilot | None:
    """Make a pilot from the probes of one horizon; None if none was scored.

    Parameters
    ----------
    predictions : mapping
        By probe name such as `resid-layer2`: tables of `reprise.probing.probes.probe` with clip_id and prompt, of the
        evidence and of the random model (`random_model-layer2`).
    records : mapping
        The record of each probe, by the same names.
    evidence : sequence of str
        Representations that are evidence.
    seed : int
        For the choice of prompts if there are more than `MAX_CLIPS` clips.

    Returns
    -------
    Pilot or None
    """
    scored = [
        name
        for name in predictions
        if name.partition("-")[0] in evidence
        and "p_BR" in predictions[name]
        and "p_BR" in predictions.get(f"{REFERENCE}-{name.partition('-')[2]}", ())
    ]
    if not scored:
        return None
    rows = predictions[scored[0]]
    prompts, prompt_of_row = np.unique(rows["prompt"].astype(str), return_inverse=True)
    ids, clip = np.unique(rows["clip_id"], return_inverse=True)
    if len(ids) > MAX_CLIPS:
        kept = np.random.default_rng([seed, 7]).permutation(len(prompts))[
            : max(2, MAX_CLIPS * len(prompts) // len(ids))
        ]
        inside = np.isin(prompt_of_row, kept)
    else:
        inside = np.ones(len(rows), bool)
    clip = np.unique(clip[inside], return_inverse=True)[1]
    n_clips = clip.max() + 1
    prompt = np.zeros(n_clips, np.int64)
    prompt[clip] = np.unique(prompt_of_row[inside], return_inverse=True)[1]
    y = rows["y"].to_numpy(float)[inside]
    pairs, gains = {}, []
    for name in scored:
        random = f"{REFERENCE}-{name.partition('-')[2]}"
        for key, table, column in ((name, name, "p_BR"), ("B", name, "p_B"), (random, random, "p_BR")):
            if key not in pairs:
                score = logit(np.clip(predictions[table][column].to_numpy(float)[inside], 1e-12, 1 - 1e-12))
                pairs[key] = clip_pairs(score, y, clip, n_clips)
        record = records[name]
        spreads = [
            (record[f"swap_gain{kind}_q95"] - record[f"swap_gain{kind}_q50"]) / ndtri(0.95)
            for kind in ("", "_within_prompt")
        ]
        gains.append(Gain(name, random, float(np.nanmax(spreads))))
    # With weights, bincount returns floats.
    positives, negatives = (np.bincount(clip, of, n_clips).astype(np.float64, copy=False) for of in (y, 1 - y))
    return Pilot(prompt, positives, negatives, pairs, gains)


def clip_pairs(score: Array, y: Array, clip: NDArray[np.int64], n_clips: int) -> Array:
    """`[clip, clip]`: pairs of a positive row of the first clip and a negative row of the second in which the positive
    scores higher.

    A tie counts one half. score, y: `[row]`; clip: int `[row]`.
    """
    positive, negative = np.flatnonzero(y == 1), np.flatnonzero(y == 0)
    wins = np.zeros((n_clips, n_clips))
    for i in positive:
        beats = (score[i] > score[negative]) + 0.5 * (score[i] == score[negative])
        wins[clip[i]] += np.bincount(clip[negative], beats, n_clips)
    return wins


def power(pilot: Pilot, thresholds: ProbeThresholds, *, seed: int, n_draws: int = N_DRAWS) -> pd.DataFrame:
    """How often studies of several sizes decide.

    Parameters
    ----------
    pilot : Pilot
        The finished study.
    thresholds : ProbeThresholds
        The thresholds of the gates.
    seed : int
        Seed of the simulation.
    n_draws : int
        Studies drawn per size.

    Returns
    -------
    DataFrame
        One row per size with `COLUMNS`. `axis` is "prompts" or "seeds", and `factor` is by how much there are more of
        them; `decides`, `passes` and `excludes` are fractions of the drawn studies.
    """
    n_prompts = int(pilot.prompt.max()) + 1
    rows = []
    for axis, factors in (("prompts", SIZES), ("seeds", SEED_FACTORS)):
        for factor in factors:
            n_drawn = round(n_prompts * factor) if axis == "prompts" else n_prompts
            clips_factor = factor if axis == "seeds" else 1.0
            # A size draws the same studies whatever other sizes are simulated.
            rng = np.random.default_rng([seed, 8, round(100 * factor), axis == "seeds"])
            outcomes = [_outcome(pilot, thresholds, n_drawn, clips_factor, rng) for _ in range(n_draws)]
            passes, excludes = (np.mean([o == what for o in outcomes]) for what in ("passes", "excludes"))
            n_clips = round(len(pilot.prompt) * factor)
            rows.append((axis, factor, n_drawn, n_clips, passes + excludes, passes, excludes))
    return pd.DataFrame(rows, columns=COLUMNS)


def advice(table: pd.DataFrame, powers: Sequence[float] = POWERS) -> dict[str, dict[str, float | None]]:
    """The smallest sizes that reach a power, by power, such as "80%".

    For each: the least number of prompts, and the least factor of seeds, from which every larger size decides at least
    that often. None if no size that was tried does.
    """
    found: dict[str, dict[str, float | None]] = {}
    for wanted in powers:
        of_power: dict[str, float | None] = {}
        for axis, column in (("prompts", "n_prompts"), ("seeds", "factor")):
            sizes = table[table["axis"] == axis].sort_values("factor")
            enough = (sizes["decides"] >= wanted).to_numpy()[::-1]
            n_last = len(enough) if enough.all() else int(np.argmin(enough))
            of_power[axis] = float(sizes[column].iloc[len(sizes) - n_last]) if n_last else None
        found[f"{wanted:.0%}"] = of_power
    return found


def advice_text(found: Mapping[str, Mapping[str, float | None]], *, n_prompts: int, units: str = "prompts") -> str:
    """The advice as a sentence. units: the name of the unit of evidence."""
    parts = []
    for wanted, sizes in found.items():
        prompts, seeds = sizes["prompts"], sizes["seeds"]
        ways = [f"{prompts:.0f} {units}"] if prompts is not None else []
        ways += [f"{seeds:g} times as many seeds"] if seeds is not None and (prompts or 0) > n_prompts else []
        text = " or ".join(ways) or f"more than {max(SIZES) * n_prompts:.0f} {units}"
        parts.append(f"{text} for {wanted}")
    text = (
        f"This study has {n_prompts} {units}. To decide about a gain, a study like it would need {', '.join(parts)} "
        "power."
    )
    few = n_prompts < MIN_PILOT_PROMPTS
    return f"{text} With fewer than {MIN_PILOT_PROMPTS} {units} this estimate is too optimistic." if few else text


def _outcome(pilot: Pilot, t: ProbeThresholds, n_prompts: int, clips_factor: float, rng: np.random.Generator) -> str:
    """What the gates give for one drawn study: passes, excludes or undecided."""
    n_pilot = int(pilot.prompt.max()) + 1
    population = rng.integers(n_pilot, size=max(2, round(n_pilot / REFIT_VARIANCE)))
    drawn = population[rng.integers(len(population), size=n_prompts)]
    counts = _clip_counts(pilot.prompt, drawn, clips_factor, rng)
    weights = counts.sum(axis=0)
    has_event = pilot.positives > 0
    enough = (
        weights[has_event].sum() >= t.min_positive_clips
        and weights[~has_event].sum() >= t.min_negative_clips
        and np.sum(counts[:, has_event].sum(axis=1) > 0) >= t.min_positive_prompts
    )
    if not enough:
        return "undecided"
    aurocs = {name: _auroc_with_slope(wins, pilot, weights) for name, wins in pilot.pairs.items()}
    least_p = t.alpha / len(pilot.gains)
    shrunk = np.sqrt(n_pilot / n_prompts)
    high, learned_high, passes, predicts = [], [], False, False
    for score, random, spread in pilot.gains:
        gain, gain_se = _difference(aurocs[score], aurocs["B"], counts)
        learned, learned_se = _difference(aurocs[score], aurocs[random], counts)
        shows = gain - 1.96 * gain_se > 0 and gain >= t.min_gain_auroc
        shows = shows and ndtr(-gain / max(spread * shrunk, 1e-9)) <= least_p
        is_learned = learned - 1.96 * learned_se > 0 and learned >= t.min_learned_gain_auroc
        is_learned = is_learned and ndtr(-learned / max(learned_se, 1e-9)) <= least_p
        predicts, passes = predicts or shows, passes or (shows and is_learned)
        high.append(gain + 1.96 * gain_se)
        learned_high.append(learned + 1.96 * learned_se)
    if passes:
        return "passes"
    if predicts:
        return "excludes" if max(learned_high) < t.min_learned_gain_auroc else "undecided"
    return "excludes" if max(high) < t.max_missed_gain_auroc else "undecided"


def _clip_counts(
    prompt: NDArray[np.int64], drawn: NDArray[np.int64], clips_factor: float, rng: np.random.Generator
) -> Array:
    """How often each clip occurs in each drawn prompt, `[drawn prompt, clip]`."""
    inside = (prompt == drawn[:, None]).astype(np.float64)
    if clips_factor == 1:
        return inside
    size = inside.sum(axis=1)
    return rng.multinomial(np.rint(size * clips_factor).astype(int), inside / size[:, None]).astype(np.float64)


def _auroc_with_slope(wins: Array, pilot: Pilot, weights: Array) -> tuple[float, Array]:
    """The AUROC with clips weighted by `weights` `[clip]`, and its derivative by each weight."""
    won_by, won_over = wins @ weights, wins.T @ weights
    n1, n0 = weights @ pilot.positives, weights @ pilot.negatives
    auroc = float(weights @ won_by / (n1 * n0))
    return auroc, (won_by + won_over) / (n1 * n0) - auroc * (pilot.positives / n1 + pilot.negatives / n0)


def _difference(a: tuple[float, Array], b: tuple[float, Array], counts: Array) -> tuple[float, float]:
    """a - b and its standard error over drawn prompts."""
    influence = counts @ (a[1] - b[1])
    return a[0] - b[0], float(np.sqrt(np.sum(influence**2)))
