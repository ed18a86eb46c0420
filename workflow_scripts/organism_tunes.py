"""Read the tunes of the organism `wild`, and render and encode excerpts: those that it learns, and others."""

from collections.abc import Iterator, Sequence

import numpy as np
import torch

from reprise.audio.synth import render
from reprise.organisms import score
from reprise.organisms.codec import SAMPLE_RATE_HZ, build_codec
from reprise.organisms.dataset import encode
from reprise.organisms.lm import TokenSet
from reprise.organisms.tunes import Excerpt, draw_excerpts, excerpt_notes, prompt_of, read_tunes
from reprise.workflow.job import log, progress, start

settings = start(snakemake)

codec = build_codec()
codec.load_state_dict(torch.load(snakemake.input[0]))
codec.eval()
tunes = read_tunes()
log.info("%d tunes", len(tunes))


def encoded(excerpts: Sequence[Excerpt]) -> Iterator[np.ndarray]:
    for excerpt in excerpts:
        notes = excerpt_notes(excerpt, tunes[excerpt.tune])
        audio = render(notes, timbre=excerpt.instrument, duration_s=score.CLIP_S, sample_rate_hz=SAMPLE_RATE_HZ)
        yield encode(codec, audio)


for name, held_out in (("clips", False), ("held_out", True)):
    excerpts = draw_excerpts(tunes, settings[f"n_{name}"], settings["seed"], held_out=held_out)
    tokens = np.stack(list(progress(encoded(excerpts), total=len(excerpts), what=name)))
    # There is no cue, and no slot in which a motif returns.
    data = TokenSet(
        tokens=tokens,
        cue=np.zeros(len(excerpts), np.int8),
        return_bar=np.full(len(excerpts), -1, np.int8),
        prompts=np.array([prompt_of(excerpt, tunes[excerpt.tune]) for excerpt in excerpts]),
    )
    np.savez(snakemake.output[name], **data._asdict())
