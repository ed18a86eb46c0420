"""From measured numbers to one verdict, by gates whose thresholds were declared before.

Verdicts, for a study and for each of its candidate features:

    foresight    predicts at the long horizon, and taking it out changes the return, selectively
    entangled    as above, but not selectively, or only by wrecking the music
    local        predicts at shorter horizons only
    correlate    predicts at the long horizon; no feature moves the return by the least effect that counts
    unresolved   too little data, or intervals too wide, to say any of these
    none         nothing to predict, or nothing predicts it

Gates, in order; the first that fails decides.

    events        are there any accepted events? If not: none.
    positive_clips, negative_clips, positive_prompts
                  Too few: unresolved.
    prediction    conditional gain at the long horizon, best of layers x representations (residual and SAE codes):
                  interval above 0, gain at least `min_gain_auroc`, swap p at most `alpha` after Benjamini-Hochberg
                  over all of them, against swaps across prompts and within them. Failing, with an interval of any
                  of them that reaches `max_missed_gain_auroc` (above what swapped representations gain as well):
                  unresolved, since such a gain may have been missed.
                  Failing otherwise: local where a shorter horizon passes the same test, else none.
    confirmation  a candidate: gain in held-out prompts, interval above 0, p at most `alpha` after the same correction.
    effect        fall in returns at dose 1, edited until the event: interval above 0 and at least `min_effect`.
                  Failing: correlate where the interval excludes `min_effect`, else unresolved.
    damage        at most `max_damage`. Failing: entangled.
    selectivity   over the controls at equal damage: interval above 0, at least `min_selectivity`. Failing: entangled.

A study is what its best candidate is, in the order foresight, entangled, unresolved, correlate. The input embedding
is a check, never evidence: if it predicts, the baseline is incomplete. A random dictionary and a model with random
weights are neither; the report shows them beside the others.

`mechanism` of a candidate whose effect passes: `stored` if editing the prefix alone keeps `min_stored_share` of the
effect of editing until the event, `recomputed` if its interval lies below that share, else `undecided`.

Benjamini-Hochberg bounds the chance of any false positive by alpha when nothing predicts, also for the positively
dependent tests that layers are. A p-value is at least 1 / (1 + swaps), which must be below alpha.

Degenerate input: a number that could not be computed (NaN) fails its gate; empty tables are valid.
References: Hanley & McNeil 1982 (standard error of an AUROC); Benjamini & Hochberg 1995.
"""

import math
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from scipy.optimize import brentq
from scipy.stats import false_discovery_control, norm

from reprise.preregistration import Thresholds, is_intact

VERDICTS = ("foresight", "entangled", "local", "correlate", "unresolved", "none")
# A study is the first of these that one of its candidates is.
_RANK = ("foresight", "entangled", "unresolved", "correlate")
EVIDENCE = ("resid", "sae")
CHECKS = ("embedding", "random_model")
NAMES = {"resid": "residual stream", "sae": "SAE codes"}
# What it says where one of `CHECKS` predicts nevertheless.
WARNINGS = {
    "embedding": "predicts: the baseline leaves something out",
    "random_model": "predicts too: what sounded before the baseline hears anything can be read without having learnt "
    "to, and only the edit tells a plan from a memory of it",
}
CANDIDATE_GATES = ("confirmation", "effect", "damage", "selectivity")
DOSE = 1.0


class Gate(NamedTuple):
    """One test: `value` with its interval (NaN if it has none) against `threshold`; `passed` None: not reached."""

    name: str
    value: float
    low: float
    high: float
    threshold: float
    passed: bool | None
    sentence: str


def hanley_mcneil_se(auroc: float, n_positive: int, n_negative: int) -> float:
    """Standard error of an AUROC from independent positives and negatives."""
    q1, q2 = auroc / (2 - auroc), 2 * auroc**2 / (1 + auroc)
    spread = (n_positive - 1) * (q1 - auroc**2) + (n_negative - 1) * (q2 - auroc**2)
    return math.sqrt((auroc * (1 - auroc) + spread) / (n_positive * n_negative))


