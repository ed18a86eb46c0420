"""SAELens' format: what SAELens saves means the same here, and the other way round."""

from pathlib import Path
from typing import Any

import pytest
import torch

import reprise.models.library_setup  # noqa: F401  SAELens imports torchaudio
from reprise.saes.errors import SaeError
from reprise.saes.loading import load_sae
from reprise.saes.sae import make_sae
from reprise.saes.saving import save_saelens_v6
from tests.unit.saes.formats.random_sae import D_IN, D_SAE, NORMALISATIONS, K, X, dense, reconstructed, weights
from tests.unit.saes.tiny_sae import TINY, V5, on_disk


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
    """Latents and reconstructions of a folder, by us and by SAELens."""
    ours = load_sae(folder)
    with torch.no_grad():
        latents, guess = their.encode(X), their(X)
    torch.testing.assert_close(dense(ours), latents, atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(reconstructed(ours), guess, atol=1e-4, rtol=1e-5)
    assert 0 < (latents > 0).sum() < latents.numel()


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
