"""The delay pattern of the codebooks."""

import torch


def delayed(tokens: torch.Tensor, special: int) -> torch.Tensor:
    """Tokens `[row, codebook, frame]` on the delay pattern: `[row, codebook, frame + 1]`.

    Position p holds codebook k of frame p - 1 - k, `special` where there is none: the T + 1 positions that are
    valid for T frames (a position needs all its codebooks to be known up to its own delay).
    """
    rows, n_codebooks, n_frames = tokens.shape
    out = tokens.new_full((rows, n_codebooks, n_frames + 1), special)
    for k in range(n_codebooks):
        out[:, k, 1 + k :] = tokens[:, k, : n_frames - k]
    return out
