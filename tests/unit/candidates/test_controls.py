"""What an edit is compared with: worked out by hand, and fitted on screened clips only."""

from functools import partial

import numpy as np
import pytest
from scipy.sparse import csr_matrix

from reprise.candidates.controls import FITTED as KINDS_OF_FIT
from reprise.candidates.controls import (
    LayerFit,
    edits_of,
    feature_statistics,
    featurize,
    fit_layer,
    held_out_auroc,
    match_features,
    plain,
    references_of,
    swapped_fits,
)
from reprise.interventions.subspace import Subspace, linear, of_latents


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


def test_matched_features_are_alike_and_active():
    rate = np.array([0.1, 0.11, 0.1, 0.0, 0.5, 0.1])
    norm = np.array([1.0, 1.0, 2.0, 1.0, 1.0, 1.05])
    assert match_features(0, rate, norm, n=3) == (5, 1, 2)
    assert match_features(0, rate, norm, n=9, excluded=(5,)) == (1, 2, 4)
    with pytest.raises(ValueError, match="feature 3 is never active"):
        match_features(3, rate, norm, n=1)


N_CLIPS, N_POSITIONS, D_SAE, D_MODEL = 48, 6, 12, 8
HAS_EVENT = np.arange(N_CLIPS) % 2 == 0
PROMPT = np.repeat(np.arange(N_CLIPS // 4), 4)
FITTED = PROMPT < 8
NOISE = np.random.default_rng(5)
COULD_PLAN = np.arange(N_POSITIONS) >= NOISE.integers(0, 3, N_CLIPS)[:, None]
DECODER = NOISE.normal(size=(D_SAE, D_MODEL))


def world(seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Latents and streams `[clip, position, ...]` of clips in which latent 1 is more active before an event."""
    rng = np.random.default_rng(seed)
    z = np.where(rng.random((N_CLIPS, N_POSITIONS, D_SAE)) < 0.6, rng.random((N_CLIPS, N_POSITIONS, D_SAE)), 0)
    z[HAS_EVENT, :, 1] += 1.0
    return z, (z @ DECODER + 0.1 * rng.normal(size=(N_CLIPS, N_POSITIONS, D_MODEL))).astype(np.float32)


def fit(z: np.ndarray, acts: np.ndarray, fitted: np.ndarray = FITTED) -> LayerFit:
    latents = csr_matrix(z.reshape(-1, D_SAE))
    return fit_layer(acts, COULD_PLAN, HAS_EVENT, PROMPT, fitted=fitted, latents=latents, decoder=DECODER)


def everything_about(subspace: Subspace, of_layer: LayerFit) -> dict:
    edits = edits_of(subspace, of_layer, n_controls=2, local=5, seed=3)
    named = {name: each for of_one in edits.values() for name, each in of_one.items()}
    return plain(edits) | {"references": references_of(named, of_layer)}


# das needs the model: test_das.py.
@pytest.mark.parametrize("kind", [kind for kind in KINDS_OF_FIT if kind != "das"])
def test_what_is_fitted_comes_from_screened_clips_alone(kind: str) -> None:
    z, acts = world()
    of_layer = fit(z, acts)
    expected = everything_about(featurize(kind, of_layer, seed=3), of_layer)
    other_z, other_acts = z.copy(), acts.copy()
    other_z[~FITTED], other_acts[~FITTED] = 9.0, np.nan
    other = fit(other_z, other_acts)
    assert everything_about(featurize(kind, other, seed=3), other) == expected
    fit_to = partial(featurize, kind, seed=3)
    assert held_out_auroc(fit_to, other, seed=3) == held_out_auroc(fit_to, of_layer, seed=3) > 0.9
    # With all clips it is another.
    whole = fit(z, acts, np.ones(N_CLIPS, bool))
    assert everything_about(featurize(kind, whole, seed=3), whole)["references"] != expected["references"]


def test_controls_are_of_the_candidates_kind_and_rank() -> None:
    of_layer = fit(*world())
    feature = edits_of(of_latents("feature", [1]), of_layer, n_controls=2, local=5, seed=3)
    assert {kind: list(named) for kind, named in feature.items()} == {
        "target": ["target"],
        "matched_feature": ["matched_feature0", "matched_feature1"],
        "local_feature": ["local_feature"],
    }
    matched = [subspace.latents for subspace in feature["matched_feature"].values()]
    assert len({1, *matched[0], *matched[1]}) == 3
    pair = edits_of(of_latents("feature_set", [1, 4]), of_layer, n_controls=2, seed=3)
    assert all(each.rank == 2 for named in pair.values() for each in named.values())
    assert len({1, 4, *(j for each in pair["matched_feature"].values() for j in each.latents)}) == 6
    for kind in ("mean_difference", "probe", "leace"):
        found = edits_of(featurize(kind, of_layer, seed=3), of_layer, n_controls=2, seed=3)
        (target,), swapped = found["target"].values(), list(found["swapped_fit"].values())
        assert set(found) == {"target", "swapped_fit"} and len(swapped) == 2
        assert all(each.kind == kind and each.rank == 1 for each in swapped)
        along = [abs(float(target.write[0] @ each.write[0])) / np.linalg.norm(each.write) for each in swapped]
        assert max(along) < 0.9 * np.linalg.norm(target.write)


def test_a_given_direction_is_scored_by_all_its_coordinates() -> None:
    of_layer = fit(*world())
    along = featurize("mean_difference", of_layer, seed=3).read[0]
    useless = np.linalg.svd(along[None])[2][1]
    for rows in ([along], [-along], [useless, along]):
        given = linear("given", np.array(rows))
        assert held_out_auroc(lambda _, given=given: given, of_layer, seed=3) > 0.9


def test_a_control_of_a_smaller_rank_is_no_control(monkeypatch: pytest.MonkeyPatch) -> None:
    """Some exchanges of labels leave fewer latents, or no fit at all; others are tried in their place."""
    of_layer = fit(*world())
    target, outcomes = of_latents("feature_set", [1, 4]), iter([ValueError("no latent"), [7], [8, 9], [10], [11, 12]])

    def featurized(*_: object, **__: object) -> Subspace:
        found = next(outcomes)
        if isinstance(found, ValueError):
            raise found
        return of_latents("feature_set", found)

    monkeypatch.setattr("reprise.candidates.controls.featurize", featurized)
    assert [each.latents for each in swapped_fits(target, of_layer, n=2, seed=3)] == [(8, 9), (11, 12)]
    outcomes = iter([[7]] * 20)
    with pytest.raises(ValueError, match="0 of 2 controls of rank 2 could be fitted on exchanged labels"):
        swapped_fits(target, of_layer, n=2, seed=3)


def test_references_are_class_means_by_hand() -> None:
    z, acts = world()
    of_layer = fit(z, acts)
    found = references_of({"target": of_latents("feature", [1])}, of_layer)["target"]
    by_clip = np.array([z[i, COULD_PLAN[i], 1].mean() for i in range(N_CLIPS)])
    assert found["with"] == [round(float(by_clip[FITTED & HAS_EVENT].mean()), 6)]
    assert found["without"] == [round(float(by_clip[FITTED & ~HAS_EVENT].mean()), 6)] and found["zero"] == [0.0]
    direction = featurize("mean_difference", of_layer, seed=3)
    of_direction = references_of({"target": direction}, of_layer)["target"]
    assert of_direction["with"][0] > 0 > of_direction["without"][0]
    assert of_direction["with"][0] + of_direction["without"][0] == pytest.approx(0, abs=1e-3)


def test_without_an_sae_there_are_directions_and_no_sets() -> None:
    _, acts = world()
    of_layer = fit_layer(acts, COULD_PLAN, HAS_EVENT, PROMPT, fitted=FITTED)
    for kind in ("mean_difference", "probe", "leace"):
        assert everything_about(featurize(kind, of_layer, seed=3), of_layer)["kinds"]["target"] == ["target"]
    with pytest.raises(ValueError, match="needs an SAE"):
        featurize("feature_set", of_layer, seed=3)
    with pytest.raises(ValueError, match="needs an SAE"):
        edits_of(of_latents("feature", [1]), of_layer, n_controls=1, seed=3)
