"""SAEs in every form: parity with SAELens itself, and with plain definitions of the other forms."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file

import reprise.models.library_setup  # noqa: F401  SAELens imports torchaudio
from reprise.saes.loading import load_sae
from reprise.saes.sae import Sae, SaeError, decode, decoder_direction, encode, make_sae, to_dense, write_scale
from reprise.saes.saving import save_saelens_v6
from tests.unit.saes.test_sae import TINY, V5, on_disk

D_IN, D_SAE, K = 12, 40, 6
NORMALISATIONS = ("none", "layer_norm", "constant_norm_rescale")
X = torch.randn(50, D_IN, generator=torch.Generator().manual_seed(0)) * 3 + 0.5


def weights(seed: int = 1) -> dict[str, torch.Tensor]:
    """Random weights under the names of an `Sae`, with decoder rows of different norms."""
    generator = torch.Generator().manual_seed(seed)

    def draw(*shape: int, scale: float = 1.0) -> torch.Tensor:
        return scale * torch.randn(*shape, generator=generator)

    return {
        "W_enc": draw(D_IN, D_SAE),
        "b_enc": draw(D_SAE, scale=0.3),
        "W_dec": draw(D_SAE, D_IN) * torch.rand(D_SAE, 1, generator=generator),
        "b_dec": draw(D_IN, scale=0.3),
        "threshold": draw(D_SAE).abs(),
        "r_mag": draw(D_SAE, scale=0.3),
        "b_mag": draw(D_SAE, scale=0.3),
    }


def reconstructed(sae: Sae, x: torch.Tensor = X) -> torch.Tensor:
    return decode(sae, *encode(sae, x), x)


def dense(sae: Sae, x: torch.Tensor = X) -> torch.Tensor:
    return to_dense(*encode(sae, x), sae.d_sae)


# --- SAELens --------------------------------------------------------------------------------------------------


def in_saelens(architecture: str, folder: Path, **settings: Any) -> Any:
    """An SAE of SAELens' own classes with random weights, saved by SAELens."""
    from sae_lens.registry import get_sae_class

    sae_class, cfg_class = get_sae_class(architecture)
    their = sae_class(cfg_class(d_in=D_IN, d_sae=D_SAE, **({"k": K} if architecture == "topk" else {}), **settings))
    named = {**weights(), "b_gate": weights()["b_enc"]}
    with torch.no_grad():
        for name, parameter in their.named_parameters():
            parameter.copy_(named[name])
    their.save_model(folder)
    return their


