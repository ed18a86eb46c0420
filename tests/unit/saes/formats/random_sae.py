"""Random weights of an SAE, activations, and latents by their plain definitions."""

import torch

import reprise.models.library_setup  # noqa: F401  SAELens imports torchaudio
from reprise.saes.sae import Sae, decode, encode, to_dense

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
