"""Candidates: worked out by hand, and blind to horizons where they must be."""

import numpy as np
import pandas as pd
import pytest
from scipy.sparse import csr_matrix

from reprise.candidates.selection import (
    activation_when_active,
    candidate_name,
    clips_to_continue,
    donors,
    feature_statistics,
    fit_edits,
    fit_layer,
    match_features,
    mean_difference,
    motif_before,
    rank_features,
    returning,
    strongest_local_feature,
)

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
    returns, confirmation_clips = np.array([1, 1, 1, 1, 1, 0], bool), np.array([1, 1, 1, 1, 0, 1], bool)
    few = clips_to_continue(CLIPS[:3], returns[:3], confirmation_clips[:3], 4)["clip_id"].tolist()
    assert few == ["c0", "c1", "c2"]
    more = clips_to_continue(CLIPS, returns, confirmation_clips, 4)["clip_id"].tolist()
    assert more == ["c0", "c1", "c2", "c3"]
    assert len(clips_to_continue(CLIPS, returns, confirmation_clips, 2)) == 2


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
    latents = csr_matrix(
        np.array([[1, 0, 2], [3, 0, 2], [1, 0, 0], [0, 0, 2], [0, 0, 2], [0, 0, 2], [0, 0, 0], [0, 0, 2]])
    )
    table = feature_statistics(latents, np.repeat(np.arange(4), 2), np.array([True, True, False, False]))
    assert table["rate"].tolist() == [3 / 8, 0.0, 6 / 8]
    assert table["mean_activation"].tolist() == [5 / 3, 0.0, 2.0]
    # Clip sums: feature 0 [4, 1, 0, 0] separates; feature 2 [4, 2, 4, 2] does not; a dead feature ties.
    assert table["auroc"].tolist() == [1.0, 0.5, 0.5]


def test_a_candidate_is_named_by_what_it_does():
    spec = {"layer": 2, "feature": 7, "matched_features": [3], "clips": [{"clip_id": "c0"}]}
    assert candidate_name(spec) == candidate_name(dict(reversed(spec.items())))
    assert candidate_name(spec).startswith("layer2-f7-")
    assert candidate_name(spec) != candidate_name(spec | {"matched_features": [4]})


def test_a_donor_is_an_eligible_clip_of_another_prompt_whatever_the_order():
    clips = pd.DataFrame({"clip_id": [f"c{i}" for i in range(12)], "prompt_id": list("aabbccddeeff")})
    eligible = np.arange(12) % 2 == 1
    continued = clips.iloc[[0, 2, 4, 6]]
    found = dict(zip(continued["clip_id"], donors(continued, clips, eligible), strict=True))
    prompt = dict(zip(clips["clip_id"], clips["prompt_id"], strict=True))
    allowed = set(clips["clip_id"][eligible])
    assert all(donor in allowed and prompt[donor] != prompt[clip] for clip, donor in found.items())
    order = np.random.default_rng(0).permutation(12)
    shuffled = clips.iloc[order].reset_index(drop=True)
    backwards = continued.iloc[::-1]
    again = dict(zip(backwards["clip_id"], donors(backwards, shuffled, eligible[order]), strict=True))
    assert again == found
    # Not one donor for all, and a clip that goes takes only its own receivers with it.
    assert len(set(found.values())) > 1
    gone = found["c0"]
    fewer = dict(
        zip(continued["clip_id"], donors(continued, clips, eligible & (clips["clip_id"] != gone)), strict=True)
    )
    assert fewer["c0"] != gone and all(fewer[c] == found[c] for c in found if found[c] != gone)


def test_a_clip_without_anyone_to_donate_has_none():
    assert donors(CLIPS.iloc[[0]], CLIPS, np.array([False, True, False, False, False, False])) == [None]


def test_the_motif_of_clips_that_do_not_return():
    ends_s = np.array([4.0, np.nan, 9.0, 1.5, 8.0, 6.5])
    table = motif_before(CLIPS["clip_id"], ends_s, duration_s=2.0, prefix_s=8.0)
    # Unknown in c1, not over in c2; the one that ends early is cut at the clip's start.
    assert table["clip_id"].tolist() == ["c0", "c3", "c4", "c5"]
    assert table["motif_start_s"].tolist() == [2.0, 0.0, 6.0, 4.5]
    assert table["motif_duration_s"].tolist() == [2.0, 1.5, 2.0, 2.0]


