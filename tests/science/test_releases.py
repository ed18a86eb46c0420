"""Planted releases are found and decoys are not, at the shipped settings: the targets of a release's label.

What is drawn, and what counts: `benchmarks/releases.py`. The same measurement at more clips:
`benchmarks/targets.json`.
"""

from benchmarks.releases import DECOYS, RELEASES, draw, found_in, hits

N_CLIPS = 16


def test_releases_are_found() -> None:
    scenes = [draw(kind, seed) for kind in RELEASES for seed in range(N_CLIPS)]
    measured = hits(scenes, [found_in(scene) for scene in scenes])
    print(measured)
    assert measured["found_within_0.5_s"]["value"] >= 0.7, measured


def test_what_is_no_release_gives_none() -> None:
    """At most 0.05 of all decoys."""
    found = {kind: sum(len(found_in(draw(kind, seed))) > 0 for seed in range(N_CLIPS)) for kind in DECOYS}
    print(found)
    assert sum(found.values()) <= 0.05 * N_CLIPS * len(DECOYS), found
