"""From measured numbers to one verdict, through gates whose thresholds were declared in advance.

reprise/verdict/meanings.py says what the verdicts mean, and reprise/verdict/evidence.py which probes are evidence.

A gate passes, fails or is undecided. Only a known failure is a finding: an interval that is too wide, or a number that
could not be computed, is never one. Each gate reads one quantity: its value, interval, p-value and threshold. A
quantity that must be large passes if its interval is above 0 and its value is at the threshold or above; it fails if
the whole interval lies below the threshold. Damage passes if the whole interval is at or below its threshold, and
fails if all of it is above.

Gates, in order; the first that does not pass decides.

    usable_clips  could any clip be read? If not: unresolved, for the reasons of the clips.
    events        are there any accepted events? If not: none.
    positive_clips, negative_clips, positive_prompts
                  Too few: unresolved.
    prediction    conditional gain in AUROC at the long horizon, best of layers x representations (residual and SAE
                  latents), over the better baseline. Its p-value is at most `alpha` after Benjamini-Hochberg over all
                  of them, against swaps across prompts and within them. It fails if every one of them excludes a gain
                  of `max_missed_gain_auroc` (above the gain of swapped representations): local if a shorter horizon
                  passes the same test, else none. Undecided: unresolved.
    learned       the same test's gain over the same model with random weights (reprise/probing/learned.py), p
                  corrected over the same tests. It fails if every test excludes `min_learned_gain_auroc`: none,
                  because what predicts is memory that random weights have too. Undecided: unresolved.
    confirmation  a candidate: gain in held-out prompts, p after Holm's correction for every candidate that was tried
                  there, confirmed or not. If none is confirmed, nothing is edited: unresolved.
    effect        fraction of the events that removing it takes away, at dose 1, edited until the event. Failing:
                  correlate.
    damage        what the edit costs elsewhere. Failing: entangled.
    selectivity   effect over the controls at equal damage. Failing: entangled.
    second_target effect of the same edit with the second edit target, if the study asks for one. Not passing, or not
                  measured: unresolved.

A study gets the verdict of its best edited candidate, in the order foresight, entangled, unresolved, correlate. The
input embedding is a check, never evidence: if it predicts, the baseline is incomplete. A random dictionary is neither;
the report shows it next to the others. Which role each representation has: reprise/probing/representations.py.

A candidate whose effect passes has a `mechanism`. It depends on `stored_fraction`, the effect of editing the prefix
alone divided by that of editing until the event, and on its paired interval: `stored` if the whole interval reaches
`min_stored_fraction`, `recomputed` if all of it lies below, else `undecided`.

A candidate is `sufficient` if clips without an event get one when they are given the coordinates of clips with one:
`min_effect` more of them than untouched, and `min_selectivity` more than under the controls, both with intervals above
0. This is reported and decides no verdict.

Benjamini-Hochberg bounds the chance of any false positive by alpha if nothing predicts, also for tests with positive
dependence such as those of several layers. Holm bounds it whatever else is true. A p-value is at least 1 / (1 +
swaps), and this minimum must survive the correction.

Degenerate input: a number that could not be computed (NaN) leaves its gate undecided; empty tables are valid.
"""

import math
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import pandas as pd

from reprise.probing.representations import CHECK, find, with_role
from reprise.statistics import benjamini_hochberg
from reprise.verdict.evidence import best_test, evidence_tests, excluded, is_evidence, predicts
from reprise.verdict.preregistration import Thresholds

# A study gets the first of these verdicts that one of its candidates has.
RANK = ("foresight", "entangled", "unresolved", "correlate")
CANDIDATE_GATES = ("confirmation", "effect", "damage", "selectivity", "second_target")
DOSE = 1.0
PASSED, FAILED, UNDECIDED, NOT_REACHED = "passed", "failed", "undecided", "not reached"


