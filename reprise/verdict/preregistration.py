"""What a study declares before any result is known: thresholds, and all settings that fix the question.

The first declaration is written before the first result that matters to the verdict, including events and
certificates, and every such result depends on it. A study may declare again (another horizon, another threshold). Each
declaration is kept, with what it changed and which results had been computed by then, so a threshold that was moved
afterwards is visible.

Declarations form a chain. An entry holds the digest of its own content (`entry`) and that of the entry before
(`previous`), and the results hold the digest of the first (`declared`). An entry that is edited, removed or inserted
afterwards is therefore detected, unless every result is computed again as well. See `problems_of`.
"""

import hashlib
import json
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

# Stages whose results matter to a verdict, in the order in which they become known, with the files that show that one
# was computed: below results/<study>/ and below results/benchmarks/<study>/ (a rerun removes outputs, but not times).
RESULTS = {
    "events": ("events/*.parquet", "certificates/*.json", "labels/*.parquet", "events/*.tsv", "measure_sae/*.tsv"),
    "screens": ("screens/*/*.parquet", "screen/*.tsv"),
    "probes": ("baselines/*.parquet", "probes/*/*.json", "probe/*.tsv", "baseline/*.tsv"),
    "confirmations": ("candidates.parquet", "candidates.tsv"),
    "effects": ("ablations/*.manifest.json", "effects/*.parquet", "ablate/*.tsv", "effects/*.tsv"),
}
KNOWN = ("nothing", *RESULTS)


class Thresholds(NamedTuple):
    """The threshold of each gate; see reprise/verdict/gates.py.

    `alpha` is for p-values. Damage is in nats per token, rates are fractions.
    """

    min_positive_clips: int
    min_negative_clips: int
    min_positive_prompts: int
    alpha: float
    min_gain_auroc: float
    max_missed_gain_auroc: float
    min_learned_gain_auroc: float
    min_effect: float
    min_selectivity: float
    max_damage: float
    min_stored_fraction: float


def digest(value: Any) -> str:
    """SHA-256 (64 hex digits) of the canonical JSON of plain builtins: sorted keys, no spaces.

    NaN raises ValueError.
    """
    text = json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False)
    return hashlib.sha256(text.encode()).hexdigest()


def preregistration(thresholds: Thresholds, settings: Mapping[str, Any]) -> dict[str, Any]:
    """A declaration with its digest: `thresholds`, `settings`, `digest`.

    settings: plain builtins, all that fixes the question besides the thresholds (horizons, seeds, candidate rule,
    doses).
    """
    declared = {"thresholds": thresholds._asdict(), "settings": dict(settings)}
    return {**declared, "digest": digest(declared)}


def known_results(*folders: Path) -> str:
    """The last stage that has a result below one of the folders; `nothing` if there is none."""
    found = [
        stage
        for stage, patterns in RESULTS.items()
        if any(next(folder.glob(pattern), None) for folder in folders for pattern in patterns)
    ]
    return found[-1] if found else "nothing"


def declare(history: Sequence[Mapping[str, Any]], declared: Mapping[str, Any], *, known: str) -> list[dict[str, Any]]:
    """Append this declaration to the history, unless it is the last entry already.

    Parameters
    ----------
    history : sequence of mappings
        The declarations so far.
    declared : mapping
        As returned by `preregistration`.
    known : str
        The last stage with results at the time of the declaration, one of `KNOWN`.

    Returns
    -------
    list of dict
        Each entry has thresholds, settings, digest, `known`, `changed` (the fields that differ from the entry before,
        such as `thresholds.min_effect: 0.2 to 0.1`), and `previous` and `entry`, which chain it.
    """
    kept = [dict(entry) for entry in history]
    if kept and kept[-1]["digest"] == declared["digest"]:
        return kept
    changed = _differences(kept[-1], declared) if kept else []
    new = {**declared, "known": known, "changed": changed, "previous": kept[-1]["entry"] if kept else ""}
    return [*kept, {**new, "entry": digest(new)}]


def summary(history: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """The history without the content of the declarations: digest, known, changed and entry of each."""
    return [{key: entry[key] for key in ("digest", "known", "changed", "entry")} for entry in history]


def problems_of(
    history: Sequence[Mapping[str, Any]],
    first: Mapping[str, Any],
    current: Mapping[str, Any],
    *,
    asked: Mapping[str, Any],
    recorded: Collection[str],
) -> list[str]:
    """Signs that declarations were altered after they were written, in words; [] if there are none.

    Parameters
    ----------
    history : sequence of mappings
        All entries.
    first : mapping
        The file that the results depend on. It must equal the first entry.
    current : mapping
        The study's preregistration. It must equal the last entry.
    asked : mapping
        The declaration that the configuration gives now.
    recorded : collection of str
        The digests of the first entry that the results hold.
    """
    problems, previous = [], ""
    for number, entry in enumerate(history):
        content = {key: value for key, value in entry.items() if key != "entry"}
        try:
            intact = entry["entry"] == digest(content) and entry["digest"] == digest(
                {key: entry[key] for key in ("thresholds", "settings")}
            )
            chained = entry["previous"] == previous
            previous = entry["entry"]
        except (KeyError, TypeError, ValueError):
            intact, chained, previous = False, False, ""
        if not intact:
            problems.append(
                f"declaration {number + 1} was changed after it was written: its content has another digest"
            )
        elif not chained:
            problems.append(f"declaration {number + 1} does not follow the one before it")
    if not history:
        return ["all declarations are missing"]
    if dict(first) != dict(history[0]):
        problems.append("declared.json is not the first declaration")
    if any(current.get(key) != history[-1].get(key) for key in ("thresholds", "settings", "digest")):
        problems.append("preregistration.json is not the last declaration")
    if current.get("digest") != asked["digest"]:
        problems.append("the last declaration differs from the configuration")
    if set(recorded) - {history[0].get("entry")}:
        problems.append("results were computed under another first declaration")
    return problems


def _differences(before: Mapping[str, Any], after: Mapping[str, Any]) -> list[str]:
    flat = [_flat({key: entry[key] for key in ("thresholds", "settings")}) for entry in (before, after)]
    old, new = ({key: json.dumps(value, ensure_ascii=False) for key, value in side.items()} for side in flat)
    differing = sorted(key for key in old.keys() | new.keys() if old.get(key) != new.get(key))
    return [f"{key}: {old.get(key, 'nothing')} to {new.get(key, 'nothing')}" for key in differing]


def _flat(value: Any, name: str = "") -> dict[str, Any]:
    if not isinstance(value, Mapping):
        return {name: value}
    return {k: v for key, inner in value.items() for k, v in _flat(inner, f"{name}.{key}".lstrip(".")).items()}
