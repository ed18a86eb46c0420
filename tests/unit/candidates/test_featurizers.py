"""Featurizers on streams whose answer is known."""

import numpy as np
import pytest
import torch
from concept_erasure import LeaceFitter
from scipy.sparse import csr_matrix
from sklearn.linear_model import LogisticRegression

from reprise.candidates.featurizers.data import FitData, swapped
from reprise.candidates.featurizers.directions import leace, mean_difference, probe_direction
from reprise.candidates.featurizers.latent_sets import clip_mean_latents, feature_set
from reprise.interventions.subspace import coordinates

N_CLIPS, N_POSITIONS, D_MODEL, D_SAE = 96, 6, 32, 64
PROMPT = np.repeat([f"p{i:02d}" for i in range(N_CLIPS // 4)], 4)


def streams(seed: int, strength: float = 1.0, n_clips: int = N_CLIPS) -> tuple[FitData, np.ndarray]:
    """Clips whose stream moves along a planted direction `[1, d_model]` where they have an event, in noise that is
    correlated between dimensions and shared by the clips of a prompt."""
    rng = np.random.default_rng(seed)
    has_event = rng.random(n_clips) < 0.5
    planted = np.linalg.qr(rng.standard_normal((D_MODEL, 1)))[0].T
    mixing = np.linalg.qr(rng.standard_normal((D_MODEL, D_MODEL)))[0] * np.geomspace(3, 0.3, D_MODEL)
    noise = rng.standard_normal((n_clips, N_POSITIONS, D_MODEL))
    noise += np.repeat(rng.standard_normal((n_clips // 4, 1, D_MODEL)), 4, axis=0)
    x = 5 + noise @ mixing.T + strength * has_event[:, None, None] * planted.sum(axis=0)
    could_plan = rng.random((n_clips, N_POSITIONS)) < 0.7
    could_plan[:, 0] = True
    prompt = np.repeat(np.arange(n_clips // 4), 4)
    return FitData(x.astype(np.float32), could_plan, has_event, prompt), planted


def cosine(a: np.ndarray, b: np.ndarray) -> float:
    return float(abs(a @ b) / np.linalg.norm(a) / np.linalg.norm(b))


def test_directions_point_along_what_was_planted() -> None:
    data, (planted,) = streams(0, strength=4.0)
    assert cosine(mean_difference(data).read[0], planted) > 0.9
    assert cosine(leace(data).write[0], planted) > 0.9
    score = coordinates(probe_direction(data, seed=0), data.clip_means)[:, 0]
    assert score[data.has_event].min() > score[~data.has_event].max()


@pytest.mark.parametrize("fit", [mean_difference, leace, lambda data: probe_direction(data, seed=0)])
def test_the_mean_of_the_clips_has_the_coordinate_0(fit) -> None:
    data, _ = streams(1)
    found = coordinates(fit(data), data.clip_means)
    assert found.shape == (N_CLIPS, 1) and abs(found.mean()) < 1e-4
    assert found[data.has_event].mean() > 0 > found[~data.has_event].mean()


def test_leace_leaves_a_linear_probe_at_chance_and_changes_less_than_the_mean_difference() -> None:
    data, _ = streams(2, strength=4.0)
    rows, per_clip = data.x[data.could_plan].astype(np.float64), data.could_plan.sum(axis=1)
    y, weight = np.repeat(data.has_event, per_clip), np.repeat(1 / per_clip, per_clip)

    def without(subspace) -> np.ndarray:
        return rows - coordinates(subspace, rows) @ subspace.write

    def spread(x: np.ndarray) -> float:
        fit = LogisticRegression(C=1e6, max_iter=5000).fit(x, y, sample_weight=weight)
        return float(np.ptp(fit.decision_function(x)))

    # Nothing linear is left in the data it was fitted on: the best regression is constant.
    assert spread(without(leace(data))) < 1e-2 < spread(rows)
    moved = [
        np.average(((without(fit(data)) - rows) ** 2).sum(axis=1), weights=weight) for fit in (leace, mean_difference)
    ]
    assert moved[0] < moved[1]


def test_leace_is_that_of_its_authors() -> None:
    # Many clips, so that the shrinkage of the covariance, which is not the same, hardly matters.
    data, _ = streams(3, n_clips=4000)
    first = np.zeros((4000, N_POSITIONS), bool)
    first[:, 0] = True
    data, x = data._replace(could_plan=first), torch.from_numpy(data.x[:, 0].astype(np.float64))
    theirs = LeaceFitter.fit(x, torch.from_numpy(data.has_event.astype(np.float64)))
    ours = leace(data)
    mine = x.numpy() - coordinates(ours, x.numpy()) @ ours.write
    np.testing.assert_allclose(mine, theirs.eraser(x).numpy(), atol=0.02)


def test_swapped_labels_stay_together_and_find_something_else() -> None:
    data, (planted,) = streams(4, strength=4.0)
    other = swapped(data, seed=0)
    assert np.array_equal(other.x, data.x) and other.has_event.sum() > 0
    before, after = (sorted(d.has_event.reshape(-1, 4).sum(axis=1)) for d in (data, other))
    assert before == after and not np.array_equal(other.has_event, data.has_event)
    assert cosine(mean_difference(other).read[0], planted) < 0.6


def test_one_class_is_an_error() -> None:
    data, _ = streams(5)
    alone = data._replace(has_event=np.ones(N_CLIPS, bool))
    for fit in (mean_difference, leace, lambda d: probe_direction(d, seed=0)):
        with pytest.raises(ValueError, match="96 clips with an event and 0 others; valid: at least one each"):
            fit(alone)


def sae_streams(seed: int, planted: int) -> tuple[FitData, csr_matrix, np.ndarray, set[int]]:
    """Clips whose stream is a sum of sparse latents, of which some are more active where there is an event."""
    rng = np.random.default_rng(seed)
    decoder = rng.standard_normal((D_SAE, D_MODEL)) / np.sqrt(D_MODEL)
    has_event = np.tile([True, False, True, False], N_CLIPS // 4)
    chosen = rng.choice(D_SAE, planted, replace=False)
    rate = np.full((N_CLIPS, D_SAE), 0.15)
    rate[np.ix_(has_event, chosen)] = 0.9
    z = (rng.random((N_CLIPS, N_POSITIONS, D_SAE)) < rate[:, None]) * rng.gamma(
        4.0, 0.5, (N_CLIPS, N_POSITIONS, D_SAE)
    )
    x = z @ decoder + 0.1 * rng.standard_normal((N_CLIPS, N_POSITIONS, D_MODEL))
    could_plan = np.ones((N_CLIPS, N_POSITIONS), bool)
    return (
        FitData(x.astype(np.float32), could_plan, has_event, PROMPT),
        csr_matrix(z.reshape(-1, D_SAE)),
        decoder,
        set(chosen.tolist()),
    )


@pytest.mark.parametrize("planted", [1, 2, 4, 8])
def test_a_set_has_the_latents_that_were_planted(planted: int) -> None:
    hits = missed = extra = 0
    for seed in range(5):
        data, latents, decoder, chosen = sae_streams(seed, planted)
        found = set(feature_set(data, latents, decoder, seed=0).latents)
        hits, missed, extra = hits + len(found & chosen), missed + len(chosen - found), extra + len(found - chosen)
    assert hits / (hits + missed) >= 0.85, f"recall of {planted}"
    assert hits / (hits + extra) >= 0.8, f"precision of {planted}"


def test_a_set_holds_both_latents_that_say_the_same() -> None:
    """A second latent that repeats the first adds nothing to a prediction, but it keeps the plan in the stream."""
    data, latents, decoder, _ = sae_streams(0, 1)
    z = latents.toarray().reshape(N_CLIPS, N_POSITIONS, D_SAE)
    (first,) = feature_set(data, latents, decoder, seed=0).latents
    second = (first + 1) % D_SAE
    x = data.x - z[..., [second]] * decoder[second]
    z[..., second] = z[..., first]
    x = x + z[..., [second]] * decoder[second]
    data = data._replace(x=x.astype(np.float32))
    assert {first, second} <= set(feature_set(data, csr_matrix(z.reshape(-1, D_SAE)), decoder, seed=0).latents)


def test_means_of_latents_are_over_the_positions_that_count() -> None:
    data, latents, *_ = sae_streams(1, 2)
    could_plan = data.could_plan.copy()
    could_plan[:, 3:] = False
    z = latents.toarray().reshape(N_CLIPS, N_POSITIONS, D_SAE)
    np.testing.assert_allclose(clip_mean_latents(latents, could_plan), z[:, :3].mean(axis=1), rtol=1e-12)
