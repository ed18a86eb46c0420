"""The names of horizons in paths and tables."""

import re


def horizon_name(a_s: float, b_s: float) -> str:
    """Name of the horizon [a_s, b_s] seconds in paths and tables, such as `h0.5-2`."""
    return f"h{a_s:g}-{b_s:g}"


def parse_horizon_name(name: str) -> tuple[float, float]:
    """The horizon [a_s, b_s] in seconds from a name made by `horizon_name`. Raises ValueError for other text."""
    match = re.fullmatch(r"h([0-9.]+)-([0-9.]+)", name)
    if not match:
        raise ValueError(f"horizon: got {name!r}; valid: h<from>-<to> in seconds, such as h0.5-2")
    return float(match[1]), float(match[2])
