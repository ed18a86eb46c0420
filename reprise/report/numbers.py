"""Numbers as text.

Degenerate input: a number that could not be computed (None, NaN, infinite) becomes a dash.
"""

import math
from typing import Any

NEVER_DATA = "—"


def is_number(value: Any) -> bool:
    """Whether there is a number to show: not None, NaN or infinite."""
    return value is not None and not isinstance(value, str) and math.isfinite(value)


def number(value: Any, digits: int = 2, *, sign: bool = False) -> str:
    """A number with a fixed number of decimals and a true minus sign; a dash if there is none."""
    if not is_number(value):
        return NEVER_DATA
    text = f"{value:{'+' if sign else ''}.{digits}f}"
    # "-0.00" is shown as "0.00".
    text = text.lstrip("+-") if not text.strip("+-0.") else text
    return text.replace("-", "−")


def interval(value: Any, low: Any, high: Any, digits: int = 2) -> str:
    """`0.21 [0.15, 0.27]`, without the bracket if there is no interval."""
    ends = f" [{number(low, digits)}, {number(high, digits)}]" if is_number(low) and is_number(high) else ""
    return number(value, digits) + ends


def p_text(p: Any) -> str:
    if not is_number(p):
        return NEVER_DATA
    return "< 0.001" if p < 0.001 else f"{p:.3f}" if p < 0.1 else f"{p:.2f}"


def percent(share: Any) -> str:
    return f"{number(100 * share, 0)} %" if is_number(share) else NEVER_DATA


def seconds_text(seconds: float) -> str:
    """`45 s`, `3 min 20 s`, `2 h 05 min`."""
    whole = round(seconds)
    if whole < 60:
        return f"{number(seconds, 0 if seconds >= 10 else 1)} s"
    minutes, rest = divmod(whole, 60)
    return f"{minutes} min {rest:02d} s" if minutes < 60 else f"{minutes // 60} h {minutes % 60:02d} min"
