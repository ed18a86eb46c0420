"""The horizons as text: the range of seconds ahead of each one."""

from typing import Any

from reprise.config.horizons import horizon_name
from reprise.report.results import Results


def horizons_view(study: Results) -> list[dict[str, Any]]:
    """role, name (as in paths) and text of each horizon, nearest first."""
    return [
        {"role": role, "name": horizon_name(a, b), "text": f"{role}, {a:g}–{b:g} s ahead"}
        for role, (a, b) in sorted(study.settings["horizons"].items(), key=lambda item: tuple(item[1]))
    ]
