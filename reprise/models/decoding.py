"""Forward passes of a MusicGen transformer: teacher-forced, and step by step with a static cache.

One implementation of a layer serves both, so that a capture and a generation see the same arithmetic. It
reads the weights that either library loaded (`reprise/models/transformer.py`); parity with both libraries' own forward
passes is tested. What it adds: keys and values live in preallocated caches (audiocraft concatenates them anew each
step), cross-attention keys are computed once, every row can have its own edit, and the sampling noise of a row is a
function of its identity, the step and the codebook alone.

Conventions. Position p is a step of the codebook delay pattern: step 0 is the special token, step p carries
codebook k of frame p - 1 - k, and its output predicts codebook k of frame p - k. `layer L` is the residual stream
after layer L (0-based), before `out_norm`; layer -1 is the input embedding including the position.

With classifier-free guidance (cfg_coef != 1) the batch holds the conditional rows, then the unconditional.

Activations or logits that are NaN or infinite, as where they overflow in float16, are a NotFiniteError that names the
first layer that has them. It is looked for only then: every pass asks one number of its last activations and logits.
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from typing import Any, NamedTuple

import numpy as np
import torch
from torch.nn import functional as F

from reprise.checkpoints.finite import NotFiniteError, all_finite, check_finite, layer_text, not_finite
from reprise.models.musicgen import Model, TextConditions, encode_prompts
from reprise.models.transformer import Layer, sinusoidal_position

# edit(layer, position slice start, x [row, position, d_model]) -> x; called at every layer of an edited pass.
EditFunction = Callable[[int, int, torch.Tensor], torch.Tensor]
# watch(layer, x, how): called with what every layer made, before and after an edit, where that is looked at.
Watch = Callable[[int, torch.Tensor, str], None]
# Steps of a generation after which it is asked whether all logits were finite: asking makes a GPU wait.
STEPS_UNASKED = 64


class Sampling(NamedTuple):
    """Sampling settings: `temperature` > 0; `top_k` 0 for all tokens; `cfg_coef` 1 for no guidance; `top_p` 0 for no
    nucleus."""

    temperature: float
    top_k: int
    cfg_coef: float
    top_p: float = 0.0


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


def _embed(model: Model, sequence: torch.Tensor, start: int) -> torch.Tensor:
    transformer = model.transformer
    x = sum(embedding(sequence[:, k]) for k, embedding in enumerate(transformer.embeddings))
    positions = torch.arange(start, start + sequence.shape[-1], device=x.device)
    sin = sinusoidal_position(positions, model.d_model, max_period=transformer.max_period)
    return x + transformer.positional_scale * sin.to(x.dtype)


def _heads(x: torch.Tensor, n_heads: int) -> torch.Tensor:
    return x.unflatten(-1, (n_heads, -1)).transpose(1, 2)


def _cross_keys(model: Model, text: TextConditions) -> list[tuple[torch.Tensor, torch.Tensor]]:
    """Keys and values `[row, head, word, d_head]` of every layer's cross-attention, computed once."""
    out = []
    for layer in model.transformer.layers:
        attention = layer.cross_attention
        _, k, v = attention.in_proj_weight.chunk(3)
        bias = (None,) * 3 if attention.in_proj_bias is None else attention.in_proj_bias.chunk(3)
        out.append(
            tuple(_heads(F.linear(text.embeddings, w, b), attention.n_heads) for w, b in ((k, bias[1]), (v, bias[2])))
        )
    return out


def _layer(
    layer: Layer,
    x: torch.Tensor,
    attend: Callable[[torch.Tensor, torch.Tensor, torch.Tensor], torch.Tensor],
    cross: tuple[torch.Tensor, torch.Tensor],
    cross_mask: torch.Tensor,
) -> torch.Tensor:
    """One pre-norm layer on x `[row, position, d_model]`; `attend(q, k, v)` does the causal self-attention."""
    own, other = layer.self_attention, layer.cross_attention
    projected = F.linear(layer.norm1(x), own.in_proj_weight, own.in_proj_bias)
    q, k, v = (_heads(part, own.n_heads) for part in projected.chunk(3, dim=-1))
    x = x + own.out_proj(attend(q, k, v).transpose(1, 2).flatten(2))
    d = x.shape[-1]
    q = F.linear(layer.norm_cross(x), other.in_proj_weight[:d], _first(other.in_proj_bias, d))
    found = F.scaled_dot_product_attention(_heads(q, other.n_heads), *cross, attn_mask=cross_mask)
    x = x + other.out_proj(found.transpose(1, 2).flatten(2))
    return x + layer.linear2(layer.activation(layer.linear1(layer.norm2(x))))


