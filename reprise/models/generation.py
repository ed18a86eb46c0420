"""Sample clips step by step."""

from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple

import numpy as np
import torch
from torch.nn import functional as F

from reprise.checkpoints.finite import NotFiniteError, not_finite
from reprise.models.adapter import Model
from reprise.models.forward import EditFunction, Watch, _check, _cross_keys, _embed, _ignore, _layer, _logits
from reprise.models.prompts import encode_prompts

# Steps of a generation after which it is asked whether all logits were finite: asking makes a GPU wait.
STEPS_UNASKED = 64


class Sampling(NamedTuple):
    """Sampling settings: `temperature` > 0; `top_k` 0 for all tokens; `cfg_coef` 1 for no guidance; `top_p` 0 for no
    nucleus."""

    temperature: float
    top_k: int
    cfg_coef: float
    top_p: float = 0.0


def clip_noise(key: Sequence[int], n_codebooks: int, card: int) -> Iterator[np.ndarray]:
    """The sampling noise of one clip: for each step, Exp(1) draws float32 `[codebook, card]`.

    `key` is the clip's identity as integers. Conditions of one clip share it, which pairs them: choosing
    argmax(logits / T - log E) is sampling from the softmax (Gumbel-max), and rows whose logits agree choose alike.
    """
    rng = np.random.Generator(np.random.Philox(np.random.SeedSequence(list(key))))
    while True:
        yield rng.standard_exponential((n_codebooks, card), dtype=np.float32)


