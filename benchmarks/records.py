"""The form of a measurement in `results.json`."""

from typing import Any


def record(name: str, ours: float, against: float, ratio: float, unit: str, n: int, what: str) -> dict[str, Any]:
    """Make the record of a benchmark.

    Parameters
    ----------
    name : str
        Name of the benchmark.
    ours, against : float
        The measurement, and that of the peer, both in `unit`.
    ratio : float
        One compared with the other, as `what` says.
    unit : str
        Such as s or MB.
    n : int
        Number of rounds.
    what : str
        Description.

    Returns
    -------
    dict
        Plain builtins, rounded.
    """
    return {
        "name": name,
        "ours": round(ours, 4),
        "against": round(against, 4),
        "ratio": round(ratio, 3),
        "unit": unit,
        "n": n,
        "what": what,
    }
