"""How well an SAE reconstructs activations. The certificate (reprise/saes/certificate.py) depends on these metrics.

Units. FVU is the fraction of variance unexplained: sum |x - x_hat|^2 / sum |x - mean|^2. The mean is over all given
vectors. 0 is perfect, 1 is no better than the mean, above 1 is worse. The FVU of a position bin uses the same mean, so
the total FVU is the average of the bins weighted by their variance. `l0`: number of active features at a position.
`dead_fraction`: fraction of features that were never active. `cosine`: mean cosine of x and x_hat. Sums are float64
and are updated batch by batch, so memory does not grow with the number of clips.

Degenerate input: vectors that are all equal have no variance, and their FVU is NaN. So is the FVU of a position bin
without variance. No vectors at all are an error. A zero vector has cosine 0.
"""

import math
from collections.abc import Iterable, Sequence
from itertools import pairwise
from typing import Any

import numpy as np
import torch

from reprise.saes.sae import Sae, decode, encode

ROWS_AT_ONCE = 4096


@torch.no_grad()
def reconstruction_metrics(
    sae: Sae, batches: Iterable[np.ndarray | torch.Tensor], *, position_edges: Sequence[int] = ()
) -> dict[str, Any]:
    """How well an SAE reconstructs activations, read batch by batch.

    Parameters
    ----------
    sae : Sae
        The SAE.
    batches : iterable of arrays `[clip, position, d_in]`
        Activations, any float dtype. All batches have the same positions.
    position_edges : sequence of int
        Inner bin edges in increasing order: (100, 200) makes bins 0-99, 100-199 and 200 to the end.

    Returns
    -------
    dict
        `fvu`, `l0`, `l0_max`, `dead_fraction`, `cosine`, `n_vectors`, and `bins`: a list of `start`, `stop`
        (positions, stop excluded), `fvu`, `l0`. Bins without vectors are left out.

    Raises
    ------
    SaeError
        For a wrong width or a value that is not finite.
    ValueError
        For another shape, edges that do not increase, and no vectors.
    """
    edges = [0, *position_edges]
    if any(b <= a for a, b in pairwise(edges)):
        raise ValueError(f"position_edges: {list(position_edges)} must increase, from 1 or more")
    n_bins, device = len(edges), sae.W_dec.device
    # Per bin: number of vectors, and sums of x - b_dec, its square, the squared residual and L0. With b_dec subtracted
    # the sums of squares are close to the variance. A large common offset would cost precision.
    n, square, residual, active = (torch.zeros(n_bins, dtype=torch.float64, device=device) for _ in range(4))
    total = torch.zeros(n_bins, sae.d_in, dtype=torch.float64, device=device)
    fired = torch.zeros(sae.d_sae, dtype=torch.bool, device=device)
    cosine, l0_max, n_positions = 0.0, 0, 0
    for batch in batches:
        acts = torch.as_tensor(batch)
        if acts.ndim != 3:
            raise ValueError(f"batches: an array of shape {tuple(acts.shape)}; valid: [clip, position, d_in]")
        n_positions = max(n_positions, acts.shape[1])
        bin_of = torch.bucketize(torch.arange(acts.shape[1]), torch.tensor(edges[1:]), right=True)
        bin_of = bin_of.repeat(acts.shape[0]).to(device)
        for x, b in zip(acts.reshape(-1, acts.shape[-1]).split(ROWS_AT_ONCE), bin_of.split(ROWS_AT_ONCE), strict=True):
            x = x.to(device, torch.float32)
            values, indices = encode(sae, x)
            guess = decode(sae, values, indices, x)
            l0 = (values > 0).sum(dim=-1)
            offset = (x - sae.b_dec).double()
            n.index_add_(0, b, torch.ones_like(b, dtype=torch.float64))
            total.index_add_(0, b, offset)
            square.index_add_(0, b, offset.square().sum(dim=-1))
            residual.index_add_(0, b, (x - guess).double().square().sum(dim=-1))
            active.index_add_(0, b, l0.double())
            fired[indices[values > 0].long()] = True
            cosine += float(torch.nn.functional.cosine_similarity(x, guess, dim=-1).double().sum())
            l0_max = max(l0_max, int(l0.max()))
    n_vectors = int(n.sum())
    if n_vectors == 0:
        raise ValueError("batches: no activations; valid: at least one vector")
    mean = total.sum(dim=0) / n_vectors
    variance = square - 2 * total @ mean + n * mean.square().sum()
    # Rounding leaves a little variance in vectors that are all equal.
    variance = torch.where(variance > 1e-12 * square, variance, 0.0)
    fvu, l0 = residual / variance, active / n
    fvu[variance == 0] = torch.nan
    stops = [min(stop, n_positions) for stop in [*edges[1:], n_positions]]
    return {
        "fvu": float(residual.sum() / variance.sum()) if variance.sum() > 0 else math.nan,
        "l0": float(active.sum() / n_vectors),
        "l0_max": l0_max,
        "dead_fraction": float((~fired).double().mean()),
        "cosine": cosine / n_vectors,
        "n_vectors": n_vectors,
        "bins": [
            {"start": edges[i], "stop": stops[i], "fvu": float(fvu[i]), "l0": float(l0[i])}
            for i in range(n_bins)
            if n[i] > 0
        ],
    }
