"""Recordings as audio: verified, decoded, cut into clips of the model's sample rate.

Conventions. Audio is mono, the mean of the channels. A track is cut from its start into pieces of a clip's length, a
rest that is shorter is dropped, and of more pieces than are wanted some are taken that lie evenly over the track. A
cut's number says where it lies: it begins at number x clip length. Stretches are (start, stop) in samples of the file.

A file that cannot be used is a RecordingError with the reason: it is missing, its content is not what the manifest's
checksum says, it is too short for one clip, it cannot be decoded, or it has another scale than -1 to 1. ffmpeg decodes
it from its beginning to its end (PyAV): what a file's header says of its length is not believed, and MP3 files without
one are read like others.

What a player plays is read. Bytes that cannot be decoded are passed over; where timestamps say that this took time,
there is silence instead, so that what follows stays where it was. Every such place is a gap, of no length where no
time is known to be lost, and a cut that holds one is left out, as is a silent one and one whose channels cancel in
their mean: nothing would be there to return, and the clip would count as one without a return.
"""

import string
import struct
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import av
import numpy as np
import soxr

from reprise.audio.io import SILENT_PEAK, peak_dbfs, swing
from reprise.storage.files import digest_file

# MP3 and others may decode to a little more than full scale; integers that were stored as floats are thousands.
MAX_SAMPLE = 4.0
# No more frames than these are damaged without the decoder's knowledge; of another scale are most.
_GLITCHES = 0.01
# Below this share of the channels' power (-30 dB) their mean is no mix of them: ordinary stereo keeps a tenth or more.
MIN_MIXED_FRACTION = 1e-3
# Timestamps in whole milliseconds move by less; no codec's frame is shorter.
_JUMP_S = 0.002
# No stretch longer than this was lost: the timestamps are wrong.
_MAX_LOST_S = 60.0
# What follows damage still rests on it, by MP3's bit reservoir and the overlap of frames.
_AFTER_GAP_S = 0.1
# More places than these in one line help nobody.
_MAX_TOLD = 5
# Rows of `Recording.frames`.
_FRAME = np.dtype(
    [("start", np.int64), ("stop", np.int64), ("mixed", np.float64), ("channels", np.float64), ("peak", np.float64)]
)


class RecordingError(ValueError):
    """Why a recording is left out."""


class Recording(NamedTuple):
    """A decoded file: `audio` mono float32 `[sample]`, its `sample_rate_hz`, the `gaps` in it, and `frames` `[frame]`
    with the fields start, stop, `mixed` (energy of the channels' mean), `channels` (mean of the channels' energies),
    both without an offset, and `peak` (the largest sample of any channel)."""

    audio: np.ndarray
    sample_rate_hz: int
    gaps: tuple[tuple[int, int], ...]
    frames: np.ndarray


class _Fault(NamedTuple):
    """What could not be decoded: why, and when it would be played, in seconds by the file's timestamps."""

    error: Exception
    at_s: float | None = None


def read_recording(path: Path, sha256: str) -> Recording:
    """A whole file's audio, after checking its SHA-256. Raises RecordingError where it is missing, has another
    checksum, cannot be decoded or has another scale."""
    try:
        if not path.is_file():
            raise RecordingError("missing")
        if (found := digest_file(path)) != sha256:
            raise RecordingError(f"checksum: SHA-256 is {found}, and the manifest says {sha256}")
        recording = _decode(path)
    except RecordingError:
        raise
    except (av.FFmpegError, OSError, ValueError) as error:
        raise RecordingError(f"cannot be decoded: {getattr(error, 'strerror', None) or error}") from None
    audio = recording.audio
    if not np.isfinite(audio).all():
        raise RecordingError(f"cannot be decoded: {np.count_nonzero(~np.isfinite(audio))} samples are NaN or infinite")
    peaks = recording.frames["peak"]
    if (peaks > MAX_SAMPLE).mean() > _GLITCHES:
        text = f"the largest is {peaks.max():.6g}, as of integers that were stored as floats"
        raise RecordingError(f"samples far outside -1 to 1: {text}")
    return recording


def gaps_in_words(recording: Recording) -> str:
    """Where a recording could not be decoded, in seconds; "" where it could everywhere."""
    return _places(recording.gaps, recording.sample_rate_hz)


def cut_fault(recording: Recording, stretch: tuple[int, int]) -> str:
    """Why a stretch of a recording cannot be used; "" where it can. The kind of reason stands before a colon."""
    start, stop = stretch
    rate_hz = recording.sample_rate_hz
    where = _seconds(stretch, rate_hz)
    if gaps := [gap for gap in recording.gaps if gap[0] < stop and gap[1] + _AFTER_GAP_S * rate_hz > start]:
        return f"damaged: {where} holds what cannot be decoded, at {_places(gaps, rate_hz)}"
    frames = recording.frames
    heard = frames[(frames["start"] < stop) & (frames["stop"] > start)]
    if (largest := heard["peak"].max(initial=0)) > MAX_SAMPLE:
        return f"samples far outside -1 to 1: in {where} the largest is {largest:.3g}"
    # A frame that reaches out of the stretch says what is beside it too; where all do, they are all there is.
    inside = heard[(heard["start"] >= start) & (heard["stop"] <= stop)]
    heard = inside if len(inside) else heard
    mixed, channels = heard["mixed"].sum(), heard["channels"].sum()
    loud = channels > SILENT_PEAK**2 / 2 * (stop - start)
    if loud and mixed < MIN_MIXED_FRACTION * channels:
        return f"channels cancel: in {where} their mean has {mixed / channels:.1g} of their power"
    if (peak := swing(recording.audio[start:stop])) < SILENT_PEAK:
        return f"silent: {where} peaks at {peak_dbfs(peak)}"
    return ""