def local_screens() -> pd.DataFrame:
    return pd.DataFrame(
        [
            (2, "h0.5-2", 7, 9.0, 0.001),
            (2, "h4-8", 7, 4.0, 0.01),  # far ahead too
            (2, "h0.5-2", 8, 8.0, 0.001),
            (2, "h2-4", 8, -3.0, 0.02),  # far ahead too, the other way round
            (2, "h0.5-2", 9, 5.0, 0.001),
            (2, "h4-8", 9, 2.0, 0.3),  # not enough
            (2, "h0.5-2", 3, 5.0, 0.001),  # as strong as 9
            (2, "h0.5-2", 5, -9.0, 0.001),  # falls before a return
            (2, "h0.5-2", 6, 7.0, 0.2),
            (4, "h0.5-2", 1, 6.0, 0.001),
        ],
        columns=["layer", "horizon", "feature", "z", "q"],
    )


def test_the_local_feature_is_the_strongest_that_no_longer_horizon_knows():
    how = {"fdr": 0.05, "local": "h0.5-2", "longer": ["h2-4", "h4-8"]}
    assert strongest_local_feature(local_screens(), layer=2, excluded=7, **how) == 3
    assert strongest_local_feature(local_screens().iloc[::-1], layer=2, excluded=7, **how) == 3
    assert strongest_local_feature(local_screens(), layer=2, excluded=3, **how) == 9
    assert strongest_local_feature(local_screens(), layer=4, excluded=7, **how) == 1
    assert strongest_local_feature(local_screens(), layer=4, excluded=1, **how) is None
    # Without longer horizons every feature is local.
    assert strongest_local_feature(local_screens(), layer=2, excluded=7, **(how | {"longer": []})) == 8


def test_mean_activation_counts_active_rows_alone():
    latents = csr_matrix(np.array([[1.0, 0], [0, 0], [4.0, 0]]))
    assert activation_when_active(latents, 0) == 2.5 and activation_when_active(latents, 1) == 0.0


def test_mean_difference_points_from_the_others_to_the_returning():
    rng = np.random.default_rng(0)
    v = np.array([0.6, 0.8, 0.0])
    other = rng.standard_normal((2000, 3)) * 0.1 + [1.0, 2.0, 3.0]
    vector, reference = mean_difference(other[:1000] + 2 * v, other[1000:])
    assert vector == pytest.approx(v, abs=0.02)
    assert reference == pytest.approx(0.6 + 1.6, abs=0.1)
    with pytest.raises(ValueError, match="0 returning clips"):
        mean_difference(other[:0], other)
    with pytest.raises(ValueError, match="no direction"):
        mean_difference(other, other)


def test_matched_features_are_alike_and_active():
    rate = np.array([0.1, 0.11, 0.1, 0.0, 0.5, 0.1])
    norm = np.array([1.0, 1.0, 2.0, 1.0, 1.0, 1.05])
    assert match_features(0, rate, norm, n=3) == (5, 1, 2)
    assert match_features(0, rate, norm, n=9, excluded=(5,)) == (1, 2, 4)
    with pytest.raises(ValueError, match="feature 3 is never active"):
        match_features(3, rate, norm, n=1)


def test_what_is_fitted_comes_from_screened_clips_alone():
    rng = np.random.default_rng(5)
    n_clips, n_positions, d_sae, d_model = 12, 6, 8, 4
    returns = np.arange(n_clips) % 2 == 0
    fitted = np.arange(n_clips) < 8
    could_plan = np.arange(n_positions) >= rng.integers(0, 3, n_clips)[:, None]
    z = np.where(rng.random((n_clips, n_positions, d_sae)) < 0.6, rng.random((n_clips, n_positions, d_sae)), 0)
    acts = rng.normal(size=(n_clips, n_positions, d_model)).astype(np.float32)

    def parts(z: np.ndarray, acts: np.ndarray, fitted: np.ndarray = fitted) -> dict:
        fit = fit_layer(csr_matrix(z.reshape(-1, d_sae)), acts, could_plan, returns=returns, fitted=fitted)
        return fit_edits(fit, 1, np.ones(d_sae), n_matched=2, local=5, target="mean")

    expected = parts(z, acts)
    other_z, other_acts = z.copy(), acts.copy()
    other_z[~fitted], other_acts[~fitted] = np.nan, np.nan
    assert parts(other_z, other_acts) == expected
    # Every fitted part depends on what is read: with all clips it is another.
    everything = parts(z, acts, np.ones(n_clips, bool))
    for part in ("z_star", "steer_z_star", "mean_difference", "mean_difference_reference"):
        assert everything[part] != expected[part]
    # By hand: the mean over the fitted clips' positions where a plan could be held.
    rows = could_plan & fitted[:, None]
    assert expected["z_star"]["1"] == round(float(z[rows][:, 1].mean()), 6)
    values = z[rows & returns[:, None]][:, 1]
    assert expected["steer_z_star"] == round(float(values[values > 0].mean()), 6)
