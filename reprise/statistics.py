"""The statistics that every stage shares: p-values, corrections for what was tried, and intervals over prompts.

Conventions. The unit of evidence is the prompt: `groups` `[row]` says which prompt a row belongs to, and every
interval treats prompts, not rows, as independent. An interval is a tuple (low, high) at a nominal `level`, two-sided
with equal tails. Rows of a prompt count together, so prompts with more rows weigh more; what that costs is Kish's
effective number of prompts, (sum w)^2 / sum w^2 with w the rows of a prompt.

Which interval where. A percentile bootstrap cannot move where all values are equal, and is too narrow near the edge of
what is possible. So:

- a share (0 or 1 a row, or between): Clopper & Pearson 1934 with the effective number of prompts as the sample size.
  Of all values between 0 and 1 with a given mean, zeros and ones vary most, so this is never too narrow for prompt
  means in between.
- a mean with known bounds, such as a difference of two shares: Bonett & Price 2012, "Adjusted Wald confidence interval
  for a difference of binomial proportions based on paired data": one prompt at either bound is added before the usual
  interval is taken. Theirs is for paired proportions; prompts' means and their weights take the place of pairs here.
- a ratio of two means over the same prompts: Fieller 1954, by inverting the interval above for numerator - ratio x
  denominator, so that both ends respect the pairing.

What these cover is simulated in tests/science/test_simulations.py, and at full length by benchmarks/statistics.py.

Degenerate input: no rows, or a NaN among them, give NaN everywhere. NaN p-values stay NaN and count as tests.
"""

from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.stats import beta, false_discovery_control, t

Array = NDArray[np.float64]

# A swap that changes nothing must count as a tie, whatever the rounding.
TIE = 1e-6


def p_value(found: float, null: ArrayLike) -> float:
    """One-sided p of a gain: (1 + null gains at least as large) / (1 + null gains).

    A gain below 0 is none: it and the null are cut at 0, so that a small p always goes with a gain. NaN without a
    null, and where the gain or any null gain is NaN. Phipson & Smyth 2010, "Permutation P-values should never be
    zero".
    """
    null = np.asarray(null, np.float64)
    if not len(null) or np.isnan(found) or np.isnan(null).any():
        return np.nan
    return float((1 + np.sum(np.maximum(null, 0.0) >= max(found, 0.0) - TIE)) / (1 + len(null)))


def fewest_draws(level: float) -> int:
    """The fewest draws n from a null for which the least p-value, 1 / (1 + n), is at most `level`."""
    return int(np.ceil(1 / level - 1e-9)) - 1


def largest_p(p: ArrayLike, axis: int = 0) -> Array:
    """The p of "beats every null": the largest along an axis, NaN where any is NaN (Berger 1982, intersection-union
    tests). Leave out nulls that do not apply before."""
    return np.max(np.asarray(p, np.float64), axis=axis)


def holm(p: ArrayLike) -> Array:
    """p-values adjusted so that rejecting at alpha makes any false rejection at most alpha likely, whatever depends on
    what (Holm 1979). `[test]`; a NaN counts as a test that found nothing and stays NaN."""
    return _adjusted(p, lambda q: np.maximum.accumulate(q * np.arange(len(q), 0, -1)))


def benjamini_hochberg(p: ArrayLike) -> Array:
    """p-values adjusted for the false discovery rate (Benjamini & Hochberg 1995). `[test]`; a NaN counts as a test
    that found nothing and stays NaN. Leave out before what was never a test."""
    return _adjusted(p, false_discovery_control)


def _adjusted(p: ArrayLike, adjust: Callable[[Array], Array]) -> Array:
    p = np.asarray(p, np.float64)
    if not p.size:
        return p.copy()
    order = np.argsort(np.where(np.isnan(p), 1.0, p), kind="stable")
    out = np.empty_like(p)
    out[order] = np.minimum(adjust(np.where(np.isnan(p), 1.0, p)[order]), 1.0)
    return np.where(np.isnan(p), np.nan, out)


