"""SAEs: hand-computed codes, both SAELens layouts, strict loading, and a trainer that finds planted directions."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import load_file, save_file

import reprise.saes.sae
from reprise.organisms.sae import train_and_save, train_topk_sae
from reprise.saes.loading import load_sae
from reprise.saes.reconstruction import reconstruction_metrics
from reprise.saes.sae import Sae, SaeError, decode, decoder_direction, encode, feature_activation, make_sae, to_dense
from reprise.saes.saving import save_saelens_v6

# Two inputs, four features: +x, +y, -x and x + y.
TINY = {
    "W_enc": torch.tensor([[1.0, 0.0, -1.0, 1.0], [0.0, 1.0, 0.0, 1.0]]),
    "b_enc": torch.tensor([0.0, 0.5, 0.0, -1.0]),
    "W_dec": torch.tensor([[1.0, 0.0], [0.0, 1.0], [-1.0, 0.0], [0.5, 0.5]]),
    "b_dec": torch.tensor([1.0, -1.0]),
}
# Field by field what Singh, Cherep & Maes published (SAELens 5.3.2), at another size.
V5 = {
    "architecture": "standard",
    "activation_fn": "topk",
    "activation_fn_kwargs": {"k": 2},
    "d_in": 2,
    "d_sae": 4,
    "dtype": "float32",
    "device": "cuda",
    "apply_b_dec_to_input": True,
    "finetuning_scaling_factor": False,
    "normalize_activations": "none",
    "context_size": 501,
    "prepend_bos": True,
    "hook_name": "hook_layers.11",
    "hook_layer": 11,
    "hook_head_index": None,
    "model_name": "facebook/musicgen-small",
    "dataset_path": "ManzhenWei/MusicSet",
    "dataset_trust_remote_code": True,
    "sae_lens_training_version": "5.3.2",
    "model_from_pretrained_kwargs": {},
    "seqpos_slice": [None],
    "neuronpedia_id": None,
}
V6 = {
    "architecture": "topk",
    "k": 2,
    "rescale_acts_by_decoder_norm": False,
    "d_in": 2,
    "d_sae": 4,
    "dtype": "float32",
    "device": "cpu",
    "apply_b_dec_to_input": True,
    "normalize_activations": "none",
    "reshape_activations": "none",
    "metadata": {
        "sae_lens_version": "6.54.12",
        "model_name": "planner",
        "model_digest": "0123456789abcdef",
        "hook_name": "transformer.layers.2",
        "context_size": 401,
    },
}


def tiny(**changes: Any) -> Sae:
    return make_sae(**{**TINY, "k": 2, "declared": {}, **changes})


def on_disk(folder: Path, cfg: dict[str, Any], weights: dict[str, torch.Tensor] | None = None, **changes: Any) -> Path:
    folder.mkdir(exist_ok=True)
    (folder / "cfg.json").write_text(json.dumps({**cfg, **changes}))
    save_file(TINY if weights is None else weights, folder / "sae_weights.safetensors")
    return folder


# Encoding and decoding

# x - b_dec = (2, 1): hidden (2, 1.5, -2, 2). x - b_dec = (-3, 0): (-3, 0.5, 3, -4). x - b_dec = (0.2, -1): all of
# (0.2, -0.5, -0.2, -1.8) but the first below zero.
X = torch.tensor([[3.0, 0.0], [-2.0, -1.0], [1.2, -2.0]])
VALUES = torch.tensor([[2.0, 2.0], [3.0, 0.5], [0.2, 0.0]])
INDICES = torch.tensor([[0, 3], [2, 1], [0, 0]], dtype=torch.int32)
RECONSTRUCTED = torch.tensor([[1 + 2 + 1.0, -1 + 1.0], [1 - 3.0, -1 + 0.5], [1.2, -1.0]])


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


def test_v5_standard_with_topk_loads_as_topk(tmp_path: Path) -> None:
    sae = load_sae(on_disk(tmp_path / "sae", V5))
    assert (sae.k, sae.hook_layer, sae.d_in, sae.d_sae) == (2, 11, 2, 4)
    assert sae.declared == {
        "architecture": "topk",
        "d_in": 2,
        "d_sae": 4,
        "k": 2,
        "hook_layer": 11,
        "hook_name": "hook_layers.11",
        "model_name": "facebook/musicgen-small",
        "model_digest": None,
        "context_size": 501,
    }
    values, indices = encode(sae, X)
    torch.testing.assert_close(values, VALUES)
    torch.testing.assert_close(indices, INDICES)
    misread = load_sae(on_disk(tmp_path / "relu", V5, activation_fn="relu", activation_fn_kwargs={}))
    assert misread.k is None and encode(misread, X)[0].shape[-1] == 3


def test_older_v5_spelling_and_training_fields(tmp_path: Path) -> None:
    cfg = {name: value for name, value in V5.items() if name != "activation_fn"}
    sae = load_sae(on_disk(tmp_path / "sae", cfg, activation_fn_str="topk", l1_coefficient=1.0, noise_scale=0.0))
    assert sae.k == 2


def test_v6_topk(tmp_path: Path) -> None:
    sae = load_sae(on_disk(tmp_path / "sae", V6))
    assert (sae.k, sae.hook_layer) == (2, 2)
    assert sae.declared["model_digest"] == "0123456789abcdef" and sae.declared["context_size"] == 401
    torch.testing.assert_close(encode(sae, X)[0], VALUES)
    assert sae.digest == load_sae(on_disk(tmp_path / "v5", V5)).digest


def test_v6_standard_is_relu(tmp_path: Path) -> None:
    cfg = {name: value for name, value in V6.items() if name not in ("k", "rescale_acts_by_decoder_norm")}
    assert load_sae(on_disk(tmp_path / "sae", cfg, architecture="standard")).k is None


def test_rescaling_by_decoder_norm(tmp_path: Path) -> None:
    """Norms (1, 1, 1, sqrt(1/2)): feature 3's hidden 2 becomes 1.414, less than feature 1's 1.5."""
    sae = load_sae(on_disk(tmp_path / "sae", V6, rescale_acts_by_decoder_norm=True))
    values, indices = encode(sae, X)
    assert indices[0].tolist() == [0, 1]
    torch.testing.assert_close(values[0], torch.tensor([2.0, 1.5]))
    # x - b_dec = (1, 3): hidden (1, 3.5, -1, 3), feature 3 scaled to 2.121 and undone in decoding.
    values, indices = encode(sae, torch.tensor([2.0, 2.0]))
    torch.testing.assert_close(values, torch.tensor([3.5, 3 * 0.5**0.5]))
    torch.testing.assert_close(decode(sae, values, indices, X[:1]), torch.tensor([1 + 1.5, -1 + 3.5 + 1.5]))
    torch.testing.assert_close(decoder_direction(sae, 3).norm(), torch.tensor(1.0))


def test_a_decoder_row_of_zeros_is_never_active_nor_nan(tmp_path: Path) -> None:
    weights = {**TINY, "W_dec": TINY["W_dec"].clone()}
    weights["W_dec"][0] = 0
    sae = load_sae(on_disk(tmp_path / "sae", V6, weights, rescale_acts_by_decoder_norm=True))
    values, indices = encode(sae, X)
    assert 0 not in indices[values > 0].tolist()
    assert bool(torch.isfinite(decode(sae, values, indices, X[:1])).all())


def test_dtype_is_rounded_as_declared(tmp_path: Path) -> None:
    weights = {**TINY, "b_enc": TINY["b_enc"] + 1e-5}
    assert load_sae(on_disk(tmp_path / "a", V5, weights)).b_enc[1] != 0.5
    sae = load_sae(on_disk(tmp_path / "b", V5, weights, dtype="torch.float16"))
    assert sae.b_enc.dtype == torch.float32 and sae.b_enc[1] == 0.5


@pytest.mark.parametrize(
    ("cfg", "changes", "message"),
    [
        (V5, {"use_magic": True}, "unknown field use_magic"),
        (
            V5,
            {"normalize_activations": "whitened"},
            "normalize_activations is 'whitened'; valid: 'none', 'layer_norm'",
        ),
        (
            V5,
            {"normalize_activations": True},
            "'expected_average_only_in', and the folder has no activation_scaler.json",
        ),
        (V5, {"finetuning_scaling_factor": True}, "finetuning_scaling_factor is True"),
        (V5, {"hook_head_index": 3}, "hook_head_index is 3"),
        (V5, {"activation_fn": "tanh-relu"}, "activation_fn is 'tanh-relu'; valid: 'relu', 'topk'"),
        (V5, {"activation_fn_kwargs": {"k": 2, "p": 1}}, "activation_fn_kwargs is"),
        (V5, {"activation_fn_kwargs": {}}, "k is None; valid: an integer from 1 to d_sae = 4"),
        (V5, {"activation_fn_kwargs": {"k": 5}}, "k is 5"),
        (V5, {"activation_fn": "relu"}, "k is 2; valid: absent"),
        (V5, {"apply_b_dec_to_input": 1}, "apply_b_dec_to_input is 1; valid: true, false"),
        (V5, {"hook_layer": 12}, "hook_layer is 12, but hook_name is 'hook_layers.11'"),
        (V5, {"dtype": "int8"}, "dtype is 'int8'; valid: float32"),
        (V5, {"d_in": None}, "d_in is None; valid: a positive integer"),
        (V5, {"d_sae": 5}, r"W_enc has shape \(2, 4\); its description says \(2, 5\)"),
        (
            V6,
            {"architecture": "batchtopk"},
            "architecture 'batchtopk' says that SAELens saved it for its training",
        ),
        (V6, {"architecture": "jumprelu"}, "k is 2; valid: absent"),
        (V6, {"architecture": "gated", "activation_fn": "topk"}, "activation_fn is 'topk'; valid: 'relu', as the"),
        (V6, {"reshape_activations": "hook_z"}, "reshape_activations is 'hook_z'"),
        (V6, {"k": 0}, "k is 0"),
        (V6, {"metadata": {"hook_head_index": 1}}, "hook_head_index is 1"),
    ],
)
def test_loading_is_strict(tmp_path: Path, cfg: dict, changes: dict, message: str) -> None:
    with pytest.raises(SaeError, match=message):
        load_sae(on_disk(tmp_path / "sae", cfg, **changes))


def test_bad_weights_are_refused(tmp_path: Path) -> None:
    for weights, message in (
        ({**TINY, "threshold": torch.ones(4)}, "holds W_dec, W_enc, b_dec, b_enc, threshold; valid: exactly"),
        ({**TINY, "scaling_factor": torch.full((4,), 2.0)}, "scaling_factor"),
        ({name: t for name, t in TINY.items() if name != "b_dec"}, "valid: exactly W_enc, b_enc, W_dec, b_dec"),
        ({**TINY, "b_dec": torch.tensor([torch.nan, 0.0])}, "b_dec is not all finite"),
    ):
        with pytest.raises(SaeError, match=message):
            load_sae(on_disk(tmp_path / "sae", V5, weights))
    load_sae(on_disk(tmp_path / "sae", V5, {**TINY, "scaling_factor": torch.ones(4)}))
    file = tmp_path / "sae" / "sae_weights.safetensors"
    file.write_bytes(file.read_bytes()[:-4])
    with pytest.raises(SaeError, match="not a whole safetensors file"):
        load_sae(tmp_path / "sae")
    file.unlink()
    with pytest.raises(SaeError, match=r"has only cfg\.json; valid: SAELens: cfg\.json and sae_weights\.safetensors"):
        load_sae(tmp_path / "sae")
    (on_disk(tmp_path / "sae", V5) / "cfg.json").write_text("{")
    with pytest.raises(SaeError, match="not JSON"):
        load_sae(tmp_path / "sae")
    with pytest.raises(SaeError, match=r"nowhere has no file of an SAE; valid: SAELens"):
        load_sae(tmp_path / "nowhere")


# Saving


def test_saved_v6_loads_the_same_and_has_every_field(tmp_path: Path) -> None:
    sae = tiny(apply_b_dec_to_input=False)
    metadata = {"hook_name": "transformer.layers.2", "hook_layer": 2, "model_name": "planner", "context_size": 401}
    save_saelens_v6(tmp_path / "sae", sae, metadata=metadata)
    loaded = load_sae(tmp_path / "sae")
    assert loaded.digest == sae.digest and loaded.hook_layer == 2 and loaded.declared["model_name"] == "planner"
    cfg = json.loads((tmp_path / "sae" / "cfg.json").read_text())
    assert cfg.keys() == V6.keys() and cfg["metadata"]["sae_lens_version"].startswith("6.")
    assert sorted(p.name for p in (tmp_path / "sae").iterdir()) == ["cfg.json", "sae_weights.safetensors"]
    save_saelens_v6(tmp_path / "half", sae, metadata=metadata, dtype="float16")
    assert load_file(tmp_path / "half" / "sae_weights.safetensors")["W_enc"].dtype == torch.float16
    assert load_sae(tmp_path / "half").digest == sae.digest  # these few values are exact in float16


# Training


def planted(n: int, *, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Sums of 3 of 64 random unit directions in 64 dimensions, with some noise, far from the origin."""
    directions = np.random.default_rng(11).standard_normal((64, 64))
    directions /= np.linalg.norm(directions, axis=1, keepdims=True)
    rng = np.random.default_rng(seed)
    codes = np.zeros((n, 64))
    chosen = rng.permuted(np.tile(np.arange(64), (n, 1)), axis=1)[:, :3]
    np.put_along_axis(codes, chosen, rng.gamma(4.0, 2.0, (n, 3)), axis=1)
    x = codes @ directions + 0.3 * rng.standard_normal((n, 64)) + 20.0
    return x.astype(np.float32), directions


