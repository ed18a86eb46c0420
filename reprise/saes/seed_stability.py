"""Does an SAE's latent come back when the SAE is trained again from another seed?

SAEs that were trained on the same data from different seeds share only a part of their latents (Paulo & Belrose 2025,
"Sparse autoencoders trained on the same data learn different features"). A latent counts as found again if some latent
of the other SAE writes in nearly the same direction: cosine of `FOUND_AGAIN` or more, as there.

Degenerate input: a latent that writes nothing (a direction of zeros) has cosine 0 with all others.
"""

import numpy as np
from numpy.typing import NDArray

FOUND_AGAIN = 0.7
# Latents that are compared at once. It bounds the memory.
BLOCK = 1024


def best_cosines(first: NDArray[np.floating], other: NDArray[np.floating]) -> NDArray[np.float32]:
    """For each latent of one SAE, the highest cosine of its decoder direction with any of another SAE.

    Parameters
    ----------
    first, other : float arrays `[d_sae, d_model]`
        Decoder directions. The two may differ in `d_sae`.

    Returns
    -------
    float32 array `[d_sae]`

    Raises
    ------
    ValueError
        If the widths of the stream differ.
    """
    if first.shape[1] != other.shape[1]:
        raise ValueError(f"best_cosines: d_model is {first.shape[1]} and {other.shape[1]}; valid: the same")
    a, b = (_unit(x) for x in (first, other))
    blocks = [(a[i : i + BLOCK] @ b.T).max(axis=1) for i in range(0, len(a), BLOCK)]
    return np.concatenate(blocks).astype(np.float32)


def _unit(rows: NDArray[np.floating]) -> NDArray[np.float32]:
    norm = np.linalg.norm(rows, axis=1, keepdims=True)
    return np.divide(rows, norm, out=np.zeros_like(rows, np.float32), where=norm > 0)