class Gate(NamedTuple):
    """One test: `value` with its interval (NaN if it has none) against `threshold`.

    outcome: passed, failed, undecided or not reached.
    """

    name: str
    value: float
    low: float
    high: float
    threshold: float
    outcome: str
    sentence: str


def at_least(value: float, low: float, high: float, threshold: float) -> str:
    """Outcome for a quantity that must be large: see the head of this module."""
    if low > 0 and value >= threshold:
        return PASSED
    return FAILED if high < threshold else UNDECIDED


def at_most(low: float, high: float, threshold: float) -> str:
    """Outcome for a quantity that must be small: see the head of this module."""
    if high <= threshold:
        return PASSED
    return FAILED if low > threshold else UNDECIDED


def verdict(
    *,
    clips: Mapping[str, Any],
    probes: pd.DataFrame,
    candidates: pd.DataFrame,
    matched: pd.DataFrame,
    sufficiency: pd.DataFrame,
    thresholds: Thresholds,
    long_role: str,
    second_target: bool = True,
) -> dict[str, Any]:
    """Judge a study.

    Parameters
    ----------
    clips : mapping
        `n_clips`, `n_usable`, `unusable` (clips by reason), `n_with_event` and `n_prompts_with_event` (accepted
        events).
    probes : DataFrame
        One row per test with layer, representation, role (of the horizon), n_clips, n_positive_clips,
        n_positive_prompts, gain_auroc with _low and _high, p_gain and null_gain (`reprise.probing.probes.probe`), and
        at `long_role` learned_auroc with _low and _high and p_learned (`reprise.probing.learned.learned_gain`).
    candidates : DataFrame
        One row per candidate that was tried: name ("" if it was not edited), title, kind, layer, confirmed, and its
        confirmation in held-out prompts, gain_auroc with _low and _high and p_adjusted.
    matched : DataFrame
        Rows of `reprise.interventions.matched_damage.matched_damage`, with the candidate's name as `candidate`.
    sufficiency : DataFrame
        Rows of `reprise.interventions.sufficiency.sufficiency_summary`, likewise.
    thresholds : Thresholds
        The declared thresholds.
    long_role : str
        The horizon role at which foresight is judged. All others count as shorter.
    second_target : bool
        Whether the study asks for a second edit target. If it does, and there is no effect of it, the gate is
        undecided.

    Returns
    -------
    dict
        Plain builtins: verdict, reason, gates (dicts of `Gate`; those of the candidate that decided are the last),
        checks, candidates (name, title, kind, layer, verdict, reason, mechanism, stored_fraction, sufficient, gates),
        best_probe, clips, thresholds. NaN where there is no number.
    """
    t = thresholds
    long, shorter = (probes[mask] for mask in (probes["role"] == long_role, probes["role"] != long_role))
    tests = evidence_tests(long)
    best = best_test(tests, t)
    gates = _data_gates(clips, _counts(clips, long), t)
    gates += [_prediction(tests, best, "prediction", f"the {long_role} horizon", t), _learned(tests, best, t)]
    short_tests = evidence_tests(shorter)
    local = _prediction(short_tests, best_test(short_tests, t), "shorter_horizons", "shorter horizons", t)
    checks = [local._asdict(), *(g._asdict() for g in _checks(long, long_role, t))]

    undecided = _study_without_candidates(gates, local, clips, t)
    judged = [_candidate(row, candidates, matched, sufficiency, t, second_target) for _, row in candidates.iterrows()]
    if undecided is not None:
        name, reason = undecided
        judged = [c | {"verdict": name, "reason": reason} for c in judged]
        decisive = None
    else:
        name, reason, decisive = _best_candidate(judged)
    not_reached = [_not_reached(gate)._asdict() for gate in CANDIDATE_GATES]
    about = {} if best is None else {k: best[k] for k in ("layer", "representation", "role", "p_adjusted")}
    return {
        "verdict": name,
        "reason": reason,
        "gates": [g._asdict() for g in gates] + (decisive["gates"] if decisive else not_reached),
        "checks": checks,
        "candidates": judged,
        "best_probe": about,
        "clips": dict(clips),
        "thresholds": t._asdict(),
    }


