"""Generate clips: sample their tokens step by step.

Each step runs the layers of reprise/models/forward.py on one position of the delay pattern
(reprise/models/delay_pattern.py) and adds its keys and values to the KV cache (reprise/models/kv_cache.py). On a GPU
steps are recorded and repeated (reprise/models/steps.py).

The noise for sampling a row depends only on its identity, the step and the codebook. So a clip does not depend on its
batch.

With classifier-free guidance (cfg_coef != 1) the batch holds the conditional rows first, then the unconditional rows.

NaN or infinite logits raise NotFiniteError. The first step that has them is computed again, to name the first layer
with such values.
"""

from collections import deque
from collections.abc import Callable, Iterator, Sequence
from itertools import islice
from typing import NamedTuple

import numpy as np
import torch

from reprise.checkpoints.finite import NotFiniteError, not_finite
from reprise.models.adapter import Model
from reprise.models.delay_pattern import chosen_frames, n_steps, step_input
from reprise.models.forward import (
    EditFunction,
    PromptKeys,
    Watch,
    check_layer,
    ignore,
    layers_after,
    prompt_keys,
)
from reprise.models.kv_cache import KeyValueCache
from reprise.models.opening import Opening
from reprise.models.prompts import encode_prompts
from reprise.models.steps import recorded_steps, step_logits
from reprise.threads import ahead

# Steps whose noise is drawn beforehand on a GPU, in a thread.
DRAWN_AHEAD = 8
# Number of steps between two checks that all logits are finite. Each check waits for the GPU.
STEPS_UNASKED = 64


class Sampling(NamedTuple):
    """Sampling settings.

    `temperature`: above 0. `top_k`: sample from this many tokens; 0: from all. `cfg_coef`: guidance coefficient; 1
    disables guidance. `top_p`: nucleus sampling threshold; 0 disables it.
    """

    temperature: float
    top_k: int
    cfg_coef: float
    top_p: float = 0.0


