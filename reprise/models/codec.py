"""Audio to tokens and back, and how far into the future of a moment the codec looks."""

import numpy as np
import torch

from reprise.checkpoints.finite import check_finite
from reprise.models.adapter import Model


@torch.no_grad()
def decode_audio(model: Model, tokens: np.ndarray) -> np.ndarray:
    """Audio of one clip: tokens int `[codebook, frame]` to mono float32 `[sample]` in [-1, 1]. Raises
    NotFiniteError."""
    codes = torch.from_numpy(tokens.astype(np.int64))[None].to(model.device)
    audio = model.tokens_to_audio(codes)[0].mean(dim=0)
    check_finite(audio, "the samples that the codec decodes")
    n_samples = round(tokens.shape[1] / model.frame_rate_hz * model.sample_rate_hz)
    return audio[:n_samples].clamp(-1, 1).float().cpu().numpy()


def codec_lookahead_s(model: Model) -> float:
    """How far into the future of a moment the codec's decoder looks, in seconds.

    MusicGen's codec is not causal: the audio just before t depends on tokens at and after t. What is called known
    at t must therefore end this much earlier. Measured by changing every token from a frame on.
    """
    n_frames = 100
    tokens = np.random.default_rng(0).integers(model.codebook_size, size=(2, model.n_codebooks, n_frames))
    tokens[1, :, : n_frames // 2] = tokens[0, :, : n_frames // 2]
    before, after = (decode_audio(model, t) for t in tokens)
    first_s = float(np.flatnonzero(before != after)[0]) / model.sample_rate_hz
    return max(0.0, n_frames / 2 / model.frame_rate_hz - first_s)


def encoder_lookahead_s(model: Model) -> float:
    """How far into the future of a moment the codec's encoder looks, in seconds.

    Tokens of a recording are not causal: those before position p know the audio until this much after p, with
    MusicGen's codec 4 frames (80 ms). What is known at t must be read that much earlier. Measured by noise that is a
    thousand times louder from a frame's start on, so that whatever reaches an earlier token changes it; a whole number
    of frames.
    """
    n_frames, n_draws = 100, 3
    rng = np.random.default_rng(0)
    audio = rng.normal(scale=0.1, size=(1 + n_draws, n_frames * round(model.sample_rate_hz / model.frame_rate_hz)))
    half = audio.shape[1] // 2
    audio[1:, :half] = audio[0, :half]
    audio[1:, half:] *= 1000
    quiet, *loud = (encode_audio(model, a.astype(np.float32)) for a in audio)
    first = min(np.flatnonzero((tokens != quiet).any(axis=0))[0] for tokens in loud)
    return max(0.0, (n_frames / 2 - float(first)) / model.frame_rate_hz)


@torch.no_grad()
def encode_audio(model: Model, audio: np.ndarray) -> np.ndarray:
    """Tokens uint16 `[codebook, frame]` of mono audio float32 `[sample]` at the model's sample rate.

    Raises ValueError for a codec that scales a clip by its loudness as a whole: every token would know all of it.
    """
    codes = model.audio_to_tokens(torch.from_numpy(audio)[None, None].to(model.device))
    return codes[0].cpu().numpy().astype(np.uint16)
