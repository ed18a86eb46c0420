"""Subspaces: what is read, what an edit moves, and what survives on the way to a file and back."""

import json

import numpy as np
import pytest

from reprise.interventions.subspace import (
    coordinates,
    from_record,
    latent_coordinates,
    linear,
    of_latents,
    random_frame,
    to_record,
)

D_MODEL = 24


def oblique(rank: int, seed: int = 0):
    """A subspace whose read and write rows differ, and the mean at which its coordinates are 0."""
    rng = np.random.default_rng(seed)
    read, free, mean = (
        rng.standard_normal((rank, D_MODEL)),
        rng.standard_normal((rank, D_MODEL)),
        rng.normal(size=D_MODEL),
    )
    write = np.linalg.solve(free @ read.T, free)
    return linear("probe", read, write, mean=mean), mean


@pytest.mark.parametrize("rank", [1, 3])
def test_dose_1_sets_exactly_the_coordinates_and_nothing_else(rank: int) -> None:
    subspace, mean = oblique(rank)
    x = np.random.default_rng(1).standard_normal((50, D_MODEL)) + 3
    reference = np.arange(rank) + 0.5
    moved = x - (coordinates(subspace, x) - reference) @ subspace.write
    np.testing.assert_allclose(coordinates(subspace, moved), np.broadcast_to(reference, (50, rank)), atol=1e-4)
    np.testing.assert_allclose(coordinates(subspace, mean[None]), 0, atol=1e-5)
    # What lies outside the write rows is as it was.
    outside = np.linalg.svd(subspace.write)[2][rank:]
    np.testing.assert_allclose(moved @ outside.T, x @ outside.T, atol=1e-4)


def test_directions_alone_make_an_orthogonal_projection() -> None:
    rows = np.random.default_rng(0).standard_normal((2, D_MODEL))
    subspace = linear("das", rows)
    projector = subspace.write.T @ subspace.read
    np.testing.assert_allclose(projector, projector.T, atol=1e-6)
    np.testing.assert_allclose(projector @ projector, projector, atol=1e-5)


def test_latents_are_read_in_their_order() -> None:
    values, indices = np.array([[2.0, 0.5, 0.0], [0.0, 0.0, 3.0]]), np.array([[7, 4, 0], [4, 7, 9]])
    found = latent_coordinates(of_latents("feature_set", [4, 9, 7]), values, indices)
    assert found.tolist() == [[0.5, 0.0, 2.0], [0.0, 3.0, 0.0]] and found.dtype == np.float32


@pytest.mark.parametrize("rank", [1, 4])
def test_a_random_subspace_has_the_same_sizes_and_angles(rank: int) -> None:
    subspace, _ = oblique(rank)
    frame = random_frame(subspace, subspace.write, layer=2, control=0)
    np.testing.assert_allclose(frame @ frame.T, subspace.write @ subspace.write.T, rtol=1e-4, atol=1e-6)
    assert not np.array_equal(frame, random_frame(subspace, subspace.write, layer=2, control=1))
    assert np.array_equal(frame, random_frame(subspace, subspace.write, layer=2, control=0))
    others = [random_frame(oblique(rank, seed)[0], subspace.write, layer=2, control=0) for seed in range(1, 200)]
    # No direction is preferred.
    assert np.abs(np.mean([o / np.linalg.norm(o, axis=1, keepdims=True) for o in others], axis=0)).max() < 0.25


@pytest.mark.parametrize("subspace", [oblique(2)[0], of_latents("feature_set", [3, 1])], ids=["linear", "latents"])
def test_a_record_gives_the_same_subspace(subspace) -> None:
    again = from_record(json.loads(json.dumps(to_record(subspace))))
    assert again.kind == subspace.kind and again.latents == subspace.latents and again.rank == subspace.rank
    for name in ("read", "write", "offset"):
        assert np.array_equal(getattr(again, name), getattr(subspace, name))


@pytest.mark.parametrize(
    "make, said",
    [
        (lambda: of_latents("feature", []), "latents are []; valid: one or more, each once"),
        (lambda: of_latents("feature", [3, 3]), "latents are [3, 3]"),
        (lambda: linear("das", np.zeros((0, 4))), "valid: both [rank, d_model]"),
        (lambda: linear("das", [[1.0, np.nan]]), "not finite"),
        (lambda: linear("das", np.eye(2), 2 * np.eye(2)), "differs from the identity by 1"),
    ],
)
def test_what_is_no_subspace_is_refused(make, said: str) -> None:
    with pytest.raises(ValueError, match="subspace") as caught:
        make()
    assert said in str(caught.value)
