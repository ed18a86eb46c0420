"""What a benchmark measured, as `results.json` holds it."""

from typing import Any


def record(name: str, ours: float, against: float, ratio: float, unit: str, n: int, what: str) -> dict[str, Any]:
    """`ours` and what it is measured `against`, both in `unit`, from `n` rounds; `what` says it in words."""
    return {
        "name": name,
        "ours": round(ours, 4),
        "against": round(against, 4),
        "ratio": round(ratio, 3),
        "unit": unit,
        "n": n,
        "what": what,
    }
