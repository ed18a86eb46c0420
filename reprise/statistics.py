"""Statistics that all stages share: p-values, corrections for multiple tests, and intervals over prompts.

Conventions. The unit of evidence is the prompt. `groups` `[row]` says which prompt a row belongs to. Every interval
treats prompts, not rows, as independent. An interval is a tuple (low, high) at a nominal `level`, two-sided with equal
tails. Means are over rows, so prompts with more rows have more weight. The sample size is therefore Kish's effective
number of prompts, (sum w)^2 / sum w^2, where w is the number of rows of each prompt.

Choice of interval. A percentile bootstrap has no width when all values are equal, and it is too narrow near the limits
of the possible values. So these intervals are used:

- For a fraction (rows of 0 or 1, or between): Clopper & Pearson 1934, with the effective number of prompts as the
  sample size. Among all values between 0 and 1 with a given mean, zeros and ones have the largest variance. So the
  interval is never too narrow for prompt means in between.
- For a mean with known bounds, such as a difference of two fractions: Bonett & Price 2012, "Adjusted Wald confidence
  interval for a difference of binomial proportions based on paired data". One prompt at each bound is added before the
  usual interval is computed. Their method is for paired proportions; here, prompt means and their weights take the
  place of the pairs.
- For a ratio of two means over the same prompts: Fieller 1954. The interval above is inverted for numerator - ratio x
  denominator, so both ends respect the pairing.

The coverage of these intervals is simulated in tests/science/test_simulations.py, and with more runs by
benchmarks/statistics.py.

Degenerate input: without rows, or with a NaN among them, all results are NaN. NaN p-values stay NaN and count as
tests.
"""

from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.special import betainccinv, betaincinv, stdtrit

Array = NDArray[np.float64]

# A swap that changes nothing must count as a tie, despite rounding.
TIE = 1e-6


def p_value(found: float, null: ArrayLike) -> float:
    """One-sided p-value of a gain: (1 + number of null gains at least as large) / (1 + number of null gains).

    The gain and the null gains are clipped at 0, so that a small p-value always means a positive gain. The result is
    NaN if there are no null gains, or if any value is NaN.

    References
    ----------
    Phipson & Smyth 2010, "Permutation P-values should never be zero".
    """
    null = np.asarray(null, np.float64)
    if not len(null) or np.isnan(found) or np.isnan(null).any():
        return np.nan
    return float((1 + np.sum(np.maximum(null, 0.0) >= max(found, 0.0) - TIE)) / (1 + len(null)))


def largest_p(p: ArrayLike, axis: int = 0) -> Array:
    """The p-value of "beats every null": the largest p-value along an axis, NaN if any of them is NaN.

    Leave out nulls that do not apply before the call. Reference: Berger 1982, intersection-union tests.
    """
    return np.max(np.asarray(p, np.float64), axis=axis)


def holm(p: ArrayLike) -> Array:
    """p-values `[test]` adjusted for the family-wise error rate (Holm 1979), under any dependence between the tests.

    Rejecting adjusted p-values up to alpha gives any false rejection with probability at most alpha. A NaN counts as
    a test that found nothing, and stays NaN.
    """
    return _adjusted(p, lambda q: np.maximum.accumulate(q * np.arange(len(q), 0, -1)))


def benjamini_hochberg(p: ArrayLike) -> Array:
    """p-values `[test]` adjusted for the false discovery rate (Benjamini & Hochberg 1995).

    A NaN counts as a test that found nothing, and stays NaN. Leave out entries that were never tested before the call.
    """
    # Imported here because it takes half a second.
    from scipy.stats import false_discovery_control

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
    """How often each prompt is drawn in each bootstrap resample of the prompts, float64 `[draw, prompt]`.

    Parameters
    ----------
    n_groups
        Number of prompts.
    n_bootstrap
        Number of resamples.
    seed
        Seed for `numpy.random.default_rng`.
    """
    chance = np.full(n_groups, 1 / max(1, n_groups))
    return np.random.default_rng(seed).multinomial(n_groups, chance, n_bootstrap).astype(np.float64)


def prompt_means(values: ArrayLike, groups: ArrayLike) -> tuple[Array, Array]:
    """Mean and number of rows of each prompt, both `[prompt]`, in sorted order of `groups`."""
    values, index = np.asarray(values, np.float64), np.unique(np.asarray(groups), return_inverse=True)[1]
    counts = np.bincount(index).astype(np.float64)
    return np.bincount(index, values, len(counts)) / counts, counts