def clip_noise(key: Sequence[int], n_codebooks: int, codebook_size: int) -> Iterator[np.ndarray]:
    """The sampling noise of one clip: for each step, Exp(1) draws float32 `[codebook, codebook_size]`.

    `key` is the clip's identity as integers. All conditions of a clip use the same key, so their noise is paired.
    Choosing argmax(logits / T - log E) samples from the softmax (Gumbel-max). Rows with equal logits choose equal
    tokens.
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
    opening: Opening | None = None,
    first_edit: tuple[int, int] = (0, 0),
    on_step: Callable[[int, int], None] | None = None,
) -> torch.Tensor:
    """Sample clips step by step.

    A prefix goes through the same steps that would have sampled it. So a continuation of a generated clip equals that
    clip to the last bit.

    Parameters
    ----------
    prompts, noise_keys
        One per row. Rows with equal keys get equal noise.
    n_frames
        Length of the clips in frames, including the prefix.
    prefix, n_prefix_frames
        Tokens `[row, codebook, >= frames]`, of which the first `n_prefix_frames[row]` frames are imposed on a row.
    edit
        Called at every layer of every step. With guidance it gets the conditional rows first, then the unconditional.
    opening
        What the first positions of all rows compute without an edit (reprise/models/opening.py), for this prefix and
        these prompts. It has at most as many positions as any row has frames in its prefix.
    first_edit
        With an opening: the layer and the position before which `edit` changes nothing. The opening has this layer's
        output.
    on_step
        Called after each step with (steps done, all steps).

    Returns
    -------
    torch.Tensor
        Tokens int64 `[row, codebook, n_frames]`.

    Raises
    ------
    NotFiniteError
        If logits or activations are NaN or infinite.
    ValueError
        If a prefix is given without its lengths, or lengths without a prefix.
    """
    if (prefix is None) != (n_prefix_frames is None):
        raise ValueError("generate: got only one of prefix and n_prefix_frames; valid: both, or neither")
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

    def input_of(p: int) -> torch.Tensor:
        """The tokens of `out` that step p reads, for all branches."""
        current = step_input(out, p, model.codebook_size, model.delays)
        return torch.cat([current, current]) if guided else current

    def ordinary(p: int, sequence: torch.Tensor, watch: Watch = ignore) -> torch.Tensor:
        """Logits float32 `[row, codebook, codebook_size]` of step p."""

        def attend(layer: int, q: torch.Tensor, k: torch.Tensor, v: torch.Tensor) -> torch.Tensor:
            return cache.attend(layer, p, q, k, v)

        return step_logits(model, prompt, attend, sequence, start=p, edit=edit, watch=watch)

    on_gpu = model.device.type == "cuda"
    step = recorded_steps(model, prompt, cache, ordinary, edit=edit) if on_gpu else ordinary
    first = 0
    if opening is not None:
        first = opening.n_positions
        cache.begin_with(opening.kept)
        if edit is not None:
            _edit_opening(model, opening, prompt, cache, edit, first_edit)
        for noise_of_key in noises.values():
            # These steps choose nothing, but their noise was drawn.
            deque(islice(noise_of_key, first), maxlen=0)
    drawn: Iterator[torch.Tensor] = (
        torch.from_numpy(np.stack([next(noise) for noise in noises.values()])) for _ in range(first, steps)
    )
    if on_gpu:
        drawn = ahead((noise.pin_memory() for noise in drawn), n=DRAWN_AHEAD)
    finite = torch.ones(steps, dtype=torch.bool, device=model.device)
    for p, noise in zip(range(first, steps), drawn, strict=True):
        try:
            logits = step(p, input_of(p))
            finite[p], asked = torch.isfinite(logits).all(), p % STEPS_UNASKED == 0 or p == steps - 1
        except NotFiniteError:
            # Raised by an edit.
            finite[p], asked = False, True
        if asked and not bool(finite.all()):
            # Compute that step again and check every layer.
            first = int(finite.long().argmin())
            ordinary(first, input_of(first), check_layer)
            raise not_finite("the logits", model.dtype)
        if guided:
            conditional, unconditional = logits.chunk(2)
            logits = unconditional + sampling.cfg_coef * (conditional - unconditional)
        choice = choose(logits, noise.to(model.device, non_blocking=True)[of_row], sampling)
        for k, frame in chosen_frames(p, model.delays, n_frames):
            out[:, k, frame] = torch.where(forced[:, frame], out[:, k, frame], choice[:, k])
        if on_step:
            on_step(p + 1, steps)
    return out


def _edit_opening(
    model: Model,
    opening: Opening,
    prompt: PromptKeys,
    cache: KeyValueCache,
    edit: EditFunction,
    first_edit: tuple[int, int],
) -> None:
    """Compute the layers above the first edit at the opening's positions. Their keys and values go into the cache."""
    below, start = first_edit

    def step(p: int, watch: Watch = ignore) -> None:
        def attend(layer: int, q: torch.Tensor, k: torch.Tensor, v: torch.Tensor) -> torch.Tensor:
            return cache.attend(layer, p, q, k, v)

        x = edit(below, p, opening.streams[below][:, p : p + 1])
        watch(below, x, ", as edited,")
        for _ in layers_after(
            model, below, x, prompt, attend, start=p, n_layers=model.n_layers, edit=edit, watch=watch
        ):
            pass

    for p in range(start, opening.n_positions):
        try:
            step(p)
        except NotFiniteError:
            # Raised by an edit. Compute that step again and check every layer.
            step(p, check_layer)
            raise


def _begun(
    model: Model,
    rows: int,
    n_frames: int,
    prefix: torch.Tensor | None,
    n_prefix_frames: Sequence[int] | None,
) -> tuple[torch.Tensor, torch.Tensor]:
    """Tokens `[row, codebook, n_frames]` that contain only the prefixes, and a mask of the prefixes, bool
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
    """Run `generate` in passes of exactly `batch_size` rows.

    The last pass is padded with repeats. With a fixed shape, a matrix product does the same arithmetic for a row
    whatever the other rows are. So a clip's tokens do not depend on the number of clips.

    Parameters
    ----------
    prompts, noise_keys
        One per clip; see `generate`.
    n_frames
        Length of the clips in frames.
    openings
        Tokens `[clip, codebook, frame]` at the start of each clip. None: the whole clip is sampled.

    Yields
    ------
    numpy.ndarray
        Tokens int64 `[<= batch_size, codebook, frame]` of each pass, in order.
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
        # A token is kept if the more likely tokens have at most top_p in total. So at least one is kept.
        outside = probability.cumsum(dim=-1) - probability > sampling.top_p
        logits = logits.masked_fill(torch.zeros_like(outside).scatter(-1, order, outside), float("-inf"))
    return (logits - noise.log()).argmax(dim=-1)
