"""What an edit is compared with: worked out by hand, and fitted on screened clips only."""

import numpy as np
import pytest
from scipy.sparse import csr_matrix

from reprise.candidates.controls import (
    activation_when_active,
    feature_statistics,
    fit_edits,
    fit_layer,
    match_features,
    mean_difference,
)


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


def test_mean_activation_counts_active_rows_alone():
    latents = csr_matrix(np.array([[1.0, 0], [0, 0], [4.0, 0]]))
    assert activation_when_active(latents, 0) == 2.5 and activation_when_active(latents, 1) == 0.0


def test_mean_difference_points_from_the_others_to_those_with_an_event():
    rng = np.random.default_rng(0)
    v = np.array([0.6, 0.8, 0.0])
    other = rng.standard_normal((2000, 3)) * 0.1 + [1.0, 2.0, 3.0]
    vector, reference = mean_difference(other[:1000] + 2 * v, other[1000:])
    assert vector == pytest.approx(v, abs=0.02)
    assert reference == pytest.approx(0.6 + 1.6, abs=0.1)
    with pytest.raises(ValueError, match="0 clips with an event"):
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
    has_event = np.arange(n_clips) % 2 == 0
    fitted = np.arange(n_clips) < 8
    could_plan = np.arange(n_positions) >= rng.integers(0, 3, n_clips)[:, None]
    z = np.where(rng.random((n_clips, n_positions, d_sae)) < 0.6, rng.random((n_clips, n_positions, d_sae)), 0)
    acts = rng.normal(size=(n_clips, n_positions, d_model)).astype(np.float32)

    def parts(z: np.ndarray, acts: np.ndarray, fitted: np.ndarray = fitted) -> dict:
        fit = fit_layer(csr_matrix(z.reshape(-1, d_sae)), acts, could_plan, has_event=has_event, fitted=fitted)
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
    values = z[rows & has_event[:, None]][:, 1]
    assert expected["steer_z_star"] == round(float(values[values > 0].mean()), 6)
