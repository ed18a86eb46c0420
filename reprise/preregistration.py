"""What a study declares before any effect is known: thresholds, and whatever fixes the question beside them.

The declaration is written before the first probe is fitted, and its digest goes into the verdict. A study may declare
anew (another horizon, another threshold); each declaration is kept, with what it changed and which results had been
computed by then, so that a threshold that moved after the fact shows.
"""

import hashlib
import json
from collections.abc import Mapping, Sequence
from typing import Any, Literal, NamedTuple

Known = Literal["nothing", "probes", "effects"]


class Thresholds(NamedTuple):
    """What each gate asks for; see reprise/verdict.py. `alpha` for p-values, damage in nats a token, rates as
    shares."""

    min_positive_clips: int
    min_negative_clips: int
    min_positive_prompts: int
    alpha: float
    min_gain_auroc: float
    max_missed_gain_auroc: float
    min_effect: float
    min_selectivity: float
    max_damage: float
    min_stored_share: float


def digest(value: Any) -> str:
    """SHA-256 (64 hex digits) of the canonical JSON of plain builtins: sorted keys, no spaces. NaN is an error."""
    text = json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False)
    return hashlib.sha256(text.encode()).hexdigest()


def preregistration(thresholds: Thresholds, settings: Mapping[str, Any]) -> dict[str, Any]:
    """A declaration with its digest: `thresholds`, `settings`, `digest`.

    settings: plain builtins, whatever fixes the question beside the thresholds (horizons, seeds, candidate rule,
    doses).
    """
    declared = {"thresholds": thresholds._asdict(), "settings": dict(settings)}
    return {**declared, "digest": digest(declared)}


def is_intact(declared: Mapping[str, Any], thresholds: Thresholds) -> bool:
    """Whether a declaration is what its digest says, and has these thresholds."""
    content = {key: declared[key] for key in ("thresholds", "settings")}
    return digest(content) == declared["digest"] and dict(declared["thresholds"]) == thresholds._asdict()


def declare(
    history: Sequence[Mapping[str, Any]], declared: Mapping[str, Any], *, known: Known
) -> list[dict[str, Any]]:
    """The history with this declaration at its end, unless it is there already.

    Each entry: thresholds, settings, digest, `known` (which results had been computed when it was declared) and
    `changed`, the fields in which it differs from the one before, such as `thresholds.min_effect: 0.2 to 0.1`.
    """
    kept = [dict(entry) for entry in history]
    if kept and kept[-1]["digest"] == declared["digest"]:
        return kept
    changed = _differences(kept[-1], declared) if kept else []
    return [*kept, {**declared, "known": known, "changed": changed}]


def summary(history: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """The history without what was declared: digest, known and changed of each."""
    return [{key: entry[key] for key in ("digest", "known", "changed")} for entry in history]


def _differences(before: Mapping[str, Any], after: Mapping[str, Any]) -> list[str]:
    flat = [_flat({key: entry[key] for key in ("thresholds", "settings")}) for entry in (before, after)]
    old, new = ({key: json.dumps(value, ensure_ascii=False) for key, value in side.items()} for side in flat)
    differing = sorted(key for key in old.keys() | new.keys() if old.get(key) != new.get(key))
    return [f"{key}: {old.get(key, 'nothing')} to {new.get(key, 'nothing')}" for key in differing]


def _flat(value: Any, name: str = "") -> dict[str, Any]:
    if not isinstance(value, Mapping):
        return {name: value}
    return {k: v for key, inner in value.items() for k, v in _flat(inner, f"{name}.{key}".lstrip(".")).items()}