def bootstrap_weights(n_groups: int, n_bootstrap: int, seed: int | Sequence[int]) -> Array:
    """How often each prompt is drawn when prompts are resampled, `[draw, prompt]`."""
    chance = np.full(n_groups, 1 / max(1, n_groups))
    return np.random.default_rng(seed).multinomial(n_groups, chance, n_bootstrap).astype(np.float64)


def prompt_means(values: ArrayLike, groups: ArrayLike) -> tuple[Array, Array]:
    """Mean and number of rows of each prompt, `[prompt]` in sorted order of `groups`."""
    values, index = np.asarray(values, np.float64), np.unique(np.asarray(groups), return_inverse=True)[1]
    counts = np.bincount(index).astype(np.float64)
    return np.bincount(index, values, len(counts)) / counts, counts


def effective_prompts(counts: ArrayLike) -> float:
    """Kish's effective number of prompts, from the rows of each; 0 without any."""
    counts = np.asarray(counts, np.float64)
    return float(counts.sum() ** 2 / np.square(counts).sum()) if counts.sum() > 0 else 0.0


def share_interval(values: ArrayLike, groups: ArrayLike, level: float = 0.95) -> tuple[float, float]:
    """Interval for the mean of values between 0 and 1, `[row]`. Raises ValueError for a value outside."""
    values = np.asarray(values, np.float64)
    if not len(values) or np.isnan(values).any():
        return np.nan, np.nan
    if values.min() < 0 or values.max() > 1:
        raise ValueError(f"share_interval: values from {values.min():g} to {values.max():g}; valid: from 0 to 1")
    n = effective_prompts(prompt_means(values, groups)[1])
    hits, tail = n * values.mean(), (1 - level) / 2
    misses = n - hits
    low = beta.ppf(tail, hits, misses + 1) if hits > 1e-9 else 0.0
    high = beta.isf(tail, hits + 1, misses) if misses > 1e-9 else 1.0
    return float(low), float(high)


def bounded_interval(
    values: ArrayLike, groups: ArrayLike, bounds: tuple[float, float], level: float = 0.95
) -> tuple[float, float]:
    """Interval for the mean of values within `bounds`, `[row]`. Raises ValueError for a value outside."""
    values = np.asarray(values, np.float64)
    if not len(values) or np.isnan(values).any():
        return np.nan, np.nan
    low, high = bounds
    if values.min() < low - 1e-9 or values.max() > high + 1e-9:
        raise ValueError(
            f"bounded_interval: values from {values.min():g} to {values.max():g}; valid: from {low:g} to {high:g}"
        )
    means, counts = prompt_means(values, groups)
    n = effective_prompts(counts)
    found = values.mean()
    centre = (n * found + low + high) / (n + 2)
    # The variance of a mean over prompts of unequal weight, as that of one out of n equal prompts.
    variance = np.sum(counts**2 * (means - centre) ** 2) / np.sum(counts**2)
    variance = (n * variance + (low - centre) ** 2 + (high - centre) ** 2) / (n + 2)
    half = t.isf((1 - level) / 2, n + 1) * np.sqrt(variance / (n + 2))
    return float(max(low, min(centre - half, found))), float(min(high, max(centre + half, found)))


def ratio_interval(
    numerator: ArrayLike, denominator: ArrayLike, groups: ArrayLike, level: float = 0.95, *, largest: float = 2.0
) -> tuple[float, float]:
    """Interval for mean(numerator) / mean(denominator), both within 0 to 1 and of the same rows, `[row]`.

    Ratios are looked for from 0 to `largest`; an end that lies beyond is put there. Where no ratio in that range can
    be excluded the interval is all of it.
    """
    numerator, denominator = np.asarray(numerator, np.float64), np.asarray(denominator, np.float64)
    if not len(numerator) or np.isnan(numerator).any() or np.isnan(denominator).any():
        return np.nan, np.nan
    ratios = np.linspace(0.0, largest, 401)
    ends = np.array([bounded_interval(numerator - r * denominator, groups, (-r, 1.0), level) for r in ratios])
    possible = ratios[(ends[:, 0] <= 0) & (ends[:, 1] >= 0)]
    return (float(possible[0]), float(possible[-1])) if len(possible) else (largest, largest)
