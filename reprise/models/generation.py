"""Generate clips: sample their tokens step by step.

Every step runs the layers of reprise/models/forward.py over one position of the delay pattern
(reprise/models/delay_pattern.py) and keeps its keys and values (reprise/models/kv_cache.py). The sampling noise of a
row is a function of its identity, the step and the codebook alone, so a clip does not depend on its batch.

With classifier-free guidance (cfg_coef != 1) the batch holds the conditional rows, then the unconditional.

Logits that are NaN or infinite are a NotFiniteError that names the first layer that has them, found by another look at
the first such step.
"""

from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple

import numpy as np
import torch

from reprise.checkpoints.finite import NotFiniteError, not_finite
from reprise.models.adapter import Model
from reprise.models.delay_pattern import chosen_frames, n_steps, step_input
from reprise.models.forward import EditFunction, Watch, check_layer, ignore, layer_outputs, logits_of, prompt_keys
from reprise.models.kv_cache import KeyValueCache
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


def clip_noise(key: Sequence[int], n_codebooks: int, codebook_size: int) -> Iterator[np.ndarray]:
    """The sampling noise of one clip: for each step, Exp(1) draws float32 `[codebook, codebook_size]`.

    `key` is the clip's identity as integers. Conditions of one clip share it, which pairs them: choosing
    argmax(logits / T - log E) is sampling from the softmax (Gumbel-max), and rows whose logits agree choose alike.
    """
    rng = np.random.Generator(np.random.Philox(np.random.SeedSequence(list(key))))
    while True:
        yield rng.standard_exponential((n_codebooks, codebook_size), dtype=np.float32)


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
    prompt = prompt_keys(model, text)
    steps = n_steps(n_frames, model.delays)
    cache = KeyValueCache(model, batch_size=len(text.mask), n_steps=steps)

    keys = [tuple(k) for k in noise_keys]
    noises = {key: clip_noise(key, model.n_codebooks, model.codebook_size) for key in keys}
    of_row = torch.tensor([list(noises).index(key) for key in keys], device=model.device)
    out, forced = _begun(model, rows, n_frames, prefix, n_prefix_frames)

    def step(p: int, watch: Watch = ignore) -> torch.Tensor:
        """Logits float32 `[row, codebook, codebook_size]` of step p, from the tokens of `out` before it."""
        current = step_input(out, p, model.codebook_size, model.delays)
        sequence = torch.cat([current, current]) if guided else current

        def attend(layer: int, q: torch.Tensor, k: torch.Tensor, v: torch.Tensor) -> torch.Tensor:
            return cache.attend(layer, p, q, k, v)

        for _, x in layer_outputs(
            model, sequence, prompt, attend, start=p, n_layers=model.n_layers, edit=edit, watch=watch
        ):
            last = x
        return logits_of(model, last)[:, :, 0].float()

    finite = torch.ones(steps, dtype=torch.bool, device=model.device)
    for p in range(steps):
        try:
            logits = step(p)
            finite[p], asked = torch.isfinite(logits).all(), p % STEPS_UNASKED == 0 or p == steps - 1
        except NotFiniteError:
            # An edit met them.
            finite[p], asked = False, True
        if asked and not bool(finite.all()):
            # That step once more, with a look at every layer.
            first = int(finite.long().argmin())
            step(first, check_layer)
            raise not_finite("the logits", model.dtype)
        if guided:
            conditional, unconditional = logits.chunk(2)
            logits = unconditional + sampling.cfg_coef * (conditional - unconditional)
        noise = torch.from_numpy(np.stack([next(n) for n in noises.values()])).to(model.device)
        choice = choose(logits, noise[of_row], sampling)
        for k, frame in chosen_frames(p, model.delays, n_frames):
            out[:, k, frame] = torch.where(forced[:, frame], out[:, k, frame], choice[:, k])
        if on_step:
            on_step(p + 1, steps)
    return out


def _begun(
    model: Model,
    rows: int,
    n_frames: int,
    prefix: torch.Tensor | None,
    n_prefix_frames: Sequence[int] | None,
) -> tuple[torch.Tensor, torch.Tensor]:
    """Tokens `[row, codebook, n_frames]` of which only the prefixes are known yet, and where they are, bool
    `[row, n_frames]`."""
    out = torch.full((rows, model.n_codebooks, n_frames), model.codebook_size, dtype=torch.int64, device=model.device)
    forced = torch.zeros(rows, n_frames, dtype=torch.bool, device=model.device)
    if prefix is not None and n_prefix_frames is not None:
        for row, n in enumerate(n_prefix_frames):
            out[row, :, :n] = prefix[row, :, :n]
            forced[row, :n] = True
    return out, forced


def generate_clips(
    model: Model,
    prompts: Sequence[str | None],
    noise_keys: Sequence[Sequence[int]],
    *,
    n_frames: int,
    sampling: Sampling,
    batch_size: int,
    openings: np.ndarray | None = None,
) -> Iterator[np.ndarray]:
    """`generate` in passes of exactly `batch_size` rows, yielding int64 `[<= batch_size, codebook, frame]` in order.

    openings: tokens `[clip, codebook, frame]` that each clip begins with, where it does not begin with nothing.
    The last pass is filled up with repeats: matrix products of one shape do the same arithmetic for a row whatever
    stands beside it, so a clip's tokens do not depend on how many clips there are.
    """
    for start in range(0, len(prompts), batch_size):
        chosen = [min(i, len(prompts) - 1) for i in range(start, start + batch_size)]
        prefix = None if openings is None else torch.from_numpy(openings[chosen].astype(np.int64)).to(model.device)
        tokens = generate(
            model,
            [prompts[i] for i in chosen],
            [noise_keys[i] for i in chosen],
            n_frames=n_frames,
            sampling=sampling,
            prefix=prefix,
            n_prefix_frames=None if prefix is None else [prefix.shape[-1]] * batch_size,
        )
        yield tokens[: len(prompts) - start].cpu().numpy()


def choose(logits: torch.Tensor, noise: torch.Tensor, sampling: Sampling) -> torch.Tensor:
    """Sample tokens `[row, codebook]` from logits `[row, codebook, codebook_size]` with Exp(1) noise of that shape."""
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
