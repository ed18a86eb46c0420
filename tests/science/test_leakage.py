"""Scramble every token after t: what any predictor knows at t stays the same to the last bit."""

import json

import numpy as np
import pandas as pd
import pytest
import soundfile
import torch

from reprise.audio.descriptors import causal_descriptors
from reprise.models.codec import codec_lookahead_s, decode_audio, encode_audio, encoder_lookahead_s
from reprise.models.forward import teacher_forced
from reprise.models.loading import load_model
from reprise.models.prompts import encode_prompts
from reprise.organisms import score
from reprise.organisms.codec import render_clip
from reprise.saes.loading import load_sae
from reprise.saes.sae import encode
from reprise.storage.files import write_folder
from reprise.storage.stores import read_store
from reprise.targets.labels import horizon_labels
from reprise.targets.recurrence.detection import causal_match
from tests.places import PLANNER
from tests.workflow.conftest import run_script

RESOURCES = PLANNER
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


# --- recordings: their tokens come from an encoder that looks ahead -------------------------------------------------


def rewritten(audio, t_s, seed):
    """A recording that is another one from t_s on."""
    changed = audio.copy()
    start = round(t_s * 16_000)
    changed[start:] = np.random.default_rng(seed).normal(scale=0.3, size=len(audio) - start)
    return changed


@pytest.fixture(scope="module")
def recording():
    return render_clip(score.Clip("piano", "c", "amber", 1, 5, (0, 1, 2, 3, 0, 1, 2, 3)))


@pytest.mark.parametrize("t_s", [6.0, 9.5, 13.32])
def test_tokens_before_a_position_know_a_recording_until_the_encoders_look_ahead(model, recording, t_s):
    """To the frame: a position before t by the look-ahead knows nothing after t, the next one does."""
    ahead = round(encoder_lookahead_s(model) * 25)
    position = int(t_s * 25 + 1e-6) - ahead
    before = encode_audio(model, recording)
    changes = [
        np.flatnonzero((encode_audio(model, rewritten(recording, t_s, s)) != before).any(axis=0)) for s in range(8)
    ]
    assert min(frames[0] for frames in changes) == position


def test_the_look_ahead_is_that_of_the_encoders_layers(model):
    """Where a latent changes at all, by however little: what tokens know can't reach further."""
    audio = torch.randn(2, 1, 100 * 640, generator=torch.Generator().manual_seed(0)) * 0.1
    audio[1, :, : 50 * 640] = audio[0, :, : 50 * 640]
    with torch.no_grad():
        latents = model.codec.encoder(audio)
    first = int(torch.nonzero((latents[0] != latents[1]).any(dim=0))[0])
    assert encoder_lookahead_s(model) == (50 - first) / 25


def test_at_the_time_of_a_label_neither_side_knows_what_a_recording_does_next(model, recording, tmp_path):
    """Labels and descriptors as the workflow makes them: what is read at a time stays the same to the last bit
    whatever the recording goes on with, and the baseline has heard all until then."""
    t_s, ahead = 9.52, round(encoder_lookahead_s(model) * 25)
    versions = {
        "as-it-was": recording,
        "rewritten": rewritten(recording, t_s, 0),
        "sooner": rewritten(recording, t_s - 0.04, 0),
    }
    clips = [{"clip_id": name, "prompt_id": name, "prompt": PROMPT, "seed": 0} for name in versions]
    meta = {"clips": clips, "duration_s": 16.0, "encoder_lookahead_positions": ahead}
    with write_folder(tmp_path / "audio", meta=meta) as folder:
        for name, audio in versions.items():
            soundfile.write(folder / f"{name}.flac", audio, 16_000, subtype="PCM_16")
    identity = {"sample_rate_hz": 16_000, "frame_rate_hz": 25.0, "codec_lookahead_s": codec_lookahead_s(model)}
    (tmp_path / "model.json").write_text(json.dumps(identity))
    inputs = {"model": str(tmp_path / "model.json"), "audio": str(tmp_path / "audio.manifest.json")}
    motif = {"kind": "opening", "start_s": 2.0, "duration_s": 2.0}
    outputs = {"store": str(tmp_path / "heard")}
    target = {"target": {"name": "recurrence"}, "known": motif}
    run_script("descriptors", tmp_path / "log", inputs, outputs, descriptors={"context_s": 3.0}, **target)
    heard = read_store(tmp_path / "heard")["descriptors"][:]

    table = pd.DataFrame(clips).assign(duration_s=16.0, reference_end_s=4.0)
    events = pd.DataFrame({"clip_id": [], "onset_s": [], "duration_s": [], "accepted": []})
    labels = horizon_labels(
        events, table, (1.0, 2.0), context_s=3.0, step_s=0.04, frame_rate_hz=25.0, lookahead_positions=ahead
    )
    at = labels[np.isclose(labels["time_s"], t_s)]["position"].unique().item()
    text = encode_prompts(model, [PROMPT])
    streams = []
    for audio in versions.values():
        tokens = torch.from_numpy(encode_audio(model, audio).astype(np.int64))[None]
        captured, _ = teacher_forced(model, tokens, text, layers=[-1, 2])
        streams.append(torch.cat([captured[-1], captured[2]], dim=-1)[0].numpy())
    for known in (heard, streams):
        assert np.array_equal(known[0][: at + 1], known[1][: at + 1])
    # The baseline hears up to the time itself: what changes a frame sooner, it hears.
    assert not np.array_equal(heard[0][at], heard[2][at])
    # Without minding the encoder, the stream would know some of what follows.
    naive = round(t_s * 25)
    assert not np.array_equal(streams[0][naive], streams[1][naive])
