"""Clips that begin alike are decoded from where they differ, where the codec allows it."""

import numpy as np
import pytest
import torch

from reprise.models import codec
from reprise.models.adapter import Model
from reprise.models.codec import (
    Reach,
    codec_lookahead_s,
    decode_again,
    decode_audio,
    decoder_reach,
    encoder_lookahead_s,
)
from reprise.models.loading import load_model
from tests.places import PLANNER


@pytest.fixture(scope="module")
def model() -> Model:
    return load_model(str(PLANNER))


@pytest.mark.parametrize("differ_at", [0, 8, 60, 119, 120])
def test_a_clip_that_begins_as_another_sounds_as_if_decoded_whole(model: Model, differ_at: int) -> None:
    like = np.random.default_rng(0).integers(model.codebook_size, size=(model.n_codebooks, 120))
    tokens = like.copy()
    tokens[:, differ_at:] = (tokens[:, differ_at:] + 7) % model.codebook_size
    audio, reach = decode_audio(model, like), decoder_reach(model)
    assert reach is not None and reach.before + reach.after < 20
    found, whole = decode_again(model, tokens, like, audio, reach), decode_audio(model, tokens)
    np.testing.assert_allclose(found, whole, atol=1e-6)
    assert differ_at == 120 or not np.allclose(whole, audio, atol=1e-2)


def test_less_than_the_reach_would_be_heard(model: Model) -> None:
    like = np.random.default_rng(0).integers(model.codebook_size, size=(model.n_codebooks, 120))
    tokens = np.roll(like, 3, axis=1)
    tokens[:, :60] = like[:, :60]
    audio, whole = decode_audio(model, like), decode_audio(model, tokens)
    assert np.abs(decode_again(model, tokens, like, audio, Reach(0, 1)) - whole).max() > 1e-3


def test_a_recurrent_codec_is_decoded_whole(model: Model, monkeypatch: pytest.MonkeyPatch) -> None:
    recurrent = model._replace(codec=torch.nn.Sequential(model.codec, torch.nn.LSTM(2, 2)))
    assert decoder_reach(recurrent) is None
    tokens = np.random.default_rng(0).integers(model.codebook_size, size=(2, model.n_codebooks, 60))
    tokens[1, :, :40] = tokens[0, :, :40]
    lengths: list[int] = []
    monkeypatch.setattr(codec, "decode_audio", lambda _, part: lengths.append(part.shape[1]) or part)
    decode_again(recurrent, tokens[1], tokens[0], np.zeros(60 * 640, np.float32), None)
    assert lengths == [60]


def test_a_codec_that_hears_nothing_is_refused(model: Model) -> None:
    def constant(of: torch.Tensor) -> torch.Tensor:
        return torch.zeros(1, 1, of.shape[-1] * 640)

    with pytest.raises(ValueError, match="other tokens to the same audio"):
        codec_lookahead_s(model._replace(tokens_to_audio=constant))
    with pytest.raises(ValueError, match="quiet and loud noise as the same tokens"):
        encoder_lookahead_s(model._replace(audio_to_tokens=lambda audio: torch.zeros(1, 4, audio.shape[-1] // 640)))