def _places(stretches: Sequence[tuple[int, int]], rate_hz: int) -> str:
    told = [_seconds(stretch, rate_hz) for stretch in stretches[:_MAX_TOLD]]
    more = len(stretches) - _MAX_TOLD
    return ", ".join(told) + (f" and {more} more" if more > 0 else "")


def _seconds(stretch: tuple[int, int], rate_hz: int) -> str:
    start, stop = (f"{n / rate_hz:.2f}" for n in stretch)
    return f"{start} s" if start == stop else f"{start}-{stop} s"


def usable_cuts(
    recording: Recording, *, n_samples: int, n_heard: int, to_hz: int, max_cuts: int
) -> tuple[dict[int, np.ndarray], dict[int, str]]:
    """The audio of a track's cuts, as far as it is made use of, mono float32 `[n_heard]`, and why others are left out,
    both by number. Raises RecordingError where none is left, or `cuts` does."""
    audio, rate_hz = recording.audio, recording.sample_rate_hz
    pieces, faults = {}, {}
    for number, piece in cuts(audio, rate_hz, n_samples=n_samples, to_hz=to_hz, max_cuts=max_cuts):
        start, stop = (round((number * n_samples + n) * rate_hz / to_hz) for n in (0, n_heard))
        if fault := cut_fault(recording, (start, stop)):
            faults[number] = fault
        else:
            pieces[number] = piece[:n_heard]
    if faults and not pieces:
        first, n = next(iter(faults.values())), len(faults)
        raise RecordingError(first + (f"; none of its {n} cuts can be used" if n > 1 else ""))
    return pieces, faults


def kind_of(reason: str) -> str:
    """What kind of reason it is that something is left out for."""
    return reason.partition(":")[0].partition(",")[0]


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
        piece = soxr.resample(audio[start : start + round(length)], sample_rate_hz, to_hz)
        yield number, _exactly(piece, n_samples)


def _exactly(audio: np.ndarray, n_samples: int) -> np.ndarray:
    """Audio of this many samples, which resampling may miss by one."""
    return np.pad(audio[:n_samples], (0, max(0, n_samples - len(audio))))


# --- decoding -------------------------------------------------------------------------------------------------


def _decode(path: Path) -> Recording:
    with av.open(str(path), options={"ignore_length": "1"} if _understated(path) else {}) as container:
        if not container.streams.audio:
            raise ValueError("there is no audio in it")
        stream = container.streams.audio[0]
        if stream.codec_context.name == "flac":
            # A frame whose checksum is wrong is played otherwise.
            stream.codec_context.options = {"err_detect": "crccheck+explode"}
        return _on_its_timeline(_played(container, stream))


def _on_its_timeline(played: Iterator[Any]) -> Recording:
    """What `_played` gives, one after the other, with silence where timestamps say that something was lost."""
    mono: list[np.ndarray] = []
    frames: list[tuple[int, int, float, float, float]] = []
    gaps: list[tuple[int, int]] = []
    faults: list[Exception] = []
    n, rate_hz, damaged = 0, 0, False
    ended_s, resampler, form = None, None, None
    for frame in played:
        if not isinstance(frame, _Fault) and frame.sample_rate != (rate_hz or frame.sample_rate):
            # What bytes that are no audio were taken for.
            frame = _Fault(ValueError("its sample rate changes"))
        if isinstance(frame, _Fault):
            faults.append(frame.error)
            damaged, ended_s = True, frame.at_s if ended_s is None else ended_s
            continue
        rate_hz = frame.sample_rate
        starts_s = ended_s if frame.pts is None else float(frame.pts * frame.time_base)
        jump_s = 0.0 if ended_s is None or starts_s is None else starts_s - ended_s
        if damaged or abs(jump_s) > _JUMP_S:
            lost = round(jump_s * rate_hz) if _JUMP_S < jump_s < _MAX_LOST_S else 0
            mono.append(np.zeros(lost, np.float32))
            gaps.append((n, n + lost))
            n, damaged = n + lost, False
        ended_s = (starts_s or 0.0) + frame.samples / rate_hz
        if (frame.format.name, frame.layout.name) != form:
            # To one float array a channel, whatever the file has; rate and channels stay.
            resampler, form = av.AudioResampler(format="fltp"), (frame.format.name, frame.layout.name)
        for plane in resampler.resample(frame):
            channels = plane.to_ndarray()
            mixed, first = channels.mean(axis=0), n
            mono.append(mixed)
            n += len(mixed)
            peak = float(np.abs(channels).max(initial=0))
            frames.append((first, n, _energy(mixed[None]), _energy(channels), peak))
    if damaged:
        gaps.append((n, n))
    # Bytes that are no audio at all hold what looks like a frame, here and there.
    if not n or len(faults) > len(frames) or 2 * sum(stop - start for start, stop in gaps) > n:
        raise faults[0] if faults else ValueError("there is no audio in it")
    return Recording(np.concatenate(mono), rate_hz, tuple(gaps), np.array(frames, _FRAME))


