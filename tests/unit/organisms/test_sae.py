"""The trainer of the organisms' SAEs finds planted directions."""

from pathlib import Path

import numpy as np
import pytest
import torch

from reprise.organisms.sae import train_and_save, train_topk_sae
from reprise.saes.loading import load_sae
from reprise.saes.reconstruction import reconstruction_metrics


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