def effective_prompts(counts: ArrayLike) -> float:
    """Kish's effective number of prompts, from the number of rows of each; 0 without rows."""
    counts = np.asarray(counts, np.float64)
    return float(counts.sum() ** 2 / np.square(counts).sum()) if counts.sum() > 0 else 0.0


def share_interval(values: ArrayLike, groups: ArrayLike, level: float = 0.95) -> tuple[float, float]:
    """Interval for the mean of values between 0 and 1.

    Parameters
    ----------
    values
        Values from 0 to 1, `[row]`.
    groups
        The prompt of each row, `[row]`.
    level
        Nominal coverage.

    Returns
    -------
    tuple of float
        (low, high); NaN without rows or with a NaN among them.

    Raises
    ------
    ValueError
        If a value is below 0 or above 1.

    References
    ----------
    Clopper & Pearson 1934.
    """
    values = np.asarray(values, np.float64)
    if not len(values) or np.isnan(values).any():
        return np.nan, np.nan
    if values.min() < 0 or values.max() > 1:
        raise ValueError(f"share_interval: values from {values.min():g} to {values.max():g}; valid: from 0 to 1")
    n = effective_prompts(prompt_means(values, groups)[1])
    hits, tail = n * values.mean(), (1 - level) / 2
    misses = n - hits
    low = betaincinv(hits, misses + 1, tail) if hits > 1e-9 else 0.0
    high = betainccinv(hits + 1, misses, tail) if misses > 1e-9 else 1.0
    return float(low), float(high)


def bounded_interval(
    values: ArrayLike, groups: ArrayLike, bounds: tuple[float, float], level: float = 0.95
) -> tuple[float, float]:
    """Interval for the mean of values with known bounds.

    Parameters
    ----------
    values
        Values within `bounds`, `[row]`.
    groups
        The prompt of each row, `[row]`.
    bounds
        The smallest and the largest possible value.
    level
        Nominal coverage.

    Returns
    -------
    tuple of float
        (low, high); NaN without rows or with a NaN among them.

    Raises
    ------
    ValueError
        If a value is outside `bounds`.

    References
    ----------
    Bonett & Price 2012, "Adjusted Wald confidence interval for a difference of binomial proportions based on paired
    data".
    """
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
    # The variance for prompts of unequal weight, expressed as the variance of one of n prompts of equal weight.
    variance = np.sum(counts**2 * (means - centre) ** 2) / np.sum(counts**2)
    variance = (n * variance + (low - centre) ** 2 + (high - centre) ** 2) / (n + 2)
    half = stdtrit(n + 1, (1 + level) / 2) * np.sqrt(variance / (n + 2))
    return float(max(low, min(centre - half, found))), float(min(high, max(centre + half, found)))


def ratio_interval(
    numerator: ArrayLike, denominator: ArrayLike, groups: ArrayLike, level: float = 0.95, *, largest: float = 2.0
) -> tuple[float, float]:
    """Interval for mean(numerator) / mean(denominator).

    Ratios from 0 to `largest` are tried; an end outside this range is moved to the nearest limit. If no ratio in the
    range can be excluded, the interval is the whole range.

    Parameters
    ----------
    numerator, denominator
        Values from 0 to 1 of the same rows, `[row]`.
    groups
        The prompt of each row, `[row]`.
    level
        Nominal coverage.
    largest
        The largest ratio that is tried.

    Returns
    -------
    tuple of float
        (low, high); NaN without rows or with a NaN among them.

    References
    ----------
    Fieller 1954.
    """
    numerator, denominator = np.asarray(numerator, np.float64), np.asarray(denominator, np.float64)
    if not len(numerator) or np.isnan(numerator).any() or np.isnan(denominator).any():
        return np.nan, np.nan
    ratios = np.linspace(0.0, largest, 401)
    ends = np.array([bounded_interval(numerator - r * denominator, groups, (-r, 1.0), level) for r in ratios])
    possible = ratios[(ends[:, 0] <= 0) & (ends[:, 1] >= 0)]
    return (float(possible[0]), float(possible[-1])) if len(possible) else (largest, largest)
