"""Recordings as audio: verified, decoded, cut into clips of the model's sample rate.

Conventions. Audio is mono, the mean of the channels. A track is cut from its start into pieces of a clip's length, a
rest that is shorter is dropped, and of more pieces than are wanted some are taken that lie evenly over the track. A
cut's number says where it lies: it begins at number x clip length.

A file that cannot be used is a RecordingError with the reason: it is missing, its content is not what the manifest's
checksum says, it is too short for one clip, or it cannot be decoded. ffmpeg decodes it from its beginning to its end
(PyAV): what a file's header says of its length is not believed, and MP3 files without one are read like others.
"""

from collections.abc import Iterator
from pathlib import Path

import av
import julius
import numpy as np
import torch

from reprise.stores import digest_file


class RecordingError(ValueError):
    """Why a recording is left out."""


def read_recording(path: Path, sha256: str) -> tuple[np.ndarray, int]:
    """A whole file's audio, mono float32 `[sample]`, and its sample rate in Hz, after checking its SHA-256.

    Raises RecordingError where it is missing, has another checksum or cannot be decoded.
    """
    if not path.is_file():
        raise RecordingError("missing")
    try:
        if (found := digest_file(path)) != sha256:
            raise RecordingError(f"checksum: SHA-256 is {found}, and the manifest says {sha256}")
        audio, sample_rate_hz = _decode(path)
    except RecordingError:
        raise
    except (av.FFmpegError, OSError, ValueError) as error:
        raise RecordingError(f"cannot be decoded: {getattr(error, 'strerror', None) or error}") from None
    if not np.isfinite(audio).all():
        raise RecordingError(f"cannot be decoded: {np.count_nonzero(~np.isfinite(audio))} samples are NaN or infinite")
    return audio, sample_rate_hz


def _decode(path: Path) -> tuple[np.ndarray, int]:
    with av.open(str(path)) as container:
        if not container.streams.audio:
            raise ValueError("there is no audio in it")
        stream = container.streams.audio[0]
        # To one float array a channel, whatever the file has; rate and channels stay.
        planes = av.AudioResampler(format="fltp")
        mono = [
            plane.to_ndarray().mean(axis=0)
            for frame in (*container.decode(stream), None)
            for plane in planes.resample(frame)
        ]
        return np.concatenate([np.empty(0, np.float32), *mono]), stream.rate


def cuts(
    audio: np.ndarray, sample_rate_hz: int, *, n_samples: int, to_hz: int, max_cuts: int
) -> Iterator[tuple[int, np.ndarray]]:
    """Up to `max_cuts` pieces of a track: (number, mono float32 `[n_samples]` at `to_hz`), in order.

    Each piece is resampled by itself, so that it says nothing of what comes after it. Raises RecordingError where the
    track is shorter than one piece.
    """
    # In samples of the track; a fraction of one is left between pieces whose length is not a whole number of them.
    length = n_samples * sample_rate_hz / to_hz
    n_pieces = int(len(audio) / length + 1e-9)
    if n_pieces == 0:
        too_short = f"{len(audio) / sample_rate_hz:.1f} s, and a clip has {n_samples / to_hz:g} s"
        raise RecordingError(f"too short: {too_short}")
    chosen = range(n_pieces)
    if n_pieces > max_cuts:
        chosen = [int((i + 0.5) * n_pieces / max_cuts) for i in range(max_cuts)]
    for number in chosen:
        start = round(number * length)
        piece = torch.from_numpy(audio[start : start + round(length)])[None]
        yield number, _exactly(julius.resample_frac(piece, sample_rate_hz, to_hz)[0].numpy(), n_samples)


def _exactly(audio: np.ndarray, n_samples: int) -> np.ndarray:
    """Audio of this many samples, which resampling may miss by one."""
    return np.pad(audio[:n_samples], (0, max(0, n_samples - len(audio))))