def _counts(clips: Mapping[str, Any], long: pd.DataFrame) -> dict[str, int]:
    """Clips with and without an event in the long horizon, and prompts with one. If no probe ran, they come from the
    events."""
    rows = long[is_evidence(long["representation"])]
    if rows.empty:
        negative = int(clips["n_usable"] - clips["n_with_event"])
        prompts = int(clips["n_prompts_with_event"])
        return {"positive": int(clips["n_with_event"]), "negative": negative, "prompts": prompts}
    # The tests share their labels, so the smallest counts are what all of them had.
    positive = int(rows["n_positive_clips"].min())
    negative = int((rows["n_clips"] - rows["n_positive_clips"]).min())
    return {"positive": positive, "negative": negative, "prompts": int(rows["n_positive_prompts"].min())}


def _data_gates(clips: Mapping[str, Any], counts: Mapping[str, int], t: Thresholds) -> list[Gate]:
    why = f" ({_unusable(clips)})" if clips["unusable"] else ""
    asked = [
        ("usable_clips", int(clips["n_usable"]), 1, f"of {clips['n_clips']} clips could be used{why}"),
        ("events", int(clips["n_with_event"]), 1, f"of {clips['n_usable']} usable clips hold a valid event"),
        ("positive_clips", counts["positive"], t.min_positive_clips, "clips have an event within the long horizon"),
        ("negative_clips", counts["negative"], t.min_negative_clips, "clips have no event within the long horizon"),
        ("positive_prompts", counts["prompts"], t.min_positive_prompts, "prompts have an event within it"),
    ]
    return [_count_gate(*gate) for gate in asked]


def _unusable(clips: Mapping[str, Any]) -> str:
    """Why clips could not be used, in words."""
    return "; ".join(f"{n} {'clip' if n == 1 else 'clips'}: {why}" for why, n in clips["unusable"].items())


def _count_gate(name: str, value: int, threshold: int, what: str) -> Gate:
    outcome = PASSED if value >= threshold else FAILED
    sentence = f"{value} {what}; {threshold} or more are needed."
    return Gate(name, float(value), math.nan, math.nan, float(threshold), outcome, sentence)


def _prediction(tests: pd.DataFrame, best: dict[str, Any] | None, name: str, where: str, t: Thresholds) -> Gate:
    if best is None:
        nothing = f"No probe could be scored at {where}."
        return Gate(name, math.nan, math.nan, math.nan, t.min_gain_auroc, UNDECIDED, nothing)
    excess = tests["gain_auroc_high"] - tests["null_gain"].clip(lower=0)
    outcome = PASSED if best["predicts"] else FAILED if excluded(excess, t) else UNDECIDED
    value, low, high = (float(best[f"gain_auroc{end}"]) for end in ("", "_low", "_high"))
    sentence = (
        f"At {where} the best of {len(tests)} probes ({_named(best)}) gains {value:.3f} AUROC "
        f"[{low:.3f}, {high:.3f}] over the better baseline, swap p = {best['p_adjusted']:.3g} after correction; "
        f"needed: interval above 0, gain {t.min_gain_auroc:g} or more, p {t.alpha:g} or less."
    )
    return Gate(name, value, low, high, t.min_gain_auroc, outcome, sentence)


def _learned(tests: pd.DataFrame, best: dict[str, Any] | None, t: Thresholds) -> Gate:
    threshold = t.min_learned_gain_auroc
    if best is None or not best["predicts"]:
        return _not_reached("learned")
    value, low, high = (float(best[f"learned_auroc{end}"]) for end in ("", "_low", "_high"))
    if math.isnan(value):
        nothing = "The same model with random weights could not be scored for comparison."
        return Gate("learned", value, low, high, threshold, UNDECIDED, nothing)
    excluded = bool((tests["learned_auroc_high"] < threshold).all())
    outcome = PASSED if best["learned"] else FAILED if excluded else UNDECIDED
    sentence = (
        f"That is {value:.3f} AUROC [{low:.3f}, {high:.3f}] more than the gain of the same layer with random weights, "
        f"p = {best['p_learned_adjusted']:.3g} after correction; needed: interval above 0, {threshold:g} or more, p "
        f"{t.alpha:g} or less."
    )
    return Gate("learned", value, low, high, threshold, outcome, sentence)


