"""The delay pattern: the order in which a model reads and chooses the codebooks of a frame.

Codebook k lags `delays[k]` steps behind codebook 0. Position p is a step of that pattern. Position 0 is the special
token. Position p reads codebook k of frame p - 1 - delays[k], and its output chooses codebook k of frame
p - delays[k]. So T frames are read in T + 1 positions. To choose them takes a few more steps, because the last
codebook of the last frame comes late.

Conventions. `delays` has one integer per codebook. The first is 0, and the values never decrease: 0, 1, 2, 3 for
MusicGen and AudioGen; 0, 0, 1, 1, 2, 2, 3, 3 for stereo models, where left and right alternate. A `Model` has the
delays of its checkpoint. reprise/checkpoints/variants.py checks that they are supported.

All computations with delays are here. Nothing heavy is imported: the Snakefile needs these sizes at every parse.
"""

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import torch


def n_positions(n_frames: int) -> int:
    """Number of positions in a pass over `n_frames` known frames, including the special token's."""
    return n_frames + 1


def n_steps(n_frames: int, delays: Sequence[int]) -> int:
    """Number of steps until every codebook of `n_frames` frames is chosen."""
    return n_frames + max(delays)


def delayed(tokens: "torch.Tensor", special: int, delays: Sequence[int]) -> "torch.Tensor":
    """Tokens `[row, codebook, frame]` on the delay pattern: `[row, codebook, frame + 1]`.

    Position p holds codebook k of frame p - 1 - delays[k]. These are the T + 1 positions that are valid for T frames:
    all tokens that they read are known.

    Parameters
    ----------
    tokens
        Int `[row, codebook, frame]`.
    special
        The special token. It fills places without a frame.
    delays
        Delay of each codebook, in steps.
    """
    rows, n_codebooks, n_frames = tokens.shape
    out = tokens.new_full((rows, n_codebooks, n_positions(n_frames)), special)
    for k, delay in enumerate(delays):
        out[:, k, 1 + delay :] = tokens[:, k, : max(0, n_frames - delay)]
    return out


def step_input(tokens: "torch.Tensor", step: int, special: int, delays: Sequence[int]) -> "torch.Tensor":
    """The input of one step, from tokens `[row, codebook, frame]`: position `step` of `delayed`, `[row, codebook, 1]`.

    Tokens that are chosen at this step or later are not read. Parameters: as in `delayed`.
    """
    rows, n_codebooks, n_frames = tokens.shape
    out = tokens.new_full((rows, n_codebooks, 1), special)
    for k, delay in enumerate(delays):
        if 0 <= step - 1 - delay < n_frames:
            out[:, k, 0] = tokens[:, k, step - 1 - delay]
    return out


def chosen_frames(step: int, delays: Sequence[int], n_frames: int) -> Iterator[tuple[int, int]]:
    """The tokens that one step chooses: (k, frame) for each codebook k whose frame lies within the clip."""
    for k, delay in enumerate(delays):
        if 0 <= step - delay < n_frames:
            yield k, step - delay


def predictions(logits: "torch.Tensor", delays: Sequence[int]) -> Iterator[tuple[int, "torch.Tensor"]]:
    """Logits by codebook and frame, from the logits `[row, codebook, position, codebook_size]` of a pass.

    Yields (k, logits `[row, frame, codebook_size]`) for each codebook k, from the first frame on. The last frames of a
    delayed codebook are missing, because their positions come after the end of the pass.
    """
    n_frames = logits.shape[2] - 1
    for k, delay in enumerate(delays):
        yield k, logits[:, k, delay : delay + min(n_frames, n_frames + 1 - delay)]