def _first(bias: torch.Tensor | None, n: int) -> torch.Tensor | None:
    return None if bias is None else bias[:n]


def _ignore(layer: int, x: torch.Tensor, how: str = "") -> None:
    """Watch nothing."""


def _check(layer: int, x: torch.Tensor, how: str = "") -> None:
    """Raise NotFiniteError unless what a layer made is finite."""
    check_finite(x, layer_text(layer) + how)


def _logits(model: Model, x: torch.Tensor) -> torch.Tensor:
    x = model.transformer.out_norm(x)
    return torch.stack([head(x) for head in model.transformer.heads], dim=1)


@torch.no_grad()
def teacher_forced(
    model: Model,
    tokens: torch.Tensor,
    text: TextConditions,
    *,
    layers: Sequence[int] = (),
    edit: EditFunction | None = None,
    with_logits: bool = False,
) -> tuple[dict[int, torch.Tensor], torch.Tensor | None]:
    """One full pass over given tokens.

    tokens: int64 `[row, codebook, frame]`. Returns the residual stream `[row, frame + 1, d_model]` of each of
    `layers` (-1: input embedding) and, if asked, logits `[row, codebook, frame + 1, card]`, where position p
    predicts codebook k of frame p - k. Causal: position p depends on nothing after it. Raises NotFiniteError.
    """
    cross, mask = _cross_keys(model, text), text.mask[:, None, None, :]
    last = model.n_layers if with_logits else max(layers, default=-1) + 1

    def attend(q: torch.Tensor, k: torch.Tensor, v: torch.Tensor) -> torch.Tensor:
        return F.scaled_dot_product_attention(q, k, v, is_causal=True)

    def run(watch: Watch) -> tuple[dict[int, torch.Tensor], torch.Tensor | None]:
        x = _embed(model, delayed(tokens, model.card), 0)
        watch(-1, x, "")
        captured = {-1: x} if -1 in layers else {}
        for i in range(last):
            x = _layer(model.transformer.layers[i], x, attend, cross[i], mask)
            watch(i, x, "")
            if edit is not None:
                x = edit(i, 0, x)
                watch(i, x, ", as edited,")
            if i in layers:
                captured[i] = x
        return captured, _logits(model, x) if with_logits else None

    with suppress(NotFiniteError):
        captured, logits = run(_ignore)
        if all(map(all_finite, [logits] if logits is not None else [captured[i] for i in captured if i == last - 1])):
            return captured, logits
        del captured, logits
    run(_check)
    raise not_finite("the logits", model.dtype)


@torch.no_grad()
def normed(model: Model, layer: int, x: np.ndarray) -> np.ndarray:
    """The residual stream x `[..., d_model]` after `layer` as what follows takes it in: through the first norm of the
    next layer, or `out_norm` after the last. float32."""
    layers = model.transformer.layers
    norm = layers[layer + 1].norm1 if layer + 1 < len(layers) else model.transformer.out_norm
    return norm(torch.from_numpy(x).to(model.device, model.dtype)).float().cpu().numpy()


def residual_stream(
    model: Model, tokens: Any, prompts: Sequence[str | None], *, layers: Sequence[int], rows: int
) -> Iterator[dict[int, np.ndarray]]:
    """Teacher-forced capture in passes of exactly `rows` rows, the last filled up with repeats.

    tokens: `[clip, codebook, frame]`, an array or a zarr array read pass by pass. Yields, for each pass in order,
    float32 `[<= rows, frame + 1, d_model]` of each layer. A prompt of None: as guidance's unconditional half sees it.
    """
    for start in range(0, len(prompts), rows):
        stop = min(start + rows, len(prompts))
        part = np.asarray(tokens[start:stop]).astype(np.int64)
        part = np.concatenate([part, np.repeat(part[-1:], rows - len(part), axis=0)])
        text = encode_prompts(model, [prompts[min(i, stop - 1)] for i in range(start, start + rows)])
        captured, _ = teacher_forced(model, torch.from_numpy(part).to(model.device), text, layers=layers)
        yield {layer: x[: stop - start].float().cpu().numpy() for layer, x in captured.items()}


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