def _named(test: Mapping[str, Any]) -> str:
    return f"{find(test['representation']).words.text} at layer {test['layer']}, {test['role']}"


def _checks(long: pd.DataFrame, long_role: str, t: Thresholds) -> list[Gate]:
    """Representations that should not predict: passed if they do not. Both nulls count, as for evidence."""
    checks = []
    named = with_role(long["representation"], CHECK)
    for representation, rows in long[long["representation"].isin(named)].groupby("representation", sort=True):
        words = find(str(representation)).words
        rows = rows.assign(p_adjusted=benjamini_hochberg(rows["p_gain"]))
        predicting = predicts(rows, t)
        row = rows.assign(predicts=predicting).sort_values(["predicts", "gain_auroc"], ascending=False).iloc[0]
        value, low, high = (float(row[f"gain_auroc{end}"]) for end in ("", "_low", "_high"))
        unknown = rows["p_gain"].isna().any() and not predicting.any()
        found = words.warning if predicting.any() else "does not predict, as expected"
        number = "could not be scored" if unknown else f"{found} ({value:.3f} AUROC [{low:.3f}, {high:.3f}])"
        sentence = f"At the {long_role} horizon the {words.text} {number}."
        outcome = UNDECIDED if unknown else FAILED if predicting.any() else PASSED
        checks.append(Gate(str(representation), value, low, high, t.min_gain_auroc, outcome, sentence))
    return checks


def _study_without_candidates(
    gates: Sequence[Gate], local: Gate, clips: Mapping[str, Any], t: Thresholds
) -> tuple[str, str] | None:
    """Verdict and reason if the data or the prediction decide; None if the candidates do."""
    by_name = {g.name: g for g in gates}
    if by_name["usable_clips"].outcome != PASSED:
        return "unresolved", f"no clip could be used: {_unusable(clips)}"
    if by_name["events"].outcome != PASSED:
        return "none", "no valid events"
    for name in ("positive_clips", "negative_clips", "positive_prompts"):
        if by_name[name].outcome != PASSED:
            return "unresolved", by_name[name].sentence
    prediction, learned = by_name["prediction"], by_name["learned"]
    if prediction.outcome == UNDECIDED:
        return "unresolved", (
            f"a gain of {t.min_gain_auroc:g} AUROC at the long horizon is not shown, and a gain of "
            f"{t.max_missed_gain_auroc:g} is not excluded for every probe"
        )
    if prediction.outcome == FAILED:
        if local.outcome == PASSED:
            return "local", "an event is predicted at shorter horizons only"
        return "none", "nothing predicts an event beyond position, past sound and prompt"
    if learned.outcome == UNDECIDED:
        least = f"{t.min_learned_gain_auroc:g} AUROC over random weights"
        return "unresolved", f"it predicts, but a gain of {least} is neither shown nor excluded"
    if learned.outcome == FAILED:
        return "none", "what predicts is memory that the same model with random weights has too"
    return None


