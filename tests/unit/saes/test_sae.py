"""SAEs: hand-computed latents, both SAELens layouts, strict loading, and a trainer that finds planted directions."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

import reprise.saes.sae
from reprise.saes.errors import SaeError
from reprise.saes.sae import decode, decoder_direction, encode, feature_activation, make_sae, to_dense
from tests.unit.saes.tiny_sae import INDICES, RECONSTRUCTED, TINY, VALUES, X, tiny

# Encoding and decoding


def test_known_codes_and_reconstructions() -> None:
    values, indices = encode(tiny(), X)
    torch.testing.assert_close(values, VALUES)
    torch.testing.assert_close(indices, INDICES)
    torch.testing.assert_close(decode(tiny(), values, indices, X), RECONSTRUCTED)


def test_without_b_dec_at_the_input() -> None:
    values, indices = encode(tiny(apply_b_dec_to_input=False), torch.tensor([2.0, 1.0]))
    torch.testing.assert_close(values, VALUES[0])
    torch.testing.assert_close(indices, INDICES[0])


def test_a_relu_sae_keeps_every_active_feature() -> None:
    values, indices = encode(tiny(k=None), X)
    assert values.shape == (3, 3)
    torch.testing.assert_close(values[0], torch.tensor([2.0, 2.0, 1.5]))
    assert indices[0].tolist() == [0, 3, 1]
    assert (values > 0).sum(dim=-1).tolist() == [3, 2, 1]


def test_shapes_dtypes_and_no_rows() -> None:
    x = torch.randn(2, 5, 2).half()
    values, indices = encode(tiny(), x)
    assert values.shape == indices.shape == (2, 5, 2)
    assert values.dtype == torch.float32 and indices.dtype == torch.int32
    assert decode(tiny(), values, indices, x).shape == (2, 5, 2)
    values, indices = encode(tiny(), torch.zeros(0, 2))
    assert values.shape == indices.shape == (0, 2)
    assert decode(tiny(), values, indices, torch.zeros(0, 2)).shape == (0, 2)


def test_ties_go_to_the_lower_index_also_at_the_last_place() -> None:
    sae = make_sae(
        W_enc=torch.ones(1, 50), b_enc=torch.zeros(50), W_dec=torch.ones(50, 1), b_dec=torch.zeros(1), k=3, declared={}
    )
    _, indices = encode(sae, torch.ones(4, 1))
    assert indices.tolist() == [[0, 1, 2]] * 4


@settings(max_examples=30, deadline=None)
@given(seed=st.integers(0, 10_000), k=st.integers(1, 12), coarse=st.booleans())
def test_agrees_with_the_plain_definition(seed: int, k: int, coarse: bool) -> None:
    """Against a dense NumPy encoder written from the definition; `coarse` makes ties."""
    rng = np.random.default_rng(seed)
    W_enc, W_dec = rng.standard_normal((4, 12)), rng.standard_normal((12, 4))
    b_enc, b_dec, x = rng.standard_normal(12), rng.standard_normal(4), rng.standard_normal((9, 4))
    if coarse:
        W_enc, b_enc, b_dec, x = (np.round(a) for a in (W_enc, b_enc, b_dec, x))
    hidden = (x - b_dec) @ W_enc + b_enc
    order = np.lexsort((np.broadcast_to(np.arange(12), hidden.shape), -hidden), axis=-1)[:, :k]
    dense = np.zeros_like(hidden)
    np.put_along_axis(dense, order, np.maximum(np.take_along_axis(hidden, order, -1), 0), -1)

    tensors = (torch.tensor(a) for a in (W_enc, b_enc, W_dec, b_dec))
    sae = make_sae(**dict(zip(TINY, tensors, strict=True)), k=k, declared={})
    values, indices = encode(sae, torch.tensor(x))
    np.testing.assert_allclose(to_dense(values, indices, 12), dense, atol=1e-5)
    np.testing.assert_allclose(decode(sae, values, indices, x), dense @ W_dec + b_dec, atol=1e-4)
    assert bool((values[:, :-1] >= values[:, 1:]).all()) and bool((indices[values == 0] == 0).all())
    if coarse:
        np.testing.assert_array_equal(indices, np.where(np.take_along_axis(hidden, order, -1) > 0, order, 0))


def test_pieces_change_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(3)
    x = torch.from_numpy(rng.integers(-3, 4, (50, 2)).astype(np.float32))
    for k in (2, None):
        whole = encode(tiny(k=k), x)
        monkeypatch.setattr(reprise.saes.sae, "PRE_ACTIVATIONS_AT_ONCE", 12)
        pieces = encode(tiny(k=k), x)
        monkeypatch.undo()
        assert all(torch.equal(a, b) for a, b in zip(whole, pieces, strict=True))


def test_feature_activation_is_after_topk() -> None:
    # Feature 1 has 1.5 in the first row, but two others are larger.
    out = feature_activation(tiny(), X[None], [1, 0, 3])
    torch.testing.assert_close(out, torch.tensor([[[0.0, 2.0, 2.0], [0.5, 0.0, 0.0], [0.0, 0.2, 0.0]]]))
    with pytest.raises(SaeError, match="feature 4 is not in this SAE; valid: 0 to 3"):
        feature_activation(tiny(), X, [4])


def test_decoder_direction_is_what_one_unit_adds() -> None:
    direction = decoder_direction(tiny(), 3)
    torch.testing.assert_close(direction, torch.tensor([0.5, 0.5]))
    more = decode(tiny(), VALUES[0] + torch.tensor([0.0, 1.0]), INDICES[0], X[0])
    torch.testing.assert_close(more - RECONSTRUCTED[0], direction)


@pytest.mark.parametrize(
    ("x", "message"),
    [(torch.zeros(3, 5), "width 5; this SAE's d_in is 2"), (torch.tensor([[0.0, torch.nan]]), "not all finite")],
)
def test_bad_activations_are_refused(x: torch.Tensor, message: str) -> None:
    with pytest.raises(SaeError, match=message):
        encode(tiny(), x)


# Loading


# Saving


# Training
