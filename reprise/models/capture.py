"""Capture the residual stream of a model on given clips, layer by layer, and write it to stores.

`layer L` is the residual stream after layer L (0-based), before `out_norm`. Layer -1 is the input embedding including
the position. At position p the stream depends only on tokens of frames before p (reprise/models/delay_pattern.py).

Memory does not grow with the number of clips. Degenerate input: without clips the stores have no entries.
"""

from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import torch

from reprise.models.adapter import Model
from reprise.models.device import to_host
from reprise.models.forward import teacher_forced
from reprise.models.prompts import encode_prompts
from reprise.storage.stores import StoreWriter, write_behind
from reprise.workflow.job import progress


def residual_stream(
    model: Model, tokens: Any, prompts: Sequence[str | None], *, layers: Sequence[int], batch_size: int
) -> Iterator[dict[int, np.ndarray]]:
    """Teacher-forced capture in passes of exactly `batch_size` rows. The last pass is padded with repeats.

    Parameters
    ----------
    tokens
        `[clip, codebook, frame]`, an array, or a zarr array that is read pass by pass.
    prompts
        One per clip. None: no text, as in guidance's unconditional branch.
    layers
        Layers to capture (0-based; -1: the input embedding).

    Yields
    ------
    dict
        By layer, float32 `[<= batch_size, frame + 1, d_model]`; one dict for each pass, in order.
    """
    waiting: deque[Callable[[], dict[int, np.ndarray]]] = deque()
    for start in range(0, len(prompts), batch_size):
        stop = min(start + batch_size, len(prompts))
        part = np.asarray(tokens[start:stop]).astype(np.int64)
        part = np.concatenate([part, np.repeat(part[-1:], batch_size - len(part), axis=0)])
        text = encode_prompts(model, [prompts[min(i, stop - 1)] for i in range(start, start + batch_size)])
        captured, _ = teacher_forced(model, torch.from_numpy(part).to(model.device), text, layers=layers)
        waiting.append(to_host({layer: x[: stop - start] for layer, x in captured.items()}))
        del captured
        if len(waiting) == passes_at_once(model.device.type):
            yield waiting.popleft()()
    while waiting:
        yield waiting.popleft()()


def passes_at_once(device: str) -> int:
    """How many passes have their streams in memory. A GPU copies those of one to the host and computes the next."""
    return 2 if device == "cuda" else 1


def store_residual_stream(
    model: Model,
    tokens: Any,
    prompts: Sequence[str | None],
    stores: Mapping[int, StoreWriter],
    *,
    batch_size: int,
) -> None:
    """Capture the residual stream of clips and write it to one store per layer.

    Parameters
    ----------
    tokens, prompts, batch_size
        As in `residual_stream`.
    stores
        By layer (-1: the input embedding). The stream `[clip, frame + 1, d_model]` goes into its array `resid_post`.
    """

    def write(captured: dict[int, np.ndarray]) -> None:
        for layer, store in stores.items():
            store.append("resid_post", captured[layer])

    passes = residual_stream(model, tokens, prompts, layers=list(stores), batch_size=batch_size)
    write_behind(progress(passes, total=-(-len(prompts) // batch_size), what="activations"), write)
