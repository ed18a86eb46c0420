"""The fields of `events` for the target `recurrence`: which passage is the motif, and what counts as its return.

The tests are in reprise/targets/recurrence/detection.py, the choice of a motif in
reprise/targets/recurrence/motifs.py.
"""

from collections.abc import Mapping
from typing import Annotated, Any, Literal

from pydantic import AfterValidator

from reprise.config.fields import Settings, leaf, seconds, share, unique
from reprise.targets.target import Extent

# A discovered motif is at most this many times as long as `motif_duration_s`.
LONGEST = 2.0


class RecurrenceSettings(Settings):
    """What counts as a recurrence of the motif: see reprise/targets/recurrence/detection.py."""

    motif: Literal["opening", "beats", "discovered"] = leaf(
        "opening",
        "Which passage is the motif. opening: the one given by motif_start_s and motif_duration_s. beats: the same, "
        "with its ends moved to beats. discovered: any passage of motif_duration_s, or up to twice as long, that the "
        "clip repeats.",
    )
    motif_start_s: float = seconds(2.0, "Where the motif begins; not used with discovered.")
    motif_duration_s: float = seconds(2.0, "Length of the motif.", ge=0.8)
    min_score: float = share(0.75, "Smallest match score (1: identical).")
    max_p_value: float = leaf(0.05, "Largest p-value against surrogates.", gt=0, lt=1)
    n_surrogates: int = leaf(99, "Number of surrogates of the clip that a match is compared with.", ge=1)
    surrogate_segment_fraction: float = share(
        0.5, "Length of the segments that are shuffled to make surrogates, relative to the motif.", gt=0
    )
    others: Annotated[tuple[Literal["prompt", "group"], ...], AfterValidator(unique)] = leaf(
        (),
        "Other clips of the batch that a match must also beat, if there are enough. prompt: the same prompt with "
        "another seed. group: other prompts of the same group (third column of the prompts file). Leave out clips "
        "that are meant to have the same melody.",
    )
    min_gap_s: float = seconds(2.0, "Shortest time without a match before a recurrence.")
    gap_max_score: float = share(0.7, "Largest match score inside that gap.")
    timbre_margin: float = share(0.1, "The match score must exceed the timbre score by at least this much.")
    min_entropy_bits: float = leaf(0.5, "Smallest pitch-class entropy of a motif.", unit="bits", ge=0, le=3.585)
    min_onsets: int = leaf(3, "Smallest number of note onsets in a motif.", ge=1)
    candidate_score: float = share(0.4, "Matches with a lower score are not listed at all.")


def extent(settings: Mapping[str, Any]) -> Extent:
    """Where the motif ends, and how long it and its returns are.

    A discovered motif may be at the clip's start. It has the shortest length at least, and the longest at most.
    """
    duration_s = settings["motif_duration_s"]
    if settings["motif"] == "discovered":
        return Extent(duration_s, duration_s, LONGEST * duration_s, "motif end", ("motif", "motif_duration_s"))
    end_s = round(settings["motif_start_s"] + duration_s, 6)
    return Extent(end_s, duration_s, duration_s, "motif end", ("motif", "motif_start_s", "motif_duration_s"))


def known(settings: Mapping[str, Any]) -> dict[str, Any]:
    """What the baseline knows about the motif: where it is, or how long one would be."""
    told = {"kind": settings["motif"], "duration_s": settings["motif_duration_s"]}
    if settings["motif"] == "discovered":
        return told | {"min_gap_s": settings["min_gap_s"]}
    return told | {"start_s": settings["motif_start_s"]}
