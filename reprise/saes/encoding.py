"""Stored activations into stored SAE codes, the next clips being encoded while the last are written.

Memory does not grow with the number of clips. Degenerate input: no clips leave a store of none.
"""

from typing import Any

import numpy as np
import torch

from reprise.saes.latents import CLIPS_AT_ONCE, append_codes
from reprise.saes.sae import Sae, encode
from reprise.storage.stores import StoreWriter, write_behind
from reprise.workflow.job import progress


def store_codes(sae: Sae, activations: Any, store: StoreWriter) -> None:
    """Encode `activations` `[clip, position, d_model]`, an array or a zarr array, into a store that has the arrays of
    `code_arrays`."""

    def encoded(first: int) -> tuple[np.ndarray, np.ndarray]:
        values, indices = encode(sae, torch.from_numpy(activations[first : first + CLIPS_AT_ONCE]))
        return values.cpu().numpy(), indices.cpu().numpy()

    def write(codes: tuple[np.ndarray, np.ndarray]) -> None:
        append_codes(store, *codes, k=sae.k)

    firsts = range(0, activations.shape[0], CLIPS_AT_ONCE)
    write_behind(map(encoded, progress(firsts, total=len(firsts), what="encode")), write)
