"""Measure what an organism does: the numbers on its model card.

Token matches are on the first codebook, which carries the notes. A bar counts as a return of the motif if at least
`RETURN_MATCH` of its first-codebook tokens equal those of the motif bar, frame by frame. A card gives the fraction
that two different bars have in common, and that of a rendered repeat. In a tangle a return is an octave lower, so
there the bar is also compared with the motif rendered in that register. A new section is compared with its own bar,
rendered. The bar of a release is that of the tonic, which the clip plays in the motif's place.
"""

from collections.abc import Callable, Sequence
from typing import cast

import librosa
import numpy as np
import torch
from torch.nn import functional as F

from reprise.models.adapter import Model
from reprise.models.codec import decode_audio, encode_audio
from reprise.models.delay_pattern import predictions
from reprise.models.forward import EditFunction, teacher_forced
from reprise.models.generation import Sampling, generate
from reprise.models.prompts import encode_prompts
from reprise.organisms import score
from reprise.organisms.codec import FRAME_RATE_HZ, SAMPLE_RATE_HZ, render_clip
from reprise.organisms.lm import SLOT_LEAD_FRAMES

BAR_FRAMES = int(score.BAR_S * FRAME_RATE_HZ)
N_FRAMES = score.N_BARS * BAR_FRAMES
RETURN_MATCH = 0.6


def bar(tokens: np.ndarray, index: int) -> np.ndarray:
    """First-codebook tokens of a bar: tokens `[clip, codebook, frame]` to `[clip, BAR_FRAMES]`."""
    return tokens[:, 0, index * BAR_FRAMES : (index + 1) * BAR_FRAMES]


def found_returns(tokens: np.ndarray, rendered: np.ndarray | None = None, *, kind: str = "") -> np.ndarray:
    """The slot bar in which each clip's motif bar returns, -1 if it does not; int `[clip]`. See `slot_matches`."""
    match = slot_matches(tokens, rendered, kind=kind)
    slots = np.array(score.SLOT_BARS)
    return np.where(match.max(axis=0) >= RETURN_MATCH, slots[match.argmax(axis=0)], -1)


def slot_matches(tokens: np.ndarray, rendered: np.ndarray | None = None, *, kind: str = "") -> np.ndarray:
    """The fraction of each slot's tokens that equal those of the event, float `[slot, clip]`.

    The event is the clip's own motif bar, or the bar of `rendered` (of `event_bars`). In a tangle it is the nearer.
    """
    bars = [] if rendered is None else [rendered]
    if rendered is None or kind == "tangle":
        bars.append(bar(tokens, score.MOTIF_BAR))
    slots = [bar(tokens, slot) for slot in score.SLOT_BARS]
    return np.stack([np.max([(slot == event).mean(axis=1) for event in bars], axis=0) for slot in slots])


def event_bars(model: Model, prompts: Sequence[str], kind: str) -> np.ndarray | None:
    """First-codebook tokens of the bar in which each prompt's event is, rendered, int `[prompt, BAR_FRAMES]`; None if
    the event is what the clip itself plays before."""
    if kind not in ("tangle", "section"):
        return None
    slot, found = score.SLOT_BARS[0], {}
    for prompt in dict.fromkeys(prompts):
        sound, theme = prompt.split(", ")
        instrument, key = sound.split(" in ")
        motif = theme.removesuffix(" theme")
        clip = score.Clip(instrument, key, motif, 1, slot, (0,) * score.N_BARS, kind=kind)
        found[prompt] = bar(encode_audio(model, render_clip(clip))[None].astype(np.int64), slot)[0]
    return np.stack([found[prompt] for prompt in prompts])


def found_cues(tokens: np.ndarray, references: np.ndarray) -> np.ndarray:
    """The cue that each clip plays, 0 or 1: the nearer of `references` `[2, clip, BAR_FRAMES]`; int `[clip]`."""
    return (bar(tokens, score.CUE_BAR)[None] == references).mean(axis=-1).argmax(axis=0)


def cue_references(model: Model, prompts: Sequence[str]) -> np.ndarray:
    """First-codebook tokens of both cue bars, rendered and encoded, for each prompt: int `[2, prompt, BAR_FRAMES]`."""
    by_sound: dict[tuple[str, str], np.ndarray] = {}
    for prompt in prompts:
        sound = (prompt.split(" in ")[0], prompt.split(" in ")[1].split(",")[0])
        if sound not in by_sound:
            clip = score.Clip(*sound, next(iter(score.MOTIFS)), 0, -1, (0,) * score.N_BARS)
            encoded = [encode_audio(model, render_clip(clip._replace(cue=cue))) for cue in (0, 1)]
            by_sound[sound] = np.stack([bar(e[None].astype(np.int64), score.CUE_BAR)[0] for e in encoded])
    sounds = [(p.split(" in ")[0], p.split(" in ")[1].split(",")[0]) for p in prompts]
    return np.stack([by_sound[s] for s in sounds], axis=1)