def detectable_auroc(n_positive: int, n_negative: int, *, power: float = 0.8, alpha: float = 0.05) -> float:
    """The AUROC that a one-sided test against 0.5 finds with this power; NaN where not even a perfect one would be."""
    if min(n_positive, n_negative) < 1:
        return float("nan")
    needed = norm.isf(alpha) * hanley_mcneil_se(0.5, n_positive, n_negative)

    def excess(auroc: float) -> float:
        return auroc - 0.5 - needed - norm.ppf(power) * hanley_mcneil_se(auroc, n_positive, n_negative)

    return float(brentq(excess, 0.5, 1.0)) if excess(1.0) > 0 else float("nan")


def verdict(
    *,
    events: Mapping[str, int],
    probes: pd.DataFrame,
    candidates: pd.DataFrame,
    matched: pd.DataFrame,
    thresholds: Thresholds,
    long_role: str,
    declared: Mapping[str, Any],
) -> dict[str, Any]:
    """Judge a study.

    events: `n_clips`, `n_with_event`, `n_prompts_with_event` (accepted events).
    probes: a row a test with layer, representation, role (of the horizon), n_clips, n_positive_clips,
        n_positive_prompts, gain_auroc, gain_auroc_low, gain_auroc_high, p_swap and null_gain (the median gain of the
        swaps: what the representation gains by that which they keep). Several rows of one (layer, representation,
        role), such as one a kind of swap, must all be significant.
    candidates: layer, feature, and the confirmation in held-out prompts under the probes' names.
    matched: rows of `reprise.effects.matched_damage`.
    long_role: the horizon role that foresight is judged at; all others count as shorter.
    declared: the preregistration and its `declarations` (see reprise/preregistration.py).

    Returns plain builtins: verdict, reason, gates (dicts of `Gate`; those of the candidate that decided are the last),
    checks, candidates (layer, feature, verdict, reason, mechanism, stored_share, gates), best_probe, power,
    preregistration (digest, intact, declarations), thresholds. NaN where there is no number.
    """
    t = thresholds
    long, shorter = (probes[mask] for mask in (probes["role"] == long_role, probes["role"] != long_role))
    counts = _counts(events, long)
    gates = _data_gates(events, counts, t)
    predicts, best, highest = _prediction(long, "prediction", f"the {long_role} horizon", t)
    gates.append(predicts)
    local, _, _ = _prediction(shorter, "shorter_horizons", "shorter horizons", t)
    checks = [local._asdict(), *(g._asdict() for g in _checks(long, long_role, t))]

    undecided = _study_without_prediction(gates, local, highest, t)
    judged = [_candidate(row, candidates, matched, t) for _, row in candidates.iterrows()]
    if undecided is not None:
        name, reason = undecided
        judged = [c | {"verdict": name, "reason": reason} for c in judged]
        decisive = None
    else:
        name, reason, decisive = _best_candidate(judged)
    not_reached = [_not_reached(gate)._asdict() for gate in CANDIDATE_GATES]
    return {
        "verdict": name,
        "reason": reason,
        "gates": [g._asdict() for g in gates] + (decisive["gates"] if decisive else not_reached),
        "checks": checks,
        "candidates": judged,
        "best_probe": best,
        "power": power_note(counts["positive"], counts["negative"]),
        "preregistration": {
            "digest": declared["digest"],
            "intact": is_intact(declared, t),
            "declarations": declared["declarations"],
        },
        "thresholds": t._asdict(),
    }


def power_note(n_positive: int, n_negative: int) -> dict[str, Any]:
    """What gain could have been seen with this many independent positive and negative clips."""
    smallest = detectable_auroc(n_positive, n_negative)
    found = "no AUROC" if math.isnan(smallest) else f"an AUROC of {smallest:.2f} or more"
    sentence = (
        f"With {n_positive} positive and {n_negative} negative clips, {found} is told from 0.50 in 80% of studies."
    )
    return {
        "n_positive": n_positive,
        "n_negative": n_negative,
        "detectable_auroc": smallest,
        "sentence": sentence,
    }


