"""Encode stored activations into stored SAE latents. The next clips are encoded while the last ones are written.

Memory does not grow with the number of clips. Degenerate input: no clips give a store without clips.
"""

from typing import Any

import numpy as np
import torch

from reprise.saes.latents import CLIPS_AT_ONCE, append_latents
from reprise.saes.sae import Sae, encode
from reprise.storage.stores import StoreWriter, write_behind
from reprise.workflow.job import progress


def store_latents(sae: Sae, activations: Any, store: StoreWriter) -> None:
    """Encode activations into a store.

    Parameters
    ----------
    sae : Sae
        The SAE.
    activations : array or zarr array `[clip, position, d_model]`
        The activations.
    store : StoreWriter
        Has the arrays of `latent_arrays`.
    """

    def encoded(first: int) -> tuple[np.ndarray, np.ndarray]:
        values, indices = encode(sae, torch.from_numpy(activations[first : first + CLIPS_AT_ONCE]))
        return values.cpu().numpy(), indices.cpu().numpy()

    def write(latents: tuple[np.ndarray, np.ndarray]) -> None:
        append_latents(store, *latents, k=sae.k)

    firsts = range(0, activations.shape[0], CLIPS_AT_ONCE)
    write_behind(map(encoded, progress(firsts, total=len(firsts), what="encode")), write)
