"""Measure what the organism `wild` does: how well it knows tunes, and how often an opening comes back.

An opening comes back if at least `RETURN_MATCH` of its first-codebook tokens are played again, frame by frame, four
bars later or a strain of eight bars later. Rendered excerpts of tunes that it did not learn say how often that is so
in the music itself.

Degenerate input: fractions of no clips are NaN.
"""

from collections.abc import Sequence
from typing import cast

import numpy as np
import torch
from torch.nn import functional as F

from reprise.models.adapter import Model
from reprise.models.delay_pattern import predictions
from reprise.models.forward import teacher_forced
from reprise.models.generation import Sampling, generate
from reprise.models.prompts import encode_prompts
from reprise.organisms.evaluate import N_FRAMES, RETURN_MATCH
from reprise.organisms.lm import TokenSet
from reprise.organisms.tunes import BAR_FRAMES, STRAIN_BARS, prompts

BATCH = 48
PHRASE_BARS = 4


def comes_back(tokens: np.ndarray, after_bars: int) -> float:
    """The fraction of clips whose opening comes back after some bars. tokens: `[clip, codebook, frame]`."""
    n, start = 2 * BAR_FRAMES, after_bars * BAR_FRAMES
    match = (tokens[:, 0, :n] == tokens[:, 0, start : start + n]).mean(axis=1)
    return float((match >= RETURN_MATCH).mean()) if len(tokens) else float("nan")


def nats_per_token(model: Model, data: TokenSet, n: int) -> float:
    """Mean negative log-likelihood of the tokens of the first `n` clips, over all codebooks."""
    total, count = 0.0, 0
    for first in range(0, min(n, len(data.tokens)), BATCH):
        rows = slice(first, min(first + BATCH, n))
        tokens = torch.from_numpy(data.tokens[rows].astype(np.int64))
        text = encode_prompts(model, [str(prompt) for prompt in data.prompts[rows]])
        _, logits = teacher_forced(model, tokens, text, with_logits=True)
        for k, predicted in predictions(cast(torch.Tensor, logits), model.delays):
            own = tokens[:, k, : N_FRAMES - k]
            nll = F.cross_entropy(predicted[:, : N_FRAMES - k].transpose(1, 2), own, reduction="sum")
            total, count = total + float(nll), count + own.numel()
    return total / count if count else float("nan")


def tune_figures(
    model: Model, learnt: TokenSet, held_out: TokenSet, seeds: Sequence[int], *, sampling: Sampling, n: int
) -> dict[str, float]:
    """Measure the organism.

    Parameters
    ----------
    model : Model
        The organism.
    learnt, held_out : TokenSet
        Excerpts of tunes that it learnt, and of others.
    seeds : sequence of int
        One clip is generated for each of its prompts and each seed.
    sampling : Sampling
        How tokens are sampled.
    n : int
        Number of excerpts of either kind.

    Returns
    -------
    dict of str to float
        Fractions, and nats per token.
    """
    asked = prompts()
    keys = {seed: [(9_004, i, seed) for i in range(len(asked))] for seed in seeds}
    parts = [generate(model, asked, keys[seed], n_frames=N_FRAMES, sampling=sampling).numpy() for seed in seeds]
    made = np.concatenate(parts)
    figures = {"n_clips": float(len(made))}
    for name, tokens in (("", made), ("_in_tunes", held_out.tokens[:n])):
        figures[f"opens_again_after_phrase{name}"] = comes_back(tokens, PHRASE_BARS)
        figures[f"opens_again_after_strain{name}"] = comes_back(tokens, STRAIN_BARS)
    figures["nats_per_token_learnt"] = nats_per_token(model, learnt, n)
    figures["nats_per_token_held_out"] = nats_per_token(model, held_out, n)
    return figures