def _counts(events: Mapping[str, int], long: pd.DataFrame) -> dict[str, int]:
    """Clips with and without a return in the long horizon, and prompts with one; from the events where no probe
    ran."""
    rows = long[long["representation"].isin(EVIDENCE)]
    if rows.empty:
        negative = int(events["n_clips"] - events["n_with_event"])
        return {
            "positive": int(events["n_with_event"]),
            "negative": negative,
            "prompts": int(events["n_prompts_with_event"]),
        }
    # The tests share their labels; the fewest are what all of them had.
    positive = int(rows["n_positive_clips"].min())
    negative = int((rows["n_clips"] - rows["n_positive_clips"]).min())
    return {"positive": positive, "negative": negative, "prompts": int(rows["n_positive_prompts"].min())}


def _data_gates(events: Mapping[str, int], counts: Mapping[str, int], t: Thresholds) -> list[Gate]:
    n_events = int(events["n_with_event"])
    gates = [_count_gate("events", n_events, 1, f"of {events['n_clips']} clips hold a valid recurrence")]
    asked = [
        ("positive_clips", counts["positive"], t.min_positive_clips, "clips return within the long horizon"),
        ("negative_clips", counts["negative"], t.min_negative_clips, "clips do not return within the long horizon"),
        ("positive_prompts", counts["prompts"], t.min_positive_prompts, "prompts have a return within it"),
    ]
    return gates + [_count_gate(*gate) for gate in asked]


def _count_gate(name: str, value: int, threshold: int, what: str) -> Gate:
    enough = value >= threshold
    sentence = f"{value} {what}; {threshold} or more are needed."
    return Gate(name, float(value), math.nan, math.nan, float(threshold), enough, sentence)


def _prediction(rows: pd.DataFrame, name: str, where: str, t: Thresholds) -> tuple[Gate, dict[str, Any], float]:
    """The gate; the best test's layer, representation, role and adjusted p; the largest gain that no test excludes."""
    keys = ["layer", "representation", "role"]
    rows = rows[rows["representation"].isin(EVIDENCE)]
    unscored = rows["gain_auroc"].isna().any()
    rows = rows.dropna(subset=["gain_auroc", "p_swap"])
    if rows.empty:
        nothing = f"No probe could be scored at {where}."
        return Gate(name, math.nan, math.nan, math.nan, t.min_gain_auroc, False, nothing), {}, math.inf
    tests = rows.sort_values("p_swap", kind="stable").groupby(keys, as_index=False, sort=True).last()
    tests["p_adjusted"] = false_discovery_control(tests["p_swap"])
    significant = (tests["p_adjusted"] <= t.alpha) & (tests["gain_auroc_low"] > 0)
    tests["passed"] = significant & (tests["gain_auroc"] >= t.min_gain_auroc)
    best = tests.sort_values(["passed", "gain_auroc"], ascending=False, kind="stable").iloc[0]
    # Nothing is known of a probe that could not be scored, so nothing can be excluded.
    excess = tests["gain_auroc_high"] - tests["null_gain"].clip(lower=0)
    highest = math.inf if unscored else float(excess.max())
    value, low, high = (float(best[f"gain_auroc{end}"]) for end in ("", "_low", "_high"))
    probed = f"{NAMES[best['representation']]} at layer {best['layer']}, {best['role']}"
    sentence = (
        f"At {where} the best of {len(tests)} probes ({probed}) "
        f"gains {value:.3f} AUROC [{low:.3f}, {high:.3f}] over the baseline, swap p = {best['p_adjusted']:.3g} after "
        f"correction; needed: interval above 0, gain {t.min_gain_auroc:g} or more, p {t.alpha:g} or less."
    )
    about = {"layer": int(best["layer"]), "representation": str(best["representation"]), "role": str(best["role"])}
    about["p_adjusted"] = float(best["p_adjusted"])
    return Gate(name, value, low, high, t.min_gain_auroc, bool(best["passed"]), sentence), about, highest


