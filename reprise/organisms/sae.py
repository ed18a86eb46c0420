"""Train a top-k SAE on activations of a model organism, and save it in SAELens' format.

A top-k SAE (Gao et al. 2024, arXiv 2406.04093): encoder and decoder start as each other's transpose, decoder rows keep
unit length, and the decoder's bias starts at the mean. Features that were inactive for `DEAD_AFTER` vectors are
trained on the remaining error of the active ones (their AuxK loss), so that few stay dead.

`train_topk_sae` is the interface: activations in, an `Sae` out. It can be replaced by another trainer.

Same activations, seed and thread count give the same weights. Degenerate input: activations that are all equal are an
error.
"""

import math
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch
from torch.nn import functional as F

from reprise.saes.reconstruction import reconstruction_metrics
from reprise.saes.sae import Sae, make_sae
from reprise.saes.saving import save_saelens_v6

LEARNING_RATE = 2e-3
AUX_WEIGHT = 1 / 32
DEAD_AFTER = 20_000
HELD_OUT_EVERY = 20  # every 20th clip is held out of training, for the metrics on the card


def train_topk_sae(
    activations: np.ndarray, *, d_sae: int, k: int, seed: int, steps: int = 2000, batch: int = 1024
) -> Sae:
    """Train a top-k SAE on activations, sampled with replacement.

    Parameters
    ----------
    activations : float array `[n, d_in]`
        The training vectors.
    d_sae, k : int
        Number of features, and of active features per vector.
    seed, steps, batch : int
        Seed, training steps, and vectors per step.

    Returns
    -------
    Sae

    Raises
    ------
    ValueError
        If the activations are not finite, all equal, or fewer than `d_sae`.
    """
    x_all = torch.from_numpy(np.ascontiguousarray(activations, dtype=np.float32))
    n, d_in = x_all.shape
    mean, scale = x_all.mean(dim=0), float(x_all.std(dim=0, correction=0).square().mean().sqrt())
    if not math.isfinite(scale) or scale == 0 or n < d_sae:
        raise ValueError(
            f"activations [{n}, {d_in}] with spread {scale}; valid: finite, not all equal, {d_sae} or more"
        )
    rng = np.random.default_rng([seed, d_in, d_sae, k])
    W_dec = F.normalize(torch.from_numpy(rng.standard_normal((d_sae, d_in), dtype=np.float32)), dim=-1)
    W_enc = W_dec.T.contiguous()
    b_enc, b_dec = torch.zeros(d_sae), mean / scale
    parameters = [W_enc, b_enc, W_dec, b_dec]
    for parameter in parameters:
        parameter.requires_grad_()
    optimizer = torch.optim.Adam(parameters, lr=LEARNING_RATE, betas=(0.9, 0.999))
    # A short warm-up. The rate falls to zero over the last fifth of the steps, which improves FVU by a few per cent.
    rate = torch.optim.lr_scheduler.LambdaLR(
        optimizer, lambda i: min(1.0, (i + 1) / 50, max(0.0, (steps - i) / (0.2 * steps)))
    )
    silent = torch.zeros(d_sae)  # vectors seen since a feature was last active
    for _ in range(steps):
        # Divided by the spread, so that one learning rate works for every model.
        x = x_all[torch.from_numpy(rng.integers(n, size=batch))] / scale
        # (x - b_dec) @ W_enc + b_enc, written so that the gradient of b_dec is a vector and not a matrix.
        hidden = torch.addmm(b_enc - b_dec @ W_enc, x, W_enc)
        values, indices = hidden.topk(k, dim=-1, sorted=False)
        residual = x - b_dec - _weighted_sum(W_dec, values.relu(), indices)
        loss = residual.square().mean()
        silent += batch
        silent[indices[values > 0]] = 0
        dead = silent > DEAD_AFTER
        if bool(dead.any()):
            n_aux = min(int(dead.sum()), k)
            values, indices = hidden.masked_fill(~dead, -torch.inf).topk(n_aux, dim=-1, sorted=False)
            left_over = residual.detach()
            guess = _weighted_sum(W_dec, values.relu(), indices)
            loss = loss + AUX_WEIGHT * (left_over - guess).square().mean() / left_over.square().mean()
        optimizer.zero_grad()
        loss.backward()
        # Rows have unit length, so the normalisation would undo a gradient along them.
        gradient = cast(torch.Tensor, W_dec.grad)
        gradient -= (gradient * W_dec.detach()).sum(dim=-1, keepdim=True) * W_dec.detach()
        torch.nn.utils.clip_grad_norm_(parameters, 1.0)
        optimizer.step()
        rate.step()
        with torch.no_grad():
            W_dec.copy_(F.normalize(W_dec, dim=-1))
    # x -> x / scale on the way in and back on the way out: only the biases carry the scale.
    return make_sae(W_enc=W_enc, b_enc=b_enc * scale, W_dec=W_dec, b_dec=b_dec * scale, k=k, declared={})


def _weighted_sum(rows: torch.Tensor, weights: torch.Tensor, indices: torch.Tensor) -> torch.Tensor:
    return F.embedding_bag(indices, rows, per_sample_weights=weights, mode="sum")


def sae_clips(cue: np.ndarray, n: int, planned_fraction: float, seed: int) -> np.ndarray:
    """Choose the clips that an SAE is trained on, with a given fraction of cue 1.

    If half of the clips plan a return, the SAE represents the plan as a sign around its mean: two features, each with
    half of it. If plans are rarer, it is one feature that is present or absent.

    Parameters
    ----------
    cue : int array `[clip]`
        0 or 1.
    n : int
        Number of clips to choose.
    planned_fraction : float
        The fraction of them with cue 1.
    seed : int
        For the draw.

    Returns
    -------
    int array `[n]`
        Indices of clips, in random order.
    """
    rng = np.random.default_rng([seed, 6])
    n_planned = round(n * planned_fraction)
    planned = rng.choice(np.flatnonzero(cue == 1), n_planned, replace=False)
    others = rng.choice(np.flatnonzero(cue == 0), n - n_planned, replace=False)
    return rng.permutation(np.concatenate([planned, others]))


def train_and_save(
    activations: np.ndarray,
    folder: Path,
    *,
    hook_layer: int,
    model_name: str,
    model_digest: str,
    context_size: int,
    d_sae: int,
    k: int,
    seed: int,
    steps: int = 2000,
) -> dict[str, Any]:
    """Train on activations of one layer, and save the SAE to `folder` in the format of SAELens 6.

    Parameters
    ----------
    activations : float array `[clip, position, d_in]`
        Activations of layer `hook_layer`.
    folder : Path
        Where the SAE is saved.
    hook_layer, model_name, model_digest, context_size
        Metadata of the SAE.
    d_sae, k, seed, steps : int
        As in `train_topk_sae`.

    Returns
    -------
    dict
        `reconstruction_metrics` on the held-out clips. Every `HELD_OUT_EVERY`th clip is held out.
    """
    held_out = np.arange(len(activations)) % HELD_OUT_EVERY == 0
    d_in = activations.shape[-1]
    sae = train_topk_sae(activations[~held_out].reshape(-1, d_in), d_sae=d_sae, k=k, seed=seed, steps=steps)
    metrics = reconstruction_metrics(sae, [activations[held_out]])
    metadata = {
        "hook_name": f"transformer.layers.{hook_layer}",
        "hook_layer": hook_layer,
        "model_name": model_name,
        "model_digest": model_digest,
        "context_size": context_size,
        "training_vectors": int((~held_out).sum()) * activations.shape[1],
        "training_seed": seed,
    }
    save_saelens_v6(folder, sae, metadata=metadata)
    return metrics
