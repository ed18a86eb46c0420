"""Planted sections are found and decoys are not, at the shipped settings: the targets of a section's label.

What is drawn, and what counts: `benchmarks/sections.py`. The same measurement at more clips:
`benchmarks/targets.json`.
"""

import pytest

from benchmarks.sections import DECOYS, draw, found_in, hits

N_CLIPS = 16


@pytest.mark.parametrize("kind, least", [("timbre", 0.75), ("material", 0.9)])
def test_sections_are_found(kind: str, least: float) -> None:
    scenes = [draw(kind, seed) for seed in range(N_CLIPS)]
    measured = hits(scenes, [found_in(scene) for scene in scenes])
    print(kind, measured)
    assert measured["found_within_0.5_s"]["value"] >= least, measured


def test_what_is_no_section_gives_none() -> None:
    """At most 0.05 of all decoys."""
    found = {kind: sum(len(found_in(draw(kind, seed))) > 0 for seed in range(N_CLIPS)) for kind in DECOYS}
    print(found)
    assert sum(found.values()) <= 0.05 * N_CLIPS * len(DECOYS), found