def _checks(long: pd.DataFrame, long_role: str, t: Thresholds) -> list[Gate]:
    """Representations that should not predict: passed if they do not."""
    checks = []
    for representation, rows in long[long["representation"].isin(CHECKS)].groupby("representation", sort=True):
        row = rows.sort_values("gain_auroc", ascending=False).iloc[0]
        value, low, high = (float(row[f"gain_auroc{end}"]) for end in ("", "_low", "_high"))
        predicts = bool(low > 0 and value >= t.min_gain_auroc and row["p_swap"] <= t.alpha)
        found = WARNINGS[str(representation)] if predicts else "does not predict, as it should be"
        number = "could not be scored" if math.isnan(value) else f"{found} ({value:.3f} AUROC [{low:.3f}, {high:.3f}])"
        what = {"random_model": "model with random weights"}.get(str(representation), str(representation))
        sentence = f"At the {long_role} horizon the {what} {number}."
        checks.append(Gate(str(representation), value, low, high, t.min_gain_auroc, not predicts, sentence))
    return checks


def _study_without_prediction(
    gates: Sequence[Gate], local: Gate, highest: float, t: Thresholds
) -> tuple[str, str] | None:
    """Verdict and reason where data or prediction decide; None where the candidates do."""
    by_name = {g.name: g for g in gates}
    if not by_name["events"].passed:
        return "none", "no valid events"
    for name in ("positive_clips", "negative_clips", "positive_prompts"):
        if not by_name[name].passed:
            return "unresolved", by_name[name].sentence
    if by_name["prediction"].passed:
        return None
    if not highest < t.max_missed_gain_auroc:
        found = f"of {highest:.2f} AUROC" if math.isfinite(highest) else "of any size"
        return "unresolved", f"a gain {found} at the long horizon is not excluded; none says that it is below " + (
            f"{t.max_missed_gain_auroc:g}"
        )
    if local.passed:
        return "local", "predicts at shorter horizons only"
    return "none", "nothing predicts a return beyond position, past sound and prompt"


def _candidate(row: pd.Series, candidates: pd.DataFrame, matched: pd.DataFrame, t: Thresholds) -> dict[str, Any]:
    layer, feature = int(row["layer"]), int(row["feature"])
    gates = [_confirmation(row, candidates, t)]
    until = _row_of(matched, layer, feature, "until_event")
    if until is None:
        gates += [_not_reached(name) for name in CANDIDATE_GATES[1:]]
        name, reason = "unresolved", f"no ablation until the event at dose {DOSE:g}"
    else:
        effect, damage, selectivity = _causal_gates(until, t)
        gates += [effect, damage, selectivity]
        name, reason = _causal_verdict(effect, damage, selectivity, t)
    if not gates[0].passed:
        name, reason = "none", "the feature does not predict in held-out prompts"
    found = {"layer": layer, "feature": feature, "verdict": name, "reason": reason}
    return found | _mechanism(until, matched, layer, feature, gates, t) | {"gates": [g._asdict() for g in gates]}


def _confirmation(row: pd.Series, candidates: pd.DataFrame, t: Thresholds) -> Gate:
    known = candidates["p_swap"].notna()
    adjusted = pd.Series(np.nan, candidates.index)
    if known.any():
        adjusted[known] = false_discovery_control(candidates.loc[known, "p_swap"])
    p = float(adjusted[row.name])
    value, low, high = (float(row[f"gain_auroc{end}"]) for end in ("", "_low", "_high"))
    sentence = (
        f"In held-out prompts the feature gains {value:.3f} AUROC [{low:.3f}, {high:.3f}], swap p = {p:.3g} after "
        f"correction; needed: interval above 0, p {t.alpha:g} or less."
    )
    return Gate("confirmation", value, low, high, 0.0, bool(low > 0 and p <= t.alpha), sentence)


