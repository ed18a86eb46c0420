"""The residual stream of a model over given clips, layer by layer; and its way into stores.

`layer L` is the residual stream after layer L (0-based), before `out_norm`; layer -1 is the input embedding including
the position. At position p it is computed from what sounds before frame p (reprise/models/delay_pattern.py).

Memory does not grow with the number of clips. Degenerate input: no clips leave stores of none.
"""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import torch

from reprise.models.adapter import Model
from reprise.models.forward import teacher_forced
from reprise.models.prompts import encode_prompts
from reprise.storage.stores import StoreWriter, write_behind
from reprise.workflow.job import progress


def residual_stream(
    model: Model, tokens: Any, prompts: Sequence[str | None], *, layers: Sequence[int], batch_size: int
) -> Iterator[dict[int, np.ndarray]]:
    """Teacher-forced capture in passes of exactly `batch_size` rows, the last filled up with repeats.

    tokens: `[clip, codebook, frame]`, an array or a zarr array read pass by pass. Yields, for each pass in order,
    float32 `[<= batch_size, frame + 1, d_model]` of each layer. A prompt of None: as guidance's unconditional half
    sees it.
    """
    for start in range(0, len(prompts), batch_size):
        stop = min(start + batch_size, len(prompts))
        part = np.asarray(tokens[start:stop]).astype(np.int64)
        part = np.concatenate([part, np.repeat(part[-1:], batch_size - len(part), axis=0)])
        text = encode_prompts(model, [prompts[min(i, stop - 1)] for i in range(start, start + batch_size)])
        captured, _ = teacher_forced(model, torch.from_numpy(part).to(model.device), text, layers=layers)
        yield {layer: x[: stop - start].float().cpu().numpy() for layer, x in captured.items()}


def store_residual_stream(
    model: Model,
    tokens: Any,
    prompts: Sequence[str | None],
    stores: Mapping[int, StoreWriter],
    *,
    batch_size: int,
) -> None:
    """One teacher-forced pass over `tokens` `[clip, codebook, frame]`; the stream `[clip, frame + 1, d_model]` of each
    layer (-1: the input embedding) goes into array `resid_post` of its store. batch_size: of one forward pass."""

    def write(captured: dict[int, np.ndarray]) -> None:
        for layer, store in stores.items():
            store.append("resid_post", captured[layer])

    passes = residual_stream(model, tokens, prompts, layers=list(stores), batch_size=batch_size)
    write_behind(progress(passes, total=-(-len(prompts) // batch_size), what="activations"), write)