def _energy(channels: np.ndarray) -> float:
    """Sum of squares over time of float32 `[channel, sample]` without each channel's offset, the channels' mean."""
    n = max(1, channels.shape[1])
    sums = channels.sum(axis=1, dtype=np.float64)
    return max(0.0, float(np.vdot(channels, channels)) - float(sums @ sums) / n) / len(channels)


def _played(container: Any, stream: Any) -> Iterator[Any]:
    """Frames of audio in their order, and a `_Fault` in place of what cannot be decoded."""
    for packet in _packets(container, stream):
        if isinstance(packet, _Fault):
            yield packet
            continue
        times = [float(t * stream.time_base) for t in (packet.pts, stream.start_time) if t is not None]
        if packet.is_corrupt or _holds_junk(packet, stream):
            yield _Fault(ValueError("Invalid data found when processing input"), max(times, default=None))
        try:
            yield from packet.decode()
        except av.FFmpegError as error:
            yield _Fault(error, max(times, default=None))


def _packets(container: Any, stream: Any) -> Iterator[Any]:
    """Packets to the end of the file, a `_Fault` in place of what cannot be read."""
    packets, failed = container.demux(stream), False
    while True:
        try:
            packet = next(packets)
        except StopIteration:
            return
        except av.FFmpegError as error:
            yield _Fault(error)
            if failed:
                return  # twice at one place: there is no further
            packets, failed = container.demux(stream), True
        else:
            failed = False
            yield packet


_MP3_KBPS = {
    3: (32, 40, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320),
    2: (8, 16, 24, 32, 40, 48, 56, 64, 80, 96, 112, 128, 144, 160),
}
_MP3_RATES_HZ = (44_100, 48_000, 32_000)


def _holds_junk(packet: Any, stream: Any) -> bool:
    """Whether a packet of MP3 is longer than its header says. The decoder passes over some bytes that are no audio,
    and the frames that were there before, without a word."""
    if stream.codec_context.name not in ("mp3", "mp3float") or packet.size < 4:
        return False
    size = mp3_frame_bytes(bytes(packet)[:4])
    return size is not None and size != packet.size


def mp3_frame_bytes(header: bytes) -> int | None:
    """Length of the MP3 frame (layer III) with this header of 4 bytes; None where it does not say, 0 where they are
    none."""
    (bits,) = struct.unpack(">I", header)
    version, layer, kbps, rate = bits >> 19 & 3, bits >> 17 & 3, bits >> 12 & 15, bits >> 10 & 3
    if bits >> 21 != 0x7FF or version == 1 or layer != 1 or kbps == 15 or rate == 3:
        return 0
    if kbps == 0:
        return None
    # Version 3 is MPEG-1; 2 (MPEG-2) has half its rates and 0 (2.5) a quarter, and half as many samples a frame.
    rate_hz = _MP3_RATES_HZ[rate] >> {3: 0, 2: 1, 0: 2}[version]
    per_frame = 144 if version == 3 else 72
    return per_frame * _MP3_KBPS[3 if version == 3 else 2][kbps - 1] * 1000 // rate_hz + (bits >> 9 & 1)


def _understated(path: Path) -> bool:
    """Whether a WAV file's data go on after the length that it states, as where its writer was killed. What may follow
    them otherwise is another chunk, or text."""
    with open(path, "rb") as file:
        head = file.read(12)
        if head[:4] not in (b"RIFF", b"RF64") or head[8:] != b"WAVE":
            return False
        n_bytes, long_size = path.stat().st_size, None
        while len(chunk := file.read(8)) == 8:
            (name, size), start = struct.unpack("<4sI", chunk), file.tell()
            if name == b"ds64" and size >= 16:
                long_size = struct.unpack("<QQ", file.read(16))[1]
            if name == b"data":
                size = long_size if size == 0xFFFFFFFF and long_size is not None else size
                file.seek(min(start + size, n_bytes))
                return _is_sound(file.read(1024), n_bytes - start - size)
            file.seek(start + size + size % 2)
    return False


def _is_sound(after: bytes, n_bytes: int) -> bool:
    """Whether what follows a WAV file's data, `after` its beginning, goes on with them."""
    printable = string.printable.encode()
    of_text = sum(byte in printable for byte in after)
    if len(after) < 16 or after.startswith(b"TAG") or of_text > 0.95 * len(after):
        return False
    # Chunks begin at even places, which not every writer heeds.
    for shift in (0, 1):
        name, size = struct.unpack_from("<4sI", after, shift)
        if all(byte in printable for byte in name) and shift + 8 + size <= n_bytes:
            return False
    return True