def _row_of(matched: pd.DataFrame, layer: int, feature: int, window: str) -> pd.Series | None:
    if matched.empty:
        return None
    mask = (matched["layer"] == layer) & (matched["feature"] == feature) & (matched["window"] == window)
    rows = matched[mask & (matched["kind"] == "target") & (matched["dose"] == DOSE)]
    return None if rows.empty else rows.iloc[0]


def _causal_gates(row: pd.Series, t: Thresholds) -> tuple[Gate, Gate, Gate]:
    e, d, s = ([float(row[f"{n}{end}"]) for end in ("", "_low", "_high")] for n in ("effect", "damage", "selectivity"))
    removes = f"Removing the feature until the event takes away {e[0]:.2f} of the returns [{e[1]:.2f}, {e[2]:.2f}]"
    needed = f"needed: interval above 0, {t.min_effect:g} or more."
    effect = Gate("effect", *e, t.min_effect, bool(e[1] > 0 and e[0] >= t.min_effect), f"{removes}; {needed}")
    costs = (
        f"It costs {d[0]:.3f} nats a token [{d[1]:.3f}, {d[2]:.3f}] elsewhere; at most {t.max_damage:g} is allowed."
    )
    damage = Gate("damage", *d, t.max_damage, bool(d[0] <= t.max_damage), costs)
    strongest = str(row["strongest_control"]).rstrip("0123456789").replace("_", " ") or "no control"
    more = (
        f"That is {s[0]:.2f} [{s[1]:.2f}, {s[2]:.2f}] more than the strongest control ({strongest}) takes at equal "
        f"damage; needed: interval above 0, {t.min_selectivity:g} or more."
    )
    selective = bool(s[1] > 0 and s[0] >= t.min_selectivity)
    return effect, damage, Gate("selectivity", *s, t.min_selectivity, selective, more)


def _causal_verdict(effect: Gate, damage: Gate, selectivity: Gate, t: Thresholds) -> tuple[str, str]:
    if not effect.passed:
        if effect.high < t.min_effect:
            return "correlate", f"predicts, but removing it takes away less than {t.min_effect:g} of the returns"
        return "unresolved", f"an effect of {t.min_effect:g} is neither shown nor excluded"
    if not damage.passed:
        return "entangled", "removing it wrecks the music"
    if not selectivity.passed:
        return "entangled", "moves the return, but not more than controls of equal damage"
    return "foresight", "predicts a return far ahead, and removing it takes the return away selectively"


def _mechanism(
    until: pd.Series | None, matched: pd.DataFrame, layer: int, feature: int, gates: Sequence[Gate], t: Thresholds
) -> dict[str, Any]:
    """`mechanism` ("" where there is no effect to explain) and `stored_share`, prefix-only effect over the whole."""
    prefix = _row_of(matched, layer, feature, "prefix_only")
    moved = next(g for g in gates if g.name == "effect").passed
    if until is None or prefix is None or not moved:
        return {"mechanism": "", "stored_share": math.nan}
    share, low, high = (float(prefix[f"effect{end}"] / until["effect"]) for end in ("", "_low", "_high"))
    if share >= t.min_stored_share and low > 0:
        mechanism = "stored"
    else:
        mechanism = "recomputed" if high < t.min_stored_share else "undecided"
    return {"mechanism": mechanism, "stored_share": share}


def _not_reached(name: str) -> Gate:
    return Gate(name, math.nan, math.nan, math.nan, math.nan, None, "Not reached.")


def _best_candidate(judged: Sequence[dict[str, Any]]) -> tuple[str, str, dict[str, Any] | None]:
    """Verdict, reason and the candidate that decides."""
    for name in _RANK:
        for c in judged:
            if c["verdict"] == name:
                return name, f"layer {c['layer']}, feature {c['feature']}: {c['reason']}", c
    return "correlate", "predicts at the long horizon, but no single feature was confirmed", None
