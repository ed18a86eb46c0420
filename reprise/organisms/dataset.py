"""Training clips as codec tokens. They are drawn, rendered and encoded one at a time in float32.

Encoding in lower precision would change half of the tokens.
"""

from collections.abc import Iterator

import numpy as np
import torch

import reprise.models.audiocraft_setup  # noqa: F401
from audiocraft.models.encodec import CompressionModel
from reprise.organisms import score
from reprise.organisms.codec import render_clip
from reprise.organisms.lm import TokenSet


@torch.no_grad()
def encode(codec: CompressionModel, audio: np.ndarray) -> np.ndarray:
    """Tokens int16 `[codebook, frame]` of mono audio float32 `[T]`."""
    codes, _ = codec.encode(torch.from_numpy(audio)[None, None])
    return codes[0].numpy().astype(np.int16)


def draw_clips(n: int, seed: int, kind: str = "") -> list[score.Clip]:
    """Draw `n` clips and change them to `kind` (see `score.of_kind`). Clip *i* depends only on (seed, i)."""
    return [score.of_kind(score.draw_clip(np.random.default_rng([seed, 3, i])), kind) for i in range(n)]


def token_set(codec: CompressionModel, clips: list[score.Clip]) -> Iterator[tuple[np.ndarray, score.Clip]]:
    """Yield (tokens, clip) one at a time, so that the caller can report progress and stop."""
    for clip in clips:
        yield encode(codec, render_clip(clip)), clip


def pack(encoded: list[tuple[np.ndarray, score.Clip]]) -> TokenSet:
    """Stack encoded clips into arrays."""
    tokens, clips = zip(*encoded, strict=True)
    return TokenSet(
        tokens=np.stack(tokens),
        cue=np.array([c.cue for c in clips], dtype=np.int8),
        return_bar=np.array([c.return_bar for c in clips], dtype=np.int8),
        prompts=np.array([score.prompt_text(c.instrument, c.key, c.motif) for c in clips]),
    )


def load(paths: list[str]) -> TokenSet:
    """Read and join the parts that `organism_clips` wrote."""
    parts = [np.load(path) for path in paths]
    return TokenSet(*(np.concatenate([part[field] for part in parts]) for field in TokenSet._fields))
