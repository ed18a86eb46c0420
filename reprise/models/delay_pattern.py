"""The delay pattern: in which order a model reads and chooses the codebooks of a frame.

Codebook k lags `delays[k]` steps behind codebook 0. Position p is a step of that pattern: position 0 is the special
token, position p carries codebook k of frame p - 1 - delays[k], and its output chooses codebook k of frame
p - delays[k]. So T frames take T + 1 positions to be read, and a few steps more to be chosen whole, since the last
frame's last codebook comes late.

Conventions. `delays` are integers, a codebook each, the first 0 and none less than the one before: 0, 1, 2, 3 for
MusicGen and AudioGen, 0, 0, 1, 1, 2, 2, 3, 3 where left and right alternate. A `Model` carries its own, as its
checkpoint says them; which a checkpoint may ask for is checked in reprise/checkpoints/variants.py.

This is the one place that uses them. Nothing heavy is imported: the Snakefile asks for these sizes at every parse.
"""

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import torch


def n_positions(n_frames: int) -> int:
    """Positions of a pass over `n_frames` known frames: those that are valid for them, the special token's first."""
    return n_frames + 1


def n_steps(n_frames: int, delays: Sequence[int]) -> int:
    """Steps until every codebook of `n_frames` frames is chosen."""
    return n_frames + max(delays)


def delayed(tokens: "torch.Tensor", special: int, delays: Sequence[int]) -> "torch.Tensor":
    """Tokens `[row, codebook, frame]` on the delay pattern: `[row, codebook, frame + 1]`.

    Position p holds codebook k of frame p - 1 - delays[k], `special` where there is none: the T + 1 positions that
    are valid for T frames (a position needs all its codebooks to be known up to its own delay).
    """
    rows, n_codebooks, n_frames = tokens.shape
    out = tokens.new_full((rows, n_codebooks, n_positions(n_frames)), special)
    for k, delay in enumerate(delays):
        out[:, k, 1 + delay :] = tokens[:, k, : max(0, n_frames - delay)]
    return out


def step_input(tokens: "torch.Tensor", step: int, special: int, delays: Sequence[int]) -> "torch.Tensor":
    """What one step reads of tokens `[row, codebook, frame]`: `[row, codebook, 1]`, what `delayed` has at that
    position. Tokens that are chosen at this step or later are not read."""
    rows, n_codebooks, n_frames = tokens.shape
    out = tokens.new_full((rows, n_codebooks, 1), special)
    for k, delay in enumerate(delays):
        if 0 <= step - 1 - delay < n_frames:
            out[:, k, 0] = tokens[:, k, step - 1 - delay]
    return out


def chosen_frames(step: int, delays: Sequence[int], n_frames: int) -> Iterator[tuple[int, int]]:
    """Which tokens one step chooses: for each codebook k, (k, frame), where it is one of the clip's frames."""
    for k, delay in enumerate(delays):
        if 0 <= step - delay < n_frames:
            yield k, step - delay


def predictions(logits: "torch.Tensor", delays: Sequence[int]) -> Iterator[tuple[int, "torch.Tensor"]]:
    """For each codebook k, (k, logits `[row, frame, codebook_size]` of its frames from the first on), of logits
    `[row, codebook, position, codebook_size]` of a pass. The last frames lack the codebooks whose turn comes after the
    end."""
    n_frames = logits.shape[2] - 1
    for k, delay in enumerate(delays):
        yield k, logits[:, k, delay : delay + min(n_frames, n_frames + 1 - delay)]
