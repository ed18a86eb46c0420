"""Recordings as audio: verified, decoded, and cut into clips at the model's sample rate.

Conventions. Audio is mono: the mean of the channels. A track is cut from its start into pieces of a clip's length. A
shorter rest at the end is dropped. If there are more pieces than needed, pieces spread evenly over the track are used.
A cut's number gives its position: it begins at number x clip length. Stretches are (start, stop) in samples of the
file.

A file that cannot be used raises a RecordingError with the reason: it is missing, its content does not match the
manifest's checksum, it is too short for one clip, it cannot be decoded, or its scale is not -1 to 1. ffmpeg decodes
the file from beginning to end (through PyAV). The length in a file's header is not trusted, and MP3 files without a
header are read like others.

Damaged files are read as a player would play them. Bytes that cannot be decoded are skipped. Where the timestamps show
that time was lost, silence is inserted, so that the rest keeps its position. Every such place is a gap. A gap has
length 0 if no time is known to be lost. Cuts with a gap are left out. So are silent cuts, and cuts whose channels
cancel in their mean: nothing in them could return, and the clip would wrongly count as one without a return.
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

# MP3 and other formats may decode to slightly more than full scale. Integers that were stored as floats are in the
# thousands.
MAX_SAMPLE = 4.0
# Damage that the decoder does not notice affects at most this fraction of the frames. A wrong scale affects most.
_GLITCHES = 0.01
# If the mean of the channels has less than this fraction of their power (-30 dB), the channels cancel. In ordinary
# stereo it has a tenth or more.
MIN_MIXED_FRACTION = 1e-3
# Rounding timestamps to whole milliseconds moves them by less than this. No codec's frame is shorter.
_JUMP_S = 0.002
# If more time than this seems to be lost, the timestamps are wrong.
_MAX_LOST_S = 60.0
# Audio right after damage still depends on it, through MP3's bit reservoir and the overlap of frames.
_AFTER_GAP_S = 0.1
# Maximum number of places that a message lists.
_MAX_LISTED = 5
# Rows of `Recording.frames`.
_FRAME = np.dtype(
    [("start", np.int64), ("stop", np.int64), ("mixed", np.float64), ("channels", np.float64), ("peak", np.float64)]
)


class RecordingError(ValueError):
    """Why a recording is left out."""


class Recording(NamedTuple):
    """A decoded file.

    Attributes
    ----------
    audio
        Mono float32 `[sample]`.
    sample_rate_hz
        The file's sample rate.
    gaps
        Stretches that could not be decoded.
    frames
        Structured array `[frame]` with the fields start, stop, `mixed` (energy of the channels' mean), `channels`
        (mean of the channels' energies; both energies without the DC offset) and `peak` (the largest absolute sample
        of any channel).
    """

    audio: np.ndarray
    sample_rate_hz: int
    gaps: tuple[tuple[int, int], ...]
    frames: np.ndarray


class _Fault(NamedTuple):
    """A part that could not be decoded: the error, and its time in seconds by the file's timestamps."""

    error: Exception
    at_s: float | None = None


def read_recording(path: Path, sha256: str) -> Recording:
    """Decode a whole file, after checking its SHA-256.

    Raises RecordingError if the file is missing, has another checksum, cannot be decoded, or has another scale.
    """
    try:
        if not path.is_file():
            raise RecordingError("missing")
        if (found := digest_file(path)) != sha256:
            raise RecordingError(f"checksum: SHA-256 is {found}, but the manifest says {sha256}")
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
        text = f"the largest is {peaks.max():.6g}, as if integers were stored as floats"
        raise RecordingError(f"samples far outside -1 to 1: {text}")
    return recording


def gaps_in_words(recording: Recording) -> str:
    """The places where a recording could not be decoded, in seconds; "" if there are none."""
    return _places(recording.gaps, recording.sample_rate_hz)


def cut_fault(recording: Recording, stretch: tuple[int, int]) -> str:
    """Why a stretch of a recording cannot be used, or "" if it can. The part before the colon is its kind."""
    start, stop = stretch
    rate_hz = recording.sample_rate_hz
    where = _seconds(stretch, rate_hz)
    if gaps := [gap for gap in recording.gaps if gap[0] < stop and gap[1] + _AFTER_GAP_S * rate_hz > start]:
        return f"damaged: {where} cannot be decoded at {_places(gaps, rate_hz)}"
    frames = recording.frames
    heard = frames[(frames["start"] < stop) & (frames["stop"] > start)]
    if (largest := heard["peak"].max(initial=0)) > MAX_SAMPLE:
        return f"samples far outside -1 to 1: in {where} the largest is {largest:.3g}"
    # A frame that extends beyond the stretch also measures what lies outside. Use such frames only if there are no
    # others.
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
    listed = [_seconds(stretch, rate_hz) for stretch in stretches[:_MAX_LISTED]]
    more = len(stretches) - _MAX_LISTED
    return ", ".join(listed) + (f" and {more} more" if more > 0 else "")


def _seconds(stretch: tuple[int, int], rate_hz: int) -> str:
    start, stop = (f"{n / rate_hz:.2f}" for n in stretch)
    return f"{start} s" if start == stop else f"{start}-{stop} s"


def usable_cuts(
    recording: Recording, *, n_samples: int, n_heard: int, to_hz: int, max_cuts: int
) -> tuple[dict[int, np.ndarray], dict[int, str]]:
    """The usable cuts of a track, and the reasons why other cuts are left out.

    Parameters
    ----------
    recording
        The decoded track.
    n_samples
        Length of a clip, in samples at `to_hz`.
    n_heard
        Number of samples that are used from the start of each cut, at `to_hz`. Only this part is checked.
    to_hz
        Sample rate of the clips.
    max_cuts
        Maximum number of cuts.

    Returns
    -------
    pieces : dict
        Audio by cut number, mono float32 `[n_heard]`.
    faults : dict
        Reasons by cut number.

    Raises
    ------
    RecordingError
        If the track is shorter than one clip, or no cut can be used.
    """
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
    """The kind of a reason for leaving something out: the part before the first colon or comma."""
    return reason.partition(":")[0].partition(",")[0]


def cuts(
    audio: np.ndarray, sample_rate_hz: int, *, n_samples: int, to_hz: int, max_cuts: int
) -> Iterator[tuple[int, np.ndarray]]:
    """Cut a track into pieces. Each piece is resampled separately, so that it has no information about later audio.

    Parameters
    ----------
    audio
        Mono audio of the track, `[sample]`.
    sample_rate_hz
        Its sample rate.
    n_samples
        Length of a piece, in samples at `to_hz`.
    to_hz
        Sample rate of the pieces.
    max_cuts
        Maximum number of pieces.

    Yields
    ------
    tuple of int and numpy.ndarray
        The piece's number and its audio, mono float32 `[n_samples]`, in order.

    Raises
    ------
    RecordingError
        If the track is shorter than one piece.
    """
    # In samples of the track. If this is not a whole number, a fraction of a sample is skipped between pieces.
    length = n_samples * sample_rate_hz / to_hz
    n_pieces = int(len(audio) / length + 1e-9)
    if n_pieces == 0:
        too_short = f"{len(audio) / sample_rate_hz:.1f} s, but a clip has {n_samples / to_hz:g} s"
        raise RecordingError(f"too short: {too_short}")
    chosen: Sequence[int] = range(n_pieces)
    if n_pieces > max_cuts:
        chosen = [int((i + 0.5) * n_pieces / max_cuts) for i in range(max_cuts)]
    for number in chosen:
        start = round(number * length)
        piece = soxr.resample(audio[start : start + round(length)], sample_rate_hz, to_hz)
        yield number, _exactly(piece, n_samples)


def _exactly(audio: np.ndarray, n_samples: int) -> np.ndarray:
    """Audio with exactly `n_samples` samples. Resampling may give one more or less."""
    return np.pad(audio[:n_samples], (0, max(0, n_samples - len(audio))))


# --- decoding -------------------------------------------------------------------------------------------------


def _decode(path: Path) -> Recording:
    with av.open(str(path), options={"ignore_length": "1"} if _understated(path) else {}) as container:
        if not container.streams.audio:
            raise ValueError("there is no audio in it")
        stream = container.streams.audio[0]
        if stream.codec_context.name == "flac":
            # Without this, a frame with a wrong checksum would still be decoded.
            stream.codec_context.options = {"err_detect": "crccheck+explode"}
        return _on_its_timeline(_played(container, stream))


def _on_its_timeline(played: Iterator[Any]) -> Recording:
    """Join the frames of `_played`, with silence where timestamps show that time was lost."""
    mono: list[np.ndarray] = []
    frames: list[tuple[int, int, float, float, float]] = []
    gaps: list[tuple[int, int]] = []
    faults: list[Exception] = []
    n, rate_hz, damaged = 0, 0, False
    ended_s: float | None = None
    form: tuple[str, str] | None = None
    resampler: Any = None
    for frame in played:
        if not isinstance(frame, _Fault) and frame.sample_rate != (rate_hz or frame.sample_rate):
            # Bytes that are not audio were decoded as a frame.
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
            # One float array per channel, for any sample format. The rate and the channels do not change.
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
    # In bytes that are not audio, some parts may still look like frames.
    if not n or len(faults) > len(frames) or 2 * sum(stop - start for start, stop in gaps) > n:
        raise faults[0] if faults else ValueError("there is no audio in it")
    return Recording(np.concatenate(mono), rate_hz, tuple(gaps), np.array(frames, _FRAME))


def _energy(channels: np.ndarray) -> float:
    """Sum of squares over time of float32 `[channel, sample]` without the channels' DC offsets; mean over channels."""
    n = max(1, channels.shape[1])
    sums = channels.sum(axis=1, dtype=np.float64)
    return max(0.0, float(np.vdot(channels, channels)) - float(sums @ sums) / n) / len(channels)


def _played(container: Any, stream: Any) -> Iterator[Any]:
    """The audio frames in order, with a `_Fault` in place of each part that cannot be decoded."""
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
    """The packets up to the end of the file, with a `_Fault` in place of each part that cannot be read."""
    packets, failed = container.demux(stream), False
    while True:
        try:
            packet = next(packets)
        except StopIteration:
            return
        except av.FFmpegError as error:
            yield _Fault(error)
            if failed:
                return  # failed twice at the same place: reading cannot continue
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
    """Whether an MP3 packet is longer than its header says.

    The decoder silently skips bytes that are not audio, and with them the frames that they replaced.
    """
    if stream.codec_context.name not in ("mp3", "mp3float") or packet.size < 4:
        return False
    size = mp3_frame_bytes(bytes(packet)[:4])
    return size is not None and size != packet.size


def mp3_frame_bytes(header: bytes) -> int | None:
    """Length in bytes of the MP3 frame (layer III) with this header of 4 bytes.

    None if the header does not give it. 0 if the bytes are not such a header.
    """
    (bits,) = struct.unpack(">I", header)
    version, layer, kbps, rate = bits >> 19 & 3, bits >> 17 & 3, bits >> 12 & 15, bits >> 10 & 3
    if bits >> 21 != 0x7FF or version == 1 or layer != 1 or kbps == 15 or rate == 3:
        return 0
    if kbps == 0:
        return None
    # Version 3 is MPEG-1. MPEG-2 (2) has half its sample rates, MPEG-2.5 (0) a quarter. Both have half as many samples
    # per frame.
    rate_hz = _MP3_RATES_HZ[rate] >> {3: 0, 2: 1, 0: 2}[version]
    per_frame = 144 if version == 3 else 72
    return per_frame * _MP3_KBPS[3 if version == 3 else 2][kbps - 1] * 1000 // rate_hz + (bits >> 9 & 1)


def _understated(path: Path) -> bool:
    """Whether the audio of a WAV file is longer than its header says, for example because the writer was killed.

    In an intact file, only another chunk or text may follow the audio.
    """
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
    """Whether the bytes after a WAV file's data are also audio. `after` holds the first of these `n_bytes` bytes."""
    printable = string.printable.encode()
    of_text = sum(byte in printable for byte in after)
    if len(after) < 16 or after.startswith(b"TAG") or of_text > 0.95 * len(after):
        return False
    # Chunks should begin at even positions, but not every writer follows this.
    for shift in (0, 1):
        name, size = struct.unpack_from("<4sI", after, shift)
        if all(byte in printable for byte in name) and shift + 8 + size <= n_bytes:
            return False
    return True
