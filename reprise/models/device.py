"""The device that a job runs on. It is not part of a result's identity, so changing it never makes a stage stale."""

import torch


def pick_device(wanted: str) -> str:
    """The device for a setting. 'auto': the GPU if there is one, else the CPU. RuntimeError: 'cuda' without a GPU."""
    if wanted == "cuda" and not torch.cuda.is_available():
        raise RuntimeError("model.device: got 'cuda', but torch sees no GPU; valid here: 'cpu', 'auto'")
    return ("cuda" if torch.cuda.is_available() else "cpu") if wanted == "auto" else wanted