def _candidate(
    row: pd.Series,
    candidates: pd.DataFrame,
    matched: pd.DataFrame,
    sufficiency: pd.DataFrame,
    t: Thresholds,
    second_target: bool,
) -> dict[str, Any]:
    gates = [_confirmation(row, len(candidates), t)]
    until = _row_of(matched, row["name"], "target", "until_event")
    second = _row_of(matched, row["name"], "second_target", "until_event")
    if until is None:
        gates += [_not_reached(name) for name in CANDIDATE_GATES[1:]]
        name, reason = "unresolved", f"there is no ablation until the event at dose {DOSE:g}"
    else:
        gates += [*_causal_gates(until, t), _agreement(second, t, asked=second_target)]
        name, reason = _causal_verdict(gates[1:], t)
    if gates[0].outcome != PASSED:
        name, reason = "unresolved", "it was not confirmed in held-out prompts, so it was not edited"
    edited = gates[0].outcome == PASSED and until is not None
    found = {key: row[key] for key in ("name", "title", "kind")} | {"layer": int(row["layer"]), "edited": edited}
    found |= {"verdict": name, "reason": reason}
    found |= _mechanism(until, matched, gates, t) | _sufficiency(row["name"], sufficiency, t)
    return found | {"gates": [g._asdict() for g in gates]}


def _confirmation(row: pd.Series, n_tried: int, t: Thresholds) -> Gate:
    p = float(row["p_adjusted"])
    value, low, high = (float(row[f"gain_auroc{end}"]) for end in ("", "_low", "_high"))
    sentence = (
        f"In held-out prompts the candidate gains {value:.3f} AUROC [{low:.3f}, {high:.3f}], swap p = {p:.3g} after "
        f"correction for the {n_tried} tried; needed: interval above 0, p {t.alpha:g} or less."
    )
    outcome = PASSED if low > 0 and p <= t.alpha else UNDECIDED
    return Gate("confirmation", value, low, high, 0.0, outcome, sentence)


def _row_of(matched: pd.DataFrame, candidate: str, kind: str, window: str) -> pd.Series | None:
    if matched.empty:
        return None
    mask = (matched["candidate"] == candidate) & (matched["kind"] == kind) & (matched["window"] == window)
    rows = matched[mask & (matched["dose"] == DOSE)]
    return None if rows.empty else rows.iloc[0]


def _with_interval(row: pd.Series, name: str) -> tuple[float, float, float]:
    return float(row[name]), float(row[f"{name}_low"]), float(row[f"{name}_high"])


def _causal_gates(row: pd.Series, t: Thresholds) -> list[Gate]:
    e, d, s = (_with_interval(row, name) for name in ("effect", "damage", "selectivity"))
    removes = f"Removing it until the event takes away {e[0]:.2f} of the events [{e[1]:.2f}, {e[2]:.2f}]"
    needed = f"needed: interval above 0, {t.min_effect:g} or more."
    effect = Gate("effect", *e, t.min_effect, at_least(*e, t.min_effect), f"{removes}; {needed}")
    costs = (
        f"It costs {d[0]:.3f} nats per token [{d[1]:.3f}, {d[2]:.3f}] elsewhere; the whole interval must be at most "
        f"{t.max_damage:g}."
    )
    damage = Gate("damage", *d, t.max_damage, at_most(d[1], d[2], t.max_damage), costs)
    strongest = str(row["strongest_control"]).rstrip("0123456789").replace("_", " ") or "no control"
    more = (
        f"That is {s[0]:.2f} [{s[1]:.2f}, {s[2]:.2f}] more than the strongest control ({strongest}) takes away at "
        f"equal damage; needed: interval above 0, {t.min_selectivity:g} or more."
    )
    selectivity = Gate("selectivity", *s, t.min_selectivity, at_least(*s, t.min_selectivity), more)
    return [effect, damage, selectivity]


def _agreement(second: pd.Series | None, t: Thresholds, *, asked: bool) -> Gate:
    """Whether another edit target shows the effect too."""
    if second is None:
        outcome = UNDECIDED if asked else PASSED
        sentence = "The second edit target was not measured." if asked else "The study asks for no second edit target."
        return Gate("second_target", math.nan, math.nan, math.nan, t.min_effect, outcome, sentence)
    e = _with_interval(second, "effect")
    sentence = (
        f"With the second edit target it takes away {e[0]:.2f} of the events [{e[1]:.2f}, {e[2]:.2f}]; needed: "
        f"interval above 0, {t.min_effect:g} or more."
    )
    return Gate("second_target", *e, t.min_effect, at_least(*e, t.min_effect), sentence)


