"""The device that a job runs on, and the way back from it. It is not part of a result's identity, so changing it never
makes a stage stale."""

from collections.abc import Callable, Mapping
from functools import cache

import numpy as np
import torch


def pick_device(wanted: str) -> str:
    """The device for a setting. 'auto': the GPU if there is one, else the CPU. RuntimeError: 'cuda' without a GPU."""
    if wanted == "cuda" and not torch.cuda.is_available():
        raise RuntimeError("model.device: got 'cuda', but torch sees no GPU; valid here: 'cpu', 'auto'")
    return ("cuda" if torch.cuda.is_available() else "cpu") if wanted == "auto" else wanted


def to_host(tensors: Mapping[int, torch.Tensor]) -> Callable[[], dict[int, np.ndarray]]:
    """Begin to copy tensors to the host as float32. The result waits for the copies and returns them.

    A GPU goes on with other work in the meantime.
    """
    if not any(tensor.is_cuda for tensor in tensors.values()):
        return lambda: {key: tensor.float().numpy() for key, tensor in tensors.items()}
    stream = _copying(torch.cuda.current_device())
    stream.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(stream):
        copies = {}
        for key, tensor in tensors.items():
            pinned = torch.empty(tensor.shape, dtype=tensor.dtype, pin_memory=True)
            copies[key] = pinned.copy_(tensor, non_blocking=True)
            # Its memory may not be used again before the copy is done.
            tensor.record_stream(stream)
        done = stream.record_event()

    def wait() -> dict[int, np.ndarray]:
        done.synchronize()
        return {key: copy.float().numpy() for key, copy in copies.items()}

    return wait


@cache
def _copying(device: int) -> torch.cuda.Stream:
    """A stream for copies from a device."""
    return torch.cuda.Stream(device)
