"""Scramble every token after t: what any predictor knows at t stays the same to the last bit."""

from pathlib import Path

import numpy as np
import pytest
import torch

from reprise.decoding import teacher_forced
from reprise.descriptors import causal_descriptors
from reprise.musicgen import codec_lookahead_s, decode_audio, encode_audio, encode_prompts, load_model
from reprise.organisms import score
from reprise.organisms.codec import render_clip
from reprise.recurrence import causal_match
from reprise.sae import encode
from reprise.sae_files import load_sae

RESOURCES = Path(__file__).parents[2] / "resources" / "planner"
PROMPT = "piano in c, amber theme"


@pytest.fixture(scope="module")
def model():
    return load_model(str(RESOURCES))


@pytest.fixture(scope="module")
def tokens(model):
    clip = score.Clip("piano", "c", "amber", 1, 5, (0, 1, 2, 3, 0, 1, 2, 3))
    return encode_audio(model, render_clip(clip))


def scrambled(tokens, t, seed):
    changed = tokens.copy()
    changed[:, t:] = np.random.default_rng(seed).integers(256, size=changed[:, t:].shape)
    return changed


def heard(model, tokens, lookahead):
    audio = decode_audio(model, tokens)
    acoustic, _ = causal_descriptors(audio, model.sample_rate_hz, frame_rate_hz=25.0, context_s=3.0)
    matches, _ = causal_match(audio, model.sample_rate_hz, frame_rate_hz=25.0, motif_start_s=2.0, motif_duration_s=2.0)
    table = np.column_stack([acoustic, matches])
    # As workflow_scripts/descriptors.py does: what is known at a position ends before the codec's look-ahead.
    return np.concatenate([np.repeat(table[:1], lookahead, axis=0), table])[: len(table)]


@pytest.mark.parametrize("t", [150, 237, 333])
def test_baseline_at_t_knows_nothing_after_t(model, tokens, t):
    lookahead = int(np.ceil(codec_lookahead_s(model) * 25.0 - 1e-9))
    assert lookahead > 0  # the codec is not causal: without the delay this test fails
    before = heard(model, tokens, lookahead)
    after = heard(model, scrambled(tokens, t, seed=t), lookahead)
    assert np.array_equal(before[: t + 1], after[: t + 1])
    assert not np.array_equal(before[t + 1 :], after[t + 1 :])


def test_without_the_codecs_look_ahead_the_baseline_would_leak(model, tokens):
    before, after = heard(model, tokens, 0), heard(model, scrambled(tokens, 237, seed=1), 0)
    assert not np.array_equal(before[:238], after[:238])


@pytest.mark.parametrize("t", [150, 333])
def test_representations_at_t_know_nothing_after_t(model, tokens, t):
    sae = load_sae(RESOURCES / "sae" / "layer2")
    text = encode_prompts(model, [PROMPT])
    found = []
    for clip in (tokens, scrambled(tokens, t, seed=t)):
        captured, _ = teacher_forced(model, torch.from_numpy(clip.astype(np.int64))[None], text, layers=[-1, 2, 4])
        values, indices = encode(sae, captured[2][:, : t + 1])
        found.append([captured[layer][:, : t + 1] for layer in (-1, 2, 4)] + [values, indices])
    for before, after in zip(*found, strict=True):
        assert torch.equal(before, after)
