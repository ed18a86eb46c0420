"""Which latents come back in another SAE."""

import numpy as np
import pytest

from reprise.saes.seed_stability import FOUND_AGAIN, best_cosines


def test_a_latent_is_found_wherever_it_lies_and_however_long_it_is() -> None:
    rng = np.random.default_rng(0)
    first = rng.standard_normal((2100, 64)).astype(np.float32)
    other = rng.standard_normal((70, 64)).astype(np.float32)
    other[3], other[69] = 5 * first[2099], first[0] + 0.5 * rng.standard_normal(64)
    found = best_cosines(first, other)
    assert found.shape == (2100,) and found[2099] == pytest.approx(1) and FOUND_AGAIN < found[0] < 1
    assert (found[1:2099] < FOUND_AGAIN).all()
    one_by_one = [max(x @ y / np.linalg.norm(x) / np.linalg.norm(y) for y in other) for x in first[:5]]
    np.testing.assert_allclose(found[:5], one_by_one, rtol=1e-5)


def test_the_opposite_direction_and_one_of_zeros_are_not_found() -> None:
    first = np.array([[1.0, 0.0], [0.0, 0.0]])
    assert best_cosines(first, -first).tolist() == [0, 0]


def test_other_streams_cannot_be_compared() -> None:
    with pytest.raises(ValueError, match="d_model is 4 and 5"):
        best_cosines(np.ones((2, 4)), np.ones((2, 5)))