@torch.no_grad()
def generate(
    model: Model,
    prompts: Sequence[str | None],
    noise_keys: Sequence[Sequence[int]],
    *,
    n_frames: int,
    sampling: Sampling,
    prefix: torch.Tensor | None = None,
    n_prefix_frames: Sequence[int] | None = None,
    edit: EditFunction | None = None,
    on_step: Callable[[int, int], None] | None = None,
) -> torch.Tensor:
    """Sample clips step by step; returns tokens int64 `[row, codebook, n_frames]`.

    prompts, noise_keys: one a row; rows with equal keys share their noise. prefix `[row, codebook, >= frames]` is
    imposed on the first `n_prefix_frames[row]` frames, by the same steps that would have sampled them, so that a
    continuation of a generated clip is the clip itself to the last bit. `edit` sees every step; with guidance its
    rows are the conditional ones, then the unconditional ones. Raises NotFiniteError.
    """
    rows = len(prompts)
    guided = sampling.cfg_coef != 1.0
    text = encode_prompts(model, [*prompts, *([None] * rows if guided else [])])
    total = text.embeddings.shape[0]
    device, dtype = model.device, model.dtype
    n_steps = n_frames + model.n_codebooks - 1
    heads = model.transformer.layers[0].self_attention.n_heads
    cache = torch.zeros(model.n_layers, 2, total, heads, n_steps, model.d_model // heads, device=device, dtype=dtype)
    cross, mask = _cross_keys(model, text), text.mask[:, None, None, :]

    keys = [tuple(k) for k in noise_keys]
    noises = {key: clip_noise(key, model.n_codebooks, model.card) for key in keys}
    of_row = torch.tensor([list(noises).index(key) for key in keys], device=device)

    out = torch.full((rows, model.n_codebooks, n_frames), model.card, dtype=torch.int64, device=device)
    forced = torch.zeros(rows, n_frames, dtype=torch.bool, device=device)
    if prefix is not None and n_prefix_frames is not None:
        for row, n in enumerate(n_prefix_frames):
            out[row, :, :n] = prefix[row, :, :n]
            forced[row, :n] = True

    def step(p: int, watch: Watch = _ignore) -> torch.Tensor:
        """Logits float32 `[row, codebook, card]` of step p, from the tokens of `out` before it."""
        current = torch.full((rows, model.n_codebooks, 1), model.card, dtype=torch.int64, device=device)
        for k in range(model.n_codebooks):
            if 0 <= p - 1 - k < n_frames:
                current[:, k, 0] = out[:, k, p - 1 - k]
        x = _embed(model, torch.cat([current, current]) if guided else current, p)
        watch(-1, x, "")
        for i, layer in enumerate(model.transformer.layers):

            def attend(q: torch.Tensor, k: torch.Tensor, v: torch.Tensor, i: int = i) -> torch.Tensor:
                cache[i, 0, :, :, p], cache[i, 1, :, :, p] = k[:, :, 0], v[:, :, 0]
                return F.scaled_dot_product_attention(q, cache[i, 0, :, :, : p + 1], cache[i, 1, :, :, : p + 1])

            x = _layer(layer, x, attend, cross[i], mask)
            watch(i, x, "")
            if edit is not None:
                x = edit(i, p, x)
                watch(i, x, ", as edited,")
        return _logits(model, x)[:, :, 0].float()

    finite = torch.ones(n_steps, dtype=torch.bool, device=device)
    for p in range(n_steps):
        try:
            logits = step(p)
            finite[p], asked = torch.isfinite(logits).all(), p % STEPS_UNASKED == 0 or p == n_steps - 1
        except NotFiniteError:
            # An edit met them.
            finite[p], asked = False, True
        if asked and not bool(finite.all()):
            # That step once more, with a look at every layer.
            first = int(finite.long().argmin())
            step(first, _check)
            raise not_finite("the logits", dtype)
        if guided:
            conditional, unconditional = logits.chunk(2)
            logits = unconditional + sampling.cfg_coef * (conditional - unconditional)
        noise = torch.from_numpy(np.stack([next(n) for n in noises.values()])).to(device)
        choice = choose(logits, noise[of_row], sampling)
        # This step predicts codebook k of frame p - k; the next step carries the same tokens.
        for k in range(model.n_codebooks):
            frame = p - k
            if 0 <= frame < n_frames:
                out[:, k, frame] = torch.where(forced[:, frame], out[:, k, frame], choice[:, k])
        if on_step:
            on_step(p + 1, n_steps)
    return out


def generate_clips(
    model: Model,
    prompts: Sequence[str | None],
    noise_keys: Sequence[Sequence[int]],
    *,
    n_frames: int,
    sampling: Sampling,
    rows: int,
    openings: np.ndarray | None = None,
) -> Iterator[np.ndarray]:
    """`generate` in passes of exactly `rows` rows, yielding int64 `[<= rows, codebook, frame]` in order.

    openings: tokens `[clip, codebook, frame]` that each clip begins with, where it does not begin with nothing.
    The last pass is filled up with repeats: matrix products of one shape do the same arithmetic for a row whatever
    stands beside it, so a clip's tokens do not depend on how many clips there are.
    """
    for start in range(0, len(prompts), rows):
        chosen = [min(i, len(prompts) - 1) for i in range(start, start + rows)]
        prefix = None if openings is None else torch.from_numpy(openings[chosen].astype(np.int64)).to(model.device)
        tokens = generate(
            model,
            [prompts[i] for i in chosen],
            [noise_keys[i] for i in chosen],
            n_frames=n_frames,
            sampling=sampling,
            prefix=prefix,
            n_prefix_frames=None if prefix is None else [prefix.shape[-1]] * rows,
        )
        yield tokens[: len(prompts) - start].cpu().numpy()


def choose(logits: torch.Tensor, noise: torch.Tensor, sampling: Sampling) -> torch.Tensor:
    """Sample tokens `[row, codebook]` from logits `[row, codebook, card]` with Exp(1) noise of that shape."""
    if sampling.top_k:
        kth = logits.topk(min(sampling.top_k, logits.shape[-1]), dim=-1).values[..., -1:]
        logits = logits.masked_fill(logits < kth, float("-inf"))
    logits = logits / sampling.temperature
    if sampling.top_p:
        probability, order = logits.softmax(dim=-1).sort(dim=-1, descending=True, stable=True)
        # A token counts while those before it do not yet hold the share, so at least one does.
        outside = probability.cumsum(dim=-1) - probability > sampling.top_p
        logits = logits.masked_fill(torch.zeros_like(outside).scatter(-1, order, outside), float("-inf"))
    return (logits - noise.log()).argmax(dim=-1)
