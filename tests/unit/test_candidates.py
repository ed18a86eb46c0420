"""Candidates: worked out by hand, and blind to horizons where they must be."""

import numpy as np
import pandas as pd
from scipy.sparse import csr_matrix

from reprise.candidates import candidate_name, clips_to_continue, feature_statistics, rank_features, returning

CLIPS = pd.DataFrame({"clip_id": [f"c{i}" for i in range(6)], "prompt_id": list("aabbcc")})


def test_a_clip_returns_when_an_accepted_event_begins_in_the_window():
    events = pd.DataFrame(
        [("c0", 10.0, True), ("c1", 10.0, False), ("c2", 5.0, True), ("c3", 12.0, True)],
        columns=["clip_id", "onset_s", "accepted"],
    )
    assert returning(events, CLIPS["clip_id"], start_s=9.0, stop_s=12.0).tolist() == [
        True,
        False,
        False,
        True,
        False,
        False,
    ]


def test_the_clips_chosen_stay_when_others_come():
    returns, held_out = np.array([1, 1, 1, 1, 1, 0], bool), np.array([1, 1, 1, 1, 0, 1], bool)
    few = clips_to_continue(CLIPS[:3], returns[:3], held_out[:3], 4)["clip_id"].tolist()
    assert few == ["c0", "c1", "c2"]
    more = clips_to_continue(CLIPS, returns, held_out, 4)["clip_id"].tolist()
    assert more == ["c0", "c1", "c2", "c3"]
    assert len(clips_to_continue(CLIPS, returns, held_out, 2)) == 2


def test_ranking_keeps_the_strongest_horizon_of_features_that_rise_before_a_return():
    screens = pd.DataFrame(
        [
            (2, "h4-8", 7, 5.0, 0.001),
            (2, "h2-4", 7, 6.0, 0.001),
            (2, "h4-8", 8, -9.0, 0.0001),
            (4, "h4-8", 9, 4.0, 0.20),
            (4, "h4-8", 1, 5.5, 0.01),
            (4, "h0.5-2", 3, 9.0, 0.001),
        ],
        columns=["layer", "horizon", "feature", "z", "q"],
    )
    ranked = rank_features(screens, fdr=0.05, horizons=["h2-4", "h4-8"])
    assert ranked[["layer", "feature", "horizon"]].values.tolist() == [[2, 7, "h2-4"], [4, 1, "h4-8"]]


def test_feature_statistics():
    # Two positions of each of four clips; clips 0 and 1 return.
    codes = csr_matrix(
        np.array([[1, 0, 2], [3, 0, 2], [1, 0, 0], [0, 0, 2], [0, 0, 2], [0, 0, 2], [0, 0, 0], [0, 0, 2]])
    )
    table = feature_statistics(codes, np.repeat(np.arange(4), 2), np.array([True, True, False, False]))
    assert table["rate"].tolist() == [3 / 8, 0.0, 6 / 8]
    assert table["mean_activation"].tolist() == [5 / 3, 0.0, 2.0]
    # Clip sums: feature 0 [4, 1, 0, 0] separates; feature 2 [4, 2, 4, 2] does not; a dead feature ties.
    assert table["auroc"].tolist() == [1.0, 0.5, 0.5]


def test_a_candidate_is_named_by_what_it_does():
    spec = {"layer": 2, "feature": 7, "matched_features": [3], "clips": [{"clip_id": "c0"}]}
    assert candidate_name(spec) == candidate_name(dict(reversed(spec.items())))
    assert candidate_name(spec).startswith("layer2-f7-")
    assert candidate_name(spec) != candidate_name(spec | {"matched_features": [4]})