def agree(folder: Path, their: Any) -> None:
    """Codes and reconstructions of a folder, by us and by SAELens."""
    ours = load_sae(folder)
    with torch.no_grad():
        codes, guess = their.encode(X), their(X)
    torch.testing.assert_close(dense(ours), codes, atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(reconstructed(ours), guess, atol=1e-4, rtol=1e-5)
    assert 0 < (codes > 0).sum() < codes.numel()


@pytest.mark.parametrize("normalisation", NORMALISATIONS)
@pytest.mark.parametrize("subtract", [True, False])
@pytest.mark.parametrize("architecture", ["standard", "topk", "jumprelu", "gated"])
def test_parity_with_saelens(tmp_path: Path, architecture: str, subtract: bool, normalisation: str) -> None:
    settings = {"apply_b_dec_to_input": subtract, "normalize_activations": normalisation}
    agree(tmp_path, in_saelens(architecture, tmp_path, **settings))


@pytest.mark.parametrize("normalisation", NORMALISATIONS)
def test_parity_where_decoder_norms_rescale(tmp_path: Path, normalisation: str) -> None:
    settings = {"rescale_acts_by_decoder_norm": True, "normalize_activations": normalisation}
    agree(tmp_path, in_saelens("topk", tmp_path, **settings))


def test_parity_of_a_batch_topk_sae_saved_for_use(tmp_path: Path) -> None:
    from sae_lens import SAE, BatchTopKTrainingSAE, BatchTopKTrainingSAEConfig

    trained = BatchTopKTrainingSAE(BatchTopKTrainingSAEConfig(d_in=D_IN, d_sae=D_SAE, k=K))
    with torch.no_grad():
        for name, parameter in trained.named_parameters():
            parameter.copy_(weights()[name])
    trained.topk_threshold.fill_(0.7)
    trained.save_inference_model(tmp_path)
    assert load_sae(tmp_path).activation == "jumprelu"
    agree(tmp_path, SAE.load_from_disk(tmp_path))


def test_parity_of_what_was_published_as_standard_with_topk(tmp_path: Path) -> None:
    from sae_lens import SAE

    four = {name: weights()[name] for name in TINY}
    changes = {"d_in": D_IN, "d_sae": D_SAE, "device": "cpu", "activation_fn_kwargs": {"k": K}}
    folder = on_disk(tmp_path / "sae", V5, four, **changes)
    assert load_sae(folder).k == K
    agree(folder, SAE.load_from_disk(folder))


def test_the_factor_of_expected_average_only_in_is_folded_in(tmp_path: Path) -> None:
    their = in_saelens("jumprelu", tmp_path, normalize_activations="expected_average_only_in")
    with pytest.raises(SaeError, match=r"has no activation_scaler\.json with its factor; valid: the SAE saved after"):
        load_sae(tmp_path)
    (tmp_path / "activation_scaler.json").write_text('{"scaling_factor": 0.4}')
    their.fold_activation_norm_scaling_factor(0.4)
    agree(tmp_path, their)
    (tmp_path / "activation_scaler.json").write_text('{"scaling_factor": null}')
    with pytest.raises(SaeError, match="scaling_factor is None; valid: a number above 0"):
        load_sae(tmp_path)


@pytest.mark.parametrize("normalisation", NORMALISATIONS)
@pytest.mark.parametrize("activation", ["relu", "topk", "jumprelu", "gated"])
def test_what_we_save_saelens_loads(tmp_path: Path, activation: str, normalisation: str) -> None:
    from sae_lens import SAE

    extra = {"jumprelu": ["threshold"], "gated": ["r_mag", "b_mag"]}.get(activation, [])
    some = {name: weights()[name] for name in [*TINY, *extra]}
    k = K if activation == "topk" else None
    sae = make_sae(**some, activation=activation, k=k, normalize_activations=normalisation, declared={})
    save_saelens_v6(tmp_path, sae, metadata={"hook_name": "hook_layers.3"})
    loaded = load_sae(tmp_path)
    assert loaded.digest == sae.digest and loaded.hook_layer == 3
    agree(tmp_path, SAE.load_from_disk(tmp_path))


# --- other forms ----------------------------------------------------------------------------------------------


def dictionary(folder: Path, kind: str, tensors: dict[str, torch.Tensor], **trainer: Any) -> Path:
    folder.mkdir(exist_ok=True)
    about = {"dict_class": kind, "activation_dim": D_IN, "dict_size": D_SAE, "layer": 16, "lm_name": "a/b", **trainer}
    (folder / "config.json").write_text(json.dumps({"trainer": about}))
    torch.save(tensors, folder / "ae.pt")
    return folder


def linear(names: dict[str, str]) -> dict[str, torch.Tensor]:
    """Weights as torch.nn.Linear keeps them, under their names."""
    w = weights() | {"W_enc": weights()["W_enc"].T.contiguous(), "W_dec": weights()["W_dec"].T.contiguous()}
    return {theirs: w[ours] for theirs, ours in names.items()}


ENCODER = {"encoder.weight": "W_enc", "encoder.bias": "b_enc", "decoder.weight": "W_dec"}


def hidden(*, subtract: bool = True) -> torch.Tensor:
    w = weights()
    return (X - w["b_dec"] * subtract) @ w["W_enc"] + w["b_enc"]


def top(pre: torch.Tensor, k: int) -> torch.Tensor:
    """The k largest of each row after ReLU, the rest 0."""
    values, indices = pre.relu().topk(k, dim=-1)
    return torch.zeros_like(pre).scatter(-1, indices, values)


def gated() -> torch.Tensor:
    w = weights()
    x_enc = (X - w["b_dec"]) @ w["W_enc"]
    return (x_enc + w["b_enc"] > 0) * (w["r_mag"].exp() * x_enc + w["b_mag"]).relu()


DICTIONARIES = {
    "AutoEncoder": (linear({**ENCODER, "bias": "b_dec"}), hidden().relu()),
    "AutoEncoderNew": (linear({**ENCODER, "decoder.bias": "b_dec"}), hidden(subtract=False).relu()),
    "AutoEncoderTopK": (
        linear({**ENCODER, "b_dec": "b_dec"}) | {"k": torch.tensor(K), "threshold": torch.tensor(-1.0)},
        top(hidden(), K),
    ),
    "BatchTopKSAE": (
        linear({**ENCODER, "b_dec": "b_dec"}) | {"k": torch.tensor(K), "threshold": torch.tensor(0.9)},
        hidden().relu() * (hidden() > 0.9),
    ),
    "MatryoshkaBatchTopKSAE": (
        {name: weights()[name] for name in TINY}
        | {"k": torch.tensor(K), "threshold": torch.tensor(0.9), "group_sizes": torch.tensor([10, 30])},
        hidden().relu() * (hidden() > 0.9),
    ),
    "JumpReluAutoEncoder": (
        {name: weights()[name] for name in [*TINY, "threshold"]},
        hidden(subtract=False).relu() * (hidden(subtract=False) > weights()["threshold"]),
    ),
    "GatedAutoEncoder": (
        linear(
            {
                "encoder.weight": "W_enc",
                "decoder.weight": "W_dec",
                "decoder_bias": "b_dec",
                "gate_bias": "b_enc",
                "mag_bias": "b_mag",
                "r_mag": "r_mag",
            }
        ),
        gated(),
    ),
}


@pytest.mark.parametrize("kind", DICTIONARIES)
def test_dictionary_learning(tmp_path: Path, kind: str) -> None:
    tensors, codes = DICTIONARIES[kind]
    sae = load_sae(dictionary(tmp_path, kind, tensors, **({"k": K} if "k" in tensors else {})))
    torch.testing.assert_close(dense(sae), codes, atol=1e-5, rtol=1e-5)
    w = weights()
    torch.testing.assert_close(reconstructed(sae), codes @ w["W_dec"] + w["b_dec"], atol=1e-4, rtol=1e-5)
    # Whether its 16 counts from 0 nobody says, so it is not held against any layer.
    assert sae.hook_layer is None and sae.declared["hook_name"] == "layer 16"


def test_a_topk_dictionary_of_an_older_version_has_no_threshold(tmp_path: Path) -> None:
    tensors, codes = DICTIONARIES["AutoEncoderTopK"]
    tensors = {name: tensor for name, tensor in tensors.items() if name != "threshold"}
    sae = load_sae(dictionary(tmp_path, "AutoEncoderTopK", tensors))
    torch.testing.assert_close(dense(sae), codes, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("activation", ["topk", "groupmax"])
def test_sparsify(tmp_path: Path, activation: str) -> None:
    k = 5
    tensors = linear({"encoder.weight": "W_enc", "encoder.bias": "b_enc", "b_dec": "b_dec"})
    save_file({**tensors, "W_dec": weights()["W_dec"]}, tmp_path / "sae.safetensors")
    cfg = {"activation": activation, "d_in": D_IN, "num_latents": D_SAE, "k": k, "expansion_factor": 32}
    (tmp_path / "cfg.json").write_text(json.dumps({**cfg, "skip_connection": False, "transcode": False}))
    sae = load_sae(tmp_path)
    codes = top(hidden(), k)
    if activation == "groupmax":
        groups = hidden().relu().unflatten(-1, (k, -1))
        best, place = groups.max(dim=-1, keepdim=True)
        codes = torch.zeros_like(groups).scatter(-1, place, best).flatten(-2)
    torch.testing.assert_close(dense(sae), codes, atol=1e-5, rtol=1e-5)
    values, indices = encode(sae, X)
    assert bool((values[:, :-1] >= values[:, 1:]).all()) and bool((indices[values == 0] == 0).all())
    (tmp_path / "cfg.json").write_text(json.dumps({**cfg, "transcode": True}))
    with pytest.raises(SaeError, match="transcode is True: a transcoder reconstructs another hook"):
        load_sae(tmp_path)
    (tmp_path / "cfg.json").write_text(json.dumps({**cfg, "hidden_trick": 1}))
    with pytest.raises(SaeError, match="unknown field hidden_trick"):
        load_sae(tmp_path)


def test_dcsae_has_two_codes_side_by_side(tmp_path: Path) -> None:
    w, half = weights(), D_SAE // 2
    sides = {"i": slice(0, half), "j": slice(half, D_SAE)}
    tensors = {f"W_enc_{c}": w["W_enc"][:, s].contiguous() for c, s in sides.items()}
    tensors |= {f"b_enc_{c}": w["b_enc"][s].clone() for c, s in sides.items()}
    tensors |= {f"W_dec_{c}": w["W_dec"][s].clone() for c, s in sides.items()} | {"b_dec": w["b_dec"]}
    save_file(tensors, tmp_path / "model.safetensors")
    (tmp_path / "model.json").write_text(json.dumps({"k": 3, "corpus": "jazz", "step": 15000}))
    sae = load_sae(tmp_path)
    assert (sae.k, sae.n_groups, sae.d_sae) == (6, 2, D_SAE)
    codes = torch.cat([top(hidden()[:, s], 3) for s in sides.values()], dim=-1)
    torch.testing.assert_close(dense(sae), codes, atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(reconstructed(sae), codes @ w["W_dec"] + w["b_dec"], atol=1e-4, rtol=1e-5)


@pytest.mark.parametrize(
    ("trainer", "tensors", "message"),
    [
        ({"dict_class": "CrossCoder"}, {}, r"trainer\.dict_class is 'CrossCoder': a transcoder "),
        ({"dict_class": "Novel"}, {}, r"trainer\.dict_class is 'Novel'; valid: AutoEncoder, "),
        ({"submodule_name": "mlp_layer_16"}, {}, r"trainer\.submodule_name is 'mlp_layer_16', which is no residual"),
        ({"dict_size": 41}, {}, r"encoder\.weight has shape \(40, 12\); its description says \(41, 12\)"),
        ({"k": 7}, {}, r"trainer\.k is 7; valid: 6, as ae\.pt says"),
        ({}, {"extra": torch.zeros(1)}, "holds .*extra.*; valid: exactly encoder.weight"),
        ({}, {"b_dec": torch.full((D_IN,), torch.inf)}, "b_dec is not all finite"),
        ({}, {"ae": {"b_dec": torch.zeros(1)}}, "holds more than tensors: a backup of a training"),
    ],
)
def test_dictionaries_are_read_strictly(tmp_path: Path, trainer: dict, tensors: dict, message: str) -> None:
    good = DICTIONARIES["AutoEncoderTopK"][0]
    folder = dictionary(tmp_path, **{"kind": "AutoEncoderTopK", "tensors": good | tensors})
    about = json.loads((folder / "config.json").read_text())["trainer"]
    (folder / "config.json").write_text(json.dumps({"trainer": {**about, **trainer}}))
    with pytest.raises(SaeError, match=message):
        load_sae(folder)


# --- what a normalisation does to an edit ---------------------------------------------------------------------


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
