"""SAELens' format: both layouts, by hand, read strictly."""

from pathlib import Path

import pytest
import torch

from reprise.saes.errors import SaeError
from reprise.saes.loading import load_sae
from reprise.saes.sae import decode, decoder_direction, encode
from tests.unit.saes.tiny_sae import INDICES, TINY, V5, V6, VALUES, X, on_disk


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
            "architecture 'batchtopk' shows that SAELens saved it in its training form",
        ),
        (V6, {"architecture": "jumprelu"}, "k is 2; valid: absent"),
        (V6, {"architecture": "gated", "activation_fn": "topk"}, "activation_fn is 'topk'; valid: 'relu', as the"),
        (V6, {"reshape_activations": "hook_z"}, "reshape_activations is 'hook_z'"),
        (V6, {"k": 0}, "k is 0"),
        (
            V6,
            {"metadata": ["hook_layers.11"]},
            r"metadata is \['hook_layers.11'\]; valid: an object of fields, or null",
        ),
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
    with pytest.raises(SaeError, match="not a complete safetensors file"):
        load_sae(tmp_path / "sae")
    file.unlink()
    with pytest.raises(SaeError, match=r"has only cfg\.json; valid: SAELens: cfg\.json and sae_weights\.safetensors"):
        load_sae(tmp_path / "sae")
    (on_disk(tmp_path / "sae", V5) / "cfg.json").write_text("{")
    with pytest.raises(SaeError, match="not JSON"):
        load_sae(tmp_path / "sae")
    with pytest.raises(SaeError, match=r"nowhere has no file of an SAE; valid: SAELens"):
        load_sae(tmp_path / "nowhere")