def _causal_verdict(gates: Sequence[Gate], t: Thresholds) -> tuple[str, str]:
    effect, damage, selectivity, second = gates
    if effect.outcome == FAILED:
        return "correlate", f"it predicts, but removing it takes away less than {t.min_effect:g} of the events"
    if effect.outcome != PASSED:
        return "unresolved", f"an effect of {t.min_effect:g} is neither shown nor excluded"
    if damage.outcome == FAILED:
        return "entangled", "removing it wrecks the music"
    if selectivity.outcome == FAILED:
        return "entangled", "removing it takes away events, but not more than controls at equal damage"
    if damage.outcome != PASSED:
        return "unresolved", f"it is not known whether it costs more than {t.max_damage:g} nats per token"
    if selectivity.outcome != PASSED:
        return "unresolved", f"a selectivity of {t.min_selectivity:g} is neither shown nor excluded"
    if second.outcome != PASSED:
        return "unresolved", "the second edit target does not show the same effect"
    return "foresight", "it predicts the event far ahead, and removing it takes the event away selectively"


def _mechanism(until: pd.Series | None, matched: pd.DataFrame, gates: Sequence[Gate], t: Thresholds) -> dict[str, Any]:
    """`mechanism` ("" where there is no effect to explain) and `stored_fraction` with its interval."""
    names = [f"stored_fraction{end}" for end in ("", "_low", "_high")]
    moved = next(g for g in gates if g.name == "effect").outcome == PASSED
    prefix = None if until is None else _row_of(matched, until["candidate"], "target", "prefix_only")
    if not moved or prefix is None:
        return {"mechanism": "", **dict.fromkeys(names, math.nan)}
    share = {name: float(prefix.get(name, math.nan)) for name in names}
    _, low, high = share.values()
    if low >= t.min_stored_fraction:
        return {"mechanism": "stored", **share}
    return {"mechanism": "recomputed" if high < t.min_stored_fraction else "undecided", **share}


def _sufficiency(candidate: str, sufficiency: pd.DataFrame, t: Thresholds) -> dict[str, Any]:
    """Whether the candidate brings the event about in clips without one: `sufficient` is "shown", "not shown" or
    "excluded", or "" if it was not tested. It decides no verdict."""
    names = [f"{value}{end}" for value in ("gained", "more_than_controls") for end in ("", "_low", "_high")]
    rows = sufficiency[sufficiency["candidate"] == candidate] if len(sufficiency) else sufficiency
    if not candidate or rows.empty:
        return {"sufficient": "", **dict.fromkeys(names, math.nan)}
    found = {name: float(rows.iloc[0][name]) for name in names}
    gained = at_least(*_with_interval(rows.iloc[0], "gained"), t.min_effect)
    more = at_least(*_with_interval(rows.iloc[0], "more_than_controls"), t.min_selectivity)
    shown = gained == more == PASSED
    return {"sufficient": "shown" if shown else "excluded" if FAILED in (gained, more) else "not shown", **found}


def _not_reached(name: str) -> Gate:
    return Gate(name, math.nan, math.nan, math.nan, math.nan, NOT_REACHED, "Not reached.")


def _best_candidate(judged: Sequence[dict[str, Any]]) -> tuple[str, str, dict[str, Any] | None]:
    """Verdict, reason and the candidate that decides. A candidate that was not edited decides nothing."""
    for name in RANK:
        for c in judged:
            if c["edited"] and c["verdict"] == name:
                return name, f"{c['title']}: {c['reason']}", c
    tried = f"none of {len(judged)} candidates tried was confirmed" if judged else "no candidate was found"
    if any(c["gates"][0]["outcome"] == PASSED for c in judged):
        tried = "no confirmed candidate could be edited in a clip with an event"
    return "unresolved", f"an event is predicted at the long horizon, but nothing was edited: {tried}", None
