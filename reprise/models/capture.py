"""Residual streams into stores, the next clips being computed while the last are written.

Memory does not grow with the number of clips. Degenerate input: no clips leave stores of none.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from reprise.models.decoding import residual_stream
from reprise.models.musicgen import Model
from reprise.storage.stores import StoreWriter, write_behind
from reprise.workflow.job import progress


def store_residual_stream(
    model: Model,
    tokens: Any,
    prompts: Sequence[str | None],
    stores: Mapping[int, StoreWriter],
    *,
    rows: int,
) -> None:
    """One teacher-forced pass over `tokens` `[clip, codebook, frame]`; the stream `[clip, frame + 1, d_model]` of each
    layer (-1: the input embedding) goes into array `resid_post` of its store. rows: of one forward pass."""

    def write(captured: dict[int, np.ndarray]) -> None:
        for layer, store in stores.items():
            store.append("resid_post", captured[layer])

    passes = residual_stream(model, tokens, prompts, layers=list(stores), rows=rows)
    write_behind(progress(passes, total=-(-len(prompts) // rows), what="activations"), write)