def test_training_recovers_planted_directions() -> None:
    x, directions = planted(20_000, seed=0)
    sae = train_topk_sae(x, d_sae=96, k=3, seed=0, steps=600, batch=512)
    fresh = reconstruction_metrics(sae, [planted(2_000, seed=1)[0][None]])
    best = (torch.from_numpy(directions).float() @ sae.W_dec.T).amax(dim=1)
    assert fresh["fvu"] < 0.05
    assert fresh["l0_max"] <= 3
    assert float((best > 0.95).float().mean()) > 0.95
    torch.testing.assert_close(sae.W_dec.norm(dim=-1), torch.ones(96))


def test_training_depends_on_its_seed_alone() -> None:
    x, _ = planted(2_000, seed=0)
    digests = [train_topk_sae(x, d_sae=48, k=4, seed=seed, steps=20, batch=64).digest for seed in (0, 0, 1)]
    assert digests[0] == digests[1] != digests[2]


def test_trained_sae_is_saved_with_what_a_certificate_asks(tmp_path: Path) -> None:
    x, _ = planted(40 * 100, seed=0)
    metrics = train_and_save(
        x.reshape(40, 100, 64),
        tmp_path / "layer2",
        hook_layer=2,
        model_name="planner",
        model_digest="ab",
        context_size=100,
        d_sae=64,
        k=4,
        seed=0,
        steps=50,
    )
    sae = load_sae(tmp_path / "layer2")
    assert metrics["n_vectors"] == 200  # clips 0 and 20
    assert {"hook_layer": 2, "model_name": "planner", "model_digest": "ab", "context_size": 100, "k": 4}.items() <= (
        sae.declared.items()
    )


def test_training_refuses_what_cannot_be_learnt() -> None:
    for x in (np.ones((100, 4)), np.full((100, 4), np.nan), np.random.default_rng(0).standard_normal((7, 4))):
        with pytest.raises(ValueError, match="valid: finite, not all equal, 8 or more"):
            train_topk_sae(x, d_sae=8, k=2, seed=0, steps=1)
