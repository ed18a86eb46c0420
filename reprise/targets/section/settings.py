"""The fields of `events` for the target `section`: what counts as the start of a new section.

The method is in reprise/targets/section/detection.py.
"""

from collections.abc import Iterator, Mapping
from typing import Any

from reprise.config.fields import Settings, leaf, seconds, share
from reprise.targets.surrogates import threshold_problems
from reprise.targets.target import Extent, SettingsProblem


class SectionSettings(Settings):
    """What counts as the start of a section: see reprise/targets/section/detection.py."""

    shortest_s: float = seconds(4.0, "A section lasts at least this long, and so does what comes before it.", ge=3)
    longest_s: float = seconds(16.0, "At most this much before and after a time is compared.", ge=3)
    min_score: float = share(0.5, "Smallest score of a section's start.")
    max_p_value: float = leaf(0.05, "Largest p-value against surrogates.", gt=0, lt=1)
    n_surrogates: int = leaf(99, "Number of surrogates of the clip that a contrast is compared with.", ge=1)
    surrogate_segment_s: float = seconds(1.0, "Length of the segments that are shuffled to make surrogates.", ge=0.5)
    candidate_score: float = share(0.3, "Times with a lower score are not listed at all.")


def extent(settings: Mapping[str, Any]) -> Extent:
    """A section needs something before it, and lasts for a while."""
    shortest_s = settings["shortest_s"]
    return Extent(shortest_s, 0.0, shortest_s, "shortest section", ("shortest_s",), changes_all_that_follows=True)


def known(settings: Mapping[str, Any]) -> dict[str, Any]:
    """What the baseline knows: how long sections are."""
    return {name: settings[name] for name in ("shortest_s", "longest_s")}


def problems(settings: Mapping[str, Any]) -> Iterator[SettingsProblem]:
    """Thresholds that nothing can pass, and lengths in the wrong order."""
    yield from threshold_problems(settings)
    if settings["longest_s"] < settings["shortest_s"]:
        text = f"got {settings['longest_s']:g} s; valid: at least events.shortest_s, {settings['shortest_s']:g} s"
        yield SettingsProblem("longest_s", text, ("longest_s", "shortest_s"))
