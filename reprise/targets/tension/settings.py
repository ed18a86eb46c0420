"""The fields of `events` for the target `tension`: what counts as a release.

The method is in reprise/targets/tension/detection.py.
"""

from collections.abc import Mapping
from typing import Any

from reprise.config.fields import Settings, leaf, seconds, share
from reprise.targets.target import Extent


class TensionSettings(Settings):
    """What counts as the release of a tension: see reprise/targets/tension/detection.py."""

    build_s: float = seconds(3.0, "The tension lasts at least this long before it is released.", ge=1)
    rest_s: float = seconds(2.0, "The rest after it lasts at least this long.", ge=1)
    min_score: float = share(0.4, "Smallest score of a release.")
    max_p_value: float = leaf(0.05, "Largest p-value against surrogates.", gt=0, lt=1)
    n_surrogates: int = leaf(99, "Number of surrogates of the clip that a release is compared with.", ge=1)
    surrogate_segment_s: float = seconds(0.5, "Length of the segments that are shuffled to make surrogates.", ge=0.25)
    candidate_score: float = share(0.2, "Times with a lower score are not listed at all.")


def extent(settings: Mapping[str, Any]) -> Extent:
    """A release needs tension before it, and then rest."""
    return Extent(settings["build_s"], 0.0, settings["rest_s"], "least tension before a release", ("build_s",))


def known(settings: Mapping[str, Any]) -> dict[str, Any]:
    """What the baseline knows: how long tension and rest are."""
    return {name: settings[name] for name in ("build_s", "rest_s")}
