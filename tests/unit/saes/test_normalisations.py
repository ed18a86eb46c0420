"""What a normalisation does to an edit."""

import pytest
import torch

import reprise.models.library_setup  # noqa: F401  SAELens imports torchaudio
from reprise.saes.sae import decode, decoder_direction, encode, make_sae, write_scale
from tests.unit.saes.formats.random_sae import D_IN, NORMALISATIONS, K, X, reconstructed, weights
from tests.unit.saes.tiny_sae import TINY


@pytest.mark.parametrize("normalisation", NORMALISATIONS)
def test_a_unit_of_a_feature_adds_its_direction_times_the_scale(normalisation: str) -> None:
    some = {name: weights()[name] for name in TINY}
    sae = make_sae(**some, k=K, normalize_activations=normalisation, declared={})
    values, indices = encode(sae, X)
    more = decode(sae, values + torch.eye(K)[0], indices, X) - decode(sae, values, indices, X)
    for i in range(len(X)):
        written = write_scale(sae, X)[i] * decoder_direction(sae, int(indices[i, 0]))
        torch.testing.assert_close(more[i], written, atol=1e-4, rtol=1e-4)


def test_a_row_of_zeros_stays_finite_under_constant_norm() -> None:
    some = {name: weights()[name] for name in TINY}
    sae = make_sae(**some, k=K, normalize_activations="constant_norm_rescale", declared={})
    assert bool(torch.isfinite(reconstructed(sae, torch.zeros(2, D_IN))).all())
