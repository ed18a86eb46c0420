"""What is the verdict, and how many gates were passed?"""

from collections.abc import Mapping
from typing import Any

from reprise.probing.representations import find, names
from reprise.report.figures.intervals import gate_strip
from reprise.report.numbers import NEVER_DATA, interval, is_number, percent
from reprise.report.results import Results
from reprise.targets.view import Words
from reprise.verdict.meanings import MECHANISMS, SUFFICIENT, meanings, no_events

# Title, decimals, unit and comparison sign of each gate of reprise.verdict.gates. `{w}` are the target's words.
GATES = {
    "usable_clips": ("Usable clips", 0, "clips", "≥"),
    "events": ("Valid {w.events}", 0, "clips", "≥"),
    "positive_clips": ("Clips with {w.an_event}", 0, "clips", "≥"),
    "negative_clips": ("Clips without {w.an_event}", 0, "clips", "≥"),
    "positive_prompts": ("Prompts with {w.an_event}", 0, "prompts", "≥"),
    "prediction": ("Predicts far ahead", 3, "AUROC", "≥"),
    "learned": ("Better than random weights", 3, "AUROC", "≥"),
    "confirmation": ("Holds in new prompts", 3, "AUROC", ">"),
    "effect": ("Removing it removes {w.events}", 2, "of {w.events}", "≥"),
    "damage": ("The music stays intact", 3, "nats per token", "≤"),
    "selectivity": ("More than the controls", 2, "of {w.events}", "≥"),
    "second_target": ("Also with another edit target", 2, "of {w.events}", "≥"),
    "shorter_horizons": ("Predicts at shorter horizons", 3, "AUROC", "≥"),
}


def gate_words(name: str, words: Words) -> tuple[str, int, str, str]:
    """Title, digits, unit and sense of a gate, or of a representation that is a check."""
    if name in GATES:
        title, digits, unit, sense = GATES[name]
        return title.format(w=words), digits, unit.format(w=words), sense
    if name in names():
        of_check = find(name).words
        return of_check.silent or f"No gain: {of_check.label}", 3, "AUROC", "<"
    return name.replace("_", " ").capitalize(), 3, "", "≥"


def gate_view(gate: Mapping[str, Any], words: Words) -> dict[str, Any]:
    """A gate as a row of the table."""
    name = gate["name"]
    title, digits, unit, sense = gate_words(name, words)
    value = interval(gate["value"], gate["low"], gate["high"], digits)
    outcome = gate["outcome"]
    return {
        "title": title,
        "name": name,
        "value": f"{value} {unit}".strip() if is_number(gate["value"]) else NEVER_DATA,
        "needed": f"{sense} {gate['threshold']:g}" if is_number(gate["threshold"]) else NEVER_DATA,
        "outcome": outcome,
        "mark": {"passed": "✓", "failed": "✗", "undecided": "?", "not reached": "·"}[outcome],
        "style": outcome.replace(" ", "-"),
        "sentence": gate["sentence"] if outcome != "not reached" else "",
        "strip": gate_strip(gate),
    }


def is_organism(card: Mapping[str, Any]) -> bool:
    """Whether a model's card says that it is a model organism, which is calibration and not evidence."""
    return str(card.get("kind", "")).startswith("model organism")


def verdict_view(study: Results) -> dict[str, Any]:
    """The verdict as sentences, and the gates up to it."""
    verdict, words = study.verdict, study.target.view.words
    gates = [gate_view(g, words) for g in verdict["gates"]]
    name = verdict["verdict"]
    nothing_happens = any(g["name"] == "events" and g["outcome"] == "failed" for g in gates)
    deciding = next((c for c in verdict["candidates"] if c["verdict"] == name), None)
    mechanism = SUFFICIENT.get(deciding.get("sufficient", ""), "") if deciding and name == "foresight" else ""
    if deciding and deciding.get("mechanism"):
        share = percent(deciding.get("stored_fraction"))
        mechanism = f"{mechanism} {MECHANISMS.get(deciding['mechanism'], '{share}').format(share=share)}".strip()
    failed = [g["title"].lower() for g in gates if g["outcome"] in ("failed", "undecided")]
    passed = sum(g["outcome"] == "passed" for g in gates)
    # The known answer of an organism holds for the music that it makes itself.
    known = is_organism(study.card) and study.settings["source"] == "prompts"
    truth = study.card.get("ground_truth", {}) if known else {}
    should = truth.get("verdict", "")
    return {
        "name": name,
        "meaning": no_events(words) if name == "none" and nothing_happens else meanings(words).get(name, ""),
        "reason": str(verdict["reason"]),
        "mechanism": mechanism,
        "gates": gates,
        "checks": [gate_view(g, words) for g in verdict.get("checks", [])],
        "progress": f"{passed} of {len(gates)} gates passed" + (f"; first not to: {failed[0]}" if failed else ""),
        "numbers": {g["name"]: interval(g["value"], g["low"], g["high"]) for g in verdict["gates"]},
        "truth": should,
        "because": truth.get("because", ""),
        "agrees": should == name if should else None,
    }