def generation_figures(
    model: Model,
    prompts: Sequence[str],
    seeds: Sequence[int],
    *,
    sampling: Sampling,
    kind: str = "",
    batch_size: int = 96,
    on_batch: Callable[[int, int], None] | None = None,
) -> dict[str, float]:
    """Generate every (prompt, seed) and measure how returns depend on the cue that the model itself played.

    Parameters
    ----------
    model : Model
        The organism.
    prompts, seeds : sequences of str, of int
        One clip is generated for each pair.
    sampling : Sampling
        How tokens are sampled.
    kind : str
        The kind of clips that it learnt, one of `score.KINDS` or "".
    batch_size : int
        Clips in one forward pass.
    on_batch : callable, optional
        Called after each batch with the number of clips generated so far and of all clips.

    Returns
    -------
    dict of str to float
        Number of clips, and fractions. A fraction of no clips is NaN.
    """
    clips = [(p, s) for s in seeds for p in prompts]
    tokens = []
    for start in range(0, len(clips), batch_size):
        part = clips[start : start + batch_size]
        keys = [(9_001, prompts.index(p), s) for p, s in part]
        tokens.append(generate(model, [p for p, _ in part], keys, n_frames=N_FRAMES, sampling=sampling).numpy())
        if on_batch:
            on_batch(min(start + batch_size, len(clips)), len(clips))
    all_tokens = np.concatenate(tokens)
    cues = found_cues(all_tokens, cue_references(model, [p for p, _ in clips]))
    rendered = event_bars(model, [p for p, _ in clips], kind)
    slots = found_returns(all_tokens, rendered, kind=kind)
    returned = slots >= 0
    identity = slot_matches(all_tokens, rendered, kind=kind).max(axis=0)[returned]
    return {
        "n_clips": len(clips),
        "cue_fraction": float(cues.mean()),
        "return_rate": float(returned.mean()),
        "return_rate_when_cued": float(returned[cues == 1].mean()),
        "return_rate_when_not_cued": float(returned[cues == 0].mean()),
        "obeys_cue": float((returned == (cues == 1)).mean()),
        "return_at_first_slot": float((slots[returned] == score.SLOT_BARS[0]).mean())
        if returned.any()
        else float("nan"),
        "motif_identity": float(identity.mean()) if returned.any() else float("nan"),
    }


def slot_nll(
    model: Model,
    tokens: torch.Tensor,
    prompts: Sequence[str],
    *,
    edit_of: Callable[[int, int], EditFunction] | None = None,
) -> np.ndarray:
    """NLL of the slots' bars, summed over all codebooks, in nats, float `[clip]`.

    Whole bars, because two motifs begin as a filler does: `amber` and `fjord`.

    tokens: int `[clip, codebook, frame]`. prompts: the prompt of each clip. edit_of: the edit of the clips from one
    index to before another.
    """
    first, last = score.SLOT_BARS[0], score.SLOT_BARS[-1]
    decided = slice(first * BAR_FRAMES - SLOT_LEAD_FRAMES, (last + 1) * BAR_FRAMES)
    out = []
    for start in range(0, len(tokens), 16):
        part = tokens[start : start + 16]
        text = encode_prompts(model, list(prompts[start : start + 16]))
        edit = edit_of(start, start + 16) if edit_of else None
        _, logits = teacher_forced(model, part, text, with_logits=True, edit=edit)
        total = torch.zeros(len(part))
        for k, predicted in predictions(cast(torch.Tensor, logits), model.delays):
            n = N_FRAMES - k
            nll = F.cross_entropy(predicted[:, :n].transpose(1, 2), part[:, k, :n], reduction="none")
            total += nll[:, decided].sum(dim=1)
        out.append(total.numpy())
    return np.concatenate(out)


def agreeing_clips(n: int, seed: int) -> list[score.Clip]:
    """`n` held-out clips whose return agrees with their cue."""
    clips = (score.draw_clip(np.random.default_rng([seed, 4, i])) for i in range(100 * n))
    return [c for c, _ in zip((c for c in clips if (c.return_bar >= 0) == (c.cue == 1)), range(n), strict=False)]


def codec_figures(model: Model, n: int, seed: int) -> dict[str, float]:
    """Measure the codec on `n` held-out clips drawn from `seed`.

    Chroma similarity (mean cosine over frames) of decoded clips to their originals, and to another clip for
    comparison; and the fraction of first-codebook tokens that a repeated bar and another bar share with the motif.
    """
    same, other, repeat, different, previous = [], [], [], [], None
    for i in range(n):
        clip = score.draw_clip(np.random.default_rng([seed, 5, i]))
        audio = render_clip(clip)
        tokens = encode_audio(model, audio)
        original, decoded = _chroma(audio), _chroma(decode_audio(model, tokens))
        same.append(float((original * decoded).sum(axis=0).mean()))
        if previous is not None:
            other.append(float((previous * decoded).sum(axis=0).mean()))
        previous = original
        bars = tokens[None].astype(np.int64)
        motif = bar(bars, score.MOTIF_BAR)
        different.append(float((bar(bars, 2) == motif).mean()))
        if clip.return_bar >= 0:
            repeat.append(float((bar(bars, clip.return_bar) == motif).mean()))
    return {
        "n_clips": n,
        "chroma_similarity": float(np.mean(same)),
        "chroma_similarity_worst": float(np.min(same)),
        "chroma_similarity_chance": float(np.mean(other)),
        "repeat_token_match": float(np.mean(repeat)),
        "other_bar_token_match": float(np.mean(different)),
    }


def _chroma(audio: np.ndarray) -> np.ndarray:
    chroma = librosa.feature.chroma_stft(y=audio, sr=SAMPLE_RATE_HZ, n_fft=2048, hop_length=1280, tuning=0.0)
    return chroma / np.maximum(np.linalg.norm(chroma, axis=0), 1e-9)
