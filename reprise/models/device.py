"""Which device a job runs on. Never part of what is computed, so never part of what makes a stage stale."""

import torch


def pick_device(wanted: str) -> str:
    """'auto' is the GPU where there is one; RuntimeError when 'cuda' is asked for and there is none."""
    if wanted == "cuda" and not torch.cuda.is_available():
        raise RuntimeError("model.device: 'cuda' was asked for, but torch sees no GPU; valid here: 'cpu', 'auto'")
    return ("cuda" if torch.cuda.is_available() else "cpu") if wanted == "auto" else wanted
