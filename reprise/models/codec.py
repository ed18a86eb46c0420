"""Audio to tokens and back, and how far around itself a token is heard."""

from typing import NamedTuple

import numpy as np
import torch

from reprise.checkpoints.finite import check_finite
from reprise.models.adapter import Model


@torch.no_grad()
def decode_audio(model: Model, tokens: np.ndarray) -> np.ndarray:
    """Decode the audio of one clip: tokens int `[codebook, frame]` to mono float32 `[sample]` in [-1, 1].

    Raises NotFiniteError if decoded samples are NaN or infinite.
    """
    codes = torch.from_numpy(tokens.astype(np.int64))[None].to(model.device)
    audio = model.tokens_to_audio(codes)[0].mean(dim=0)
    check_finite(audio, "the samples that the codec decodes")
    n_samples = round(tokens.shape[1] / model.frame_rate_hz * model.sample_rate_hz)
    return audio[:n_samples].clamp(-1, 1).float().cpu().numpy()


class Reach(NamedTuple):
    """How many frames before and after its own a token changes the decoded audio."""

    before: int
    after: int


def decoder_reach(model: Model) -> Reach | None:
    """The reach of the codec's decoder; None if it is recurrent or not bounded, so that clips are decoded whole.

    Measured by changing one frame of random tokens, with one frame of margin on either side.
    """
    hop = model.sample_rate_hz / model.frame_rate_hz
    if hop != int(hop) or any(isinstance(part, torch.nn.RNNBase) for part in model.codec.modules()):
        return None
    n_frames, changed_at = 101, 50
    tokens = np.random.default_rng(0).integers(model.codebook_size, size=(2, model.n_codebooks, n_frames))
    tokens[1] = tokens[0]
    tokens[1, :, changed_at] = (tokens[0, :, changed_at] + 1) % model.codebook_size
    before, after = (decode_audio(model, each) for each in tokens)
    frames = np.flatnonzero(before != after) // int(hop)
    if not len(frames) or frames[0] == 0 or frames[-1] == n_frames - 1:
        return None
    return Reach(changed_at - int(frames[0]) + 1, int(frames[-1]) - changed_at + 1)


def decode_again(
    model: Model, tokens: np.ndarray, like: np.ndarray, audio: np.ndarray, reach: Reach | None
) -> np.ndarray:
    """Decode a clip that begins as another one does, from where they differ.

    Parameters
    ----------
    model : Model
        The model.
    tokens : integer array `[codebook, frame]`
        The clip.
    like : integer array `[codebook, frame]`
        The other clip.
    audio : float32 array `[sample]`
        The other clip's audio, from `decode_audio`.
    reach : Reach or None
        From `decoder_reach`.

    Returns
    -------
    float32 array `[sample]`
        What `decode_audio` gives, to about 1e-6.
    """
    differ = np.flatnonzero((tokens != like).any(axis=0))
    if not len(differ):
        return audio
    if reach is None or differ[0] <= reach.before + reach.after:
        return decode_audio(model, tokens)
    hop = round(model.sample_rate_hz / model.frame_rate_hz)
    new = int(differ[0]) - reach.before
    first = new - reach.after
    return np.concatenate([audio[: new * hop], decode_audio(model, tokens[:, first:])[(new - first) * hop :]])


def codec_lookahead_s(model: Model) -> float:
    """The lookahead of the codec's decoder, in seconds.

    MusicGen's codec is not causal: the audio just before t depends on tokens at and after t. So the data that are
    treated as known at t must end this much earlier. Measured by changing every token from one frame onwards.

    Raises ValueError for a codec whose audio does not depend on tokens.
    """
    n_frames = 100
    tokens = np.random.default_rng(0).integers(model.codebook_size, size=(2, model.n_codebooks, n_frames))
    tokens[1, :, : n_frames // 2] = tokens[0, :, : n_frames // 2]
    before, after = (decode_audio(model, t) for t in tokens)
    differ = np.flatnonzero(before != after)
    if not len(differ):
        raise ValueError("codec: it decodes other tokens to the same audio; valid: a trained codec")
    return max(0.0, n_frames / 2 / model.frame_rate_hz - float(differ[0]) / model.sample_rate_hz)


def encoder_lookahead_s(model: Model) -> float:
    """The lookahead of the codec's encoder, in seconds.

    The tokens of a recording are not causal: tokens before position p depend on audio up to this much after p (4
    frames, 80 ms, with MusicGen's codec). So what is known at t must be read that much earlier. Measured with noise
    that becomes 1000 times louder at the start of one frame. This changes every earlier token that depends on it. The
    result is a whole number of frames.

    Raises ValueError for a codec whose tokens do not depend on audio.
    """
    n_frames, n_draws = 100, 3
    rng = np.random.default_rng(0)
    audio = rng.normal(scale=0.1, size=(1 + n_draws, n_frames * round(model.sample_rate_hz / model.frame_rate_hz)))
    half = audio.shape[1] // 2
    audio[1:, :half] = audio[0, :half]
    audio[1:, half:] *= 1000
    quiet, *loud = (encode_audio(model, a.astype(np.float32)) for a in audio)
    differ = [np.flatnonzero((tokens != quiet).any(axis=0)) for tokens in loud]
    if not all(map(len, differ)):
        raise ValueError("codec: it encodes quiet and loud noise as the same tokens; valid: a trained codec")
    first = min(each[0] for each in differ)
    return max(0.0, (n_frames / 2 - float(first)) / model.frame_rate_hz)


@torch.no_grad()
def encode_audio(model: Model, audio: np.ndarray) -> np.ndarray:
    """Encode mono audio float32 `[sample]`, at the model's sample rate, as tokens uint16 `[codebook, frame]`.

    Raises ValueError if the codec scales a clip by its overall loudness: every token would depend on the whole clip.
    """
    codes = model.audio_to_tokens(torch.from_numpy(audio)[None, None].to(model.device))
    return codes[0].cpu().numpy().astype(np.uint16)
