"""Recordings: what is decoded, where it is cut, and why a file is left out. All files are real ones."""

import hashlib
import io
import time
import tracemalloc
from pathlib import Path

import av
import numpy as np
import pytest
import soundfile
import soxr

from reprise.recordings.cutting import RecordingError, cuts, gaps_in_words, read_recording, usable_cuts

RATE_HZ = 44_100
DURATION_S = 7.0


def stereo() -> np.ndarray:
    """A tone that rises all the time, so that every moment tells when it is, with another level in each channel."""
    time_s = np.arange(round(DURATION_S * RATE_HZ)) / RATE_HZ
    tone = np.sin(2 * np.pi * (300 * time_s + 40 * time_s**2))
    return np.column_stack([0.4 * tone, 0.2 * tone]).astype(np.float32)


def sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


@pytest.fixture(scope="module")
def files(tmp_path_factory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("recordings")
    found = {name: folder / f"a.{name}" for name in ("wav", "flac", "ogg", "mp3")}
    for path in found.values():
        soundfile.write(path, stereo(), RATE_HZ)
    variable = folder / "variable.mp3"
    soundfile.write(variable, stereo(), RATE_HZ, bitrate_mode="VARIABLE")
    # Without the first frame, which says how long it is.
    content = variable.read_bytes()
    (folder / "headless.mp3").write_bytes(content[content.find(b"\xff\xfb", content.find(b"Xing")) :])
    return found | {"headless": folder / "headless.mp3"}


@pytest.mark.parametrize("name", ["wav", "flac", "ogg", "mp3", "headless"])
def test_every_form_is_decoded_whole_and_mixed_to_mono(files: dict[str, Path], name: str) -> None:
    audio, rate_hz, gaps, _ = read_recording(files[name], sha256(files[name]))
    assert not gaps
    assert rate_hz == RATE_HZ and audio.ndim == 1 and audio.dtype == np.float32
    expected = stereo().mean(axis=1)
    # An MP3 without its first frame begins with the encoder's delay and ends on a whole frame.
    slack = 4000 if name == "headless" else 0
    assert 0 <= len(audio) - len(expected) <= slack
    if not slack:
        error = np.sqrt(np.mean((audio - expected) ** 2) / np.mean(expected**2))
        assert error < (1e-4 if name in ("wav", "flac") else 0.1), error


def test_why_a_file_is_left_out(files: dict[str, Path], tmp_path: Path) -> None:
    text, empty, noise = tmp_path / "text.mp3", tmp_path / "empty.wav", tmp_path / "noise.mp3"
    text.write_text("<!DOCTYPE html>\n<p>not music</p>\n" * 500)
    empty.touch()
    # Among enough bytes some look like a frame.
    noise.write_bytes(np.random.default_rng(1).bytes(1_000_000))
    not_finite = tmp_path / "nan.wav"
    soundfile.write(not_finite, np.full((RATE_HZ, 1), np.nan, np.float32), RATE_HZ, subtype="FLOAT")

    def reason(path: Path, digest: str | None = None) -> str:
        with pytest.raises(RecordingError) as caught:
            read_recording(path, digest or sha256(path))
        # No path is in it: a run elsewhere says the same.
        assert str(tmp_path) not in str(caught.value)
        return str(caught.value)

    assert reason(tmp_path / "none.mp3", "0" * 64) == "missing"
    found = sha256(files["mp3"])
    assert reason(files["mp3"], "0" * 64) == f"checksum: SHA-256 is {found}, but the manifest says {'0' * 64}"
    for path in (text, empty, noise):
        assert reason(path).startswith("cannot be decoded: Invalid data found")
    assert reason(not_finite) == f"cannot be decoded: {RATE_HZ} samples are NaN or infinite"
    assert reason(tmp_path / ("x" * 300), "0" * 64) == "cannot be decoded: File name too long"
    integers = tmp_path / "integers.wav"
    soundfile.write(integers, 32_767 * stereo(), RATE_HZ, subtype="FLOAT")
    assert reason(integers).startswith("samples far outside -1 to 1: the largest is 131")


def test_a_truncated_mp3_is_not_what_its_checksum_says_and_else_as_long_as_what_is_there(
    files: dict[str, Path], tmp_path: Path
) -> None:
    content = files["mp3"].read_bytes()
    half = tmp_path / "half.mp3"
    half.write_bytes(content[: len(content) // 2])
    with pytest.raises(RecordingError, match=r"^checksum: "):
        read_recording(half, sha256(files["mp3"]))
    # Its header still says 7 s.
    audio = read_recording(half, sha256(half)).audio
    assert len(audio) / RATE_HZ == pytest.approx(DURATION_S / 2, abs=0.4)
    with pytest.raises(RecordingError, match=r"^too short: 3\.\d s, but a clip has 4 s$"):
        list(cuts(audio, RATE_HZ, n_samples=4 * 16_000, to_hz=16_000, max_cuts=4))


@pytest.mark.parametrize("to_hz", [16_000, 32_000])
def test_cuts_are_where_their_numbers_say(files: dict[str, Path], to_hz: int) -> None:
    audio, rate_hz, _, _ = read_recording(files["wav"], sha256(files["wav"]))
    pieces = dict(cuts(audio, rate_hz, n_samples=2 * to_hz, to_hz=to_hz, max_cuts=9))
    # Three of 2 s in 7 s; what is left over is dropped.
    assert list(pieces) == [0, 1, 2]
    for number, piece in pieces.items():
        assert piece.dtype == np.float32 and piece.shape == (2 * to_hz,)
        time_s = 2 * number + np.arange(2 * to_hz) / to_hz
        expected = 0.3 * np.sin(2 * np.pi * (300 * time_s + 40 * time_s**2))
        middle = slice(to_hz // 10, -to_hz // 10)
        np.testing.assert_allclose(piece[middle], expected[middle], atol=2e-3)


def test_few_cuts_lie_evenly_over_the_track() -> None:
    audio = np.zeros(10 * 8000, np.float32)

    def numbers(n: int) -> list[int]:
        return [number for number, _ in cuts(audio, 8000, n_samples=8000, to_hz=8000, max_cuts=n)]

    assert numbers(1) == [5] and numbers(2) == [2, 7] and numbers(4) == [1, 3, 6, 8]
    assert numbers(10) == numbers(99) == list(range(10))


def test_a_clip_whose_length_is_no_whole_number_of_samples() -> None:
    audio = np.random.default_rng(0).standard_normal(11_025 * 3).astype(np.float32)
    pieces = list(cuts(audio, 11_025, n_samples=15_987, to_hz=16_000, max_cuts=9))
    assert [number for number, _ in pieces] == [0, 1, 2] and all(len(piece) == 15_987 for _, piece in pieces)
    whole = list(cuts(audio[: 11_025 * 2], 11_025, n_samples=32_000, to_hz=16_000, max_cuts=9))
    assert [number for number, _ in whole] == [0]


@pytest.mark.parametrize("rate_hz", [8_000, 16_001, 22_254, 44_099, 44_100, 47_999, 192_000])
def test_any_rate_is_resampled_in_place_in_little_time_and_memory(rate_hz: int) -> None:
    time_s, at = np.arange(16 * rate_hz) / rate_hz, 8 * rate_hz
    tone = (0.5 * np.sin(2 * np.pi * 440 * time_s)).astype(np.float32)
    click = np.zeros_like(tone)
    click[at] = 1
    asked = {"n_samples": 16 * 32_000, "to_hz": 32_000, "max_cuts": 1}
    began = time.process_time()
    tracemalloc.start()
    ((_, found),) = cuts(tone, rate_hz, **asked)
    ((_, place),) = cuts(click, rate_hz, **asked)
    _, most = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert time.process_time() - began < 2 and most < 100e6, most
    assert len(found) == 16 * 32_000 and abs(int(np.abs(place).argmax()) - 8 * 32_000) <= 1
    inside = slice(3200, -3200)
    expected = 0.5 * np.sin(2 * np.pi * 440 * np.arange(16 * 32_000) / 32_000)
    np.testing.assert_allclose(found[inside], expected[inside], atol=1e-3)


def test_a_piece_says_nothing_of_what_comes_after_it() -> None:
    audio = np.random.default_rng(0).standard_normal(44_099 * 4).astype(np.float32)
    other = audio.copy()
    other[44_099 * 2 :] = 0
    asked = {"n_samples": 2 * 32_000, "to_hz": 32_000, "max_cuts": 9}
    (_, one), (_, another) = (next(cuts(x, 44_099, **asked)) for x in (audio, other))
    assert np.array_equal(one, another)


# --- damage ---


LENGTH_S = 21.0
CUT = {"n_samples": 4 * 16_000, "n_heard": 4 * 16_000, "to_hz": 16_000, "max_cuts": 9}


def rising(duration_s: float = LENGTH_S) -> np.ndarray:
    time_s = np.arange(round(duration_s * RATE_HZ)) / RATE_HZ
    return (0.4 * np.sin(2 * np.pi * (300 * time_s + 40 * time_s**2))).astype(np.float32)


@pytest.fixture(scope="module")
def whole(tmp_path_factory) -> dict[str, bytes]:
    folder = tmp_path_factory.mktemp("whole")
    for name in ("mp3", "flac", "ogg", "wav"):
        soundfile.write(folder / f"a.{name}", np.column_stack([rising(), 0.5 * rising()]), RATE_HZ)
    return {path.suffix[1:]: path.read_bytes() for path in folder.iterdir()}


def mp3_frames(content: bytes) -> list[tuple[int, int]]:
    """Where the frames of an MP3 file begin, and their lengths."""
    with av.open(io.BytesIO(content)) as container:
        return [(packet.pos, packet.size) for packet in container.demux(audio=0) if packet.size]


LYRICS = b"LYRICSBEGIN" + b"IND0000200LYR00100[00:01]la la la la " * 30 + b"000600LYRICS200" + b"TAG" + b" " * 125
HTML = b"<!DOCTYPE html><html><body>" + b"<p>Not found</p>\n" * 200 + b"</body></html>"


def junk(n: int) -> bytes:
    return np.random.default_rng(7).bytes(n)


def damage(content: bytes, form: str, kind: str) -> bytes:
    middle = len(content) // 2
    if kind in ("zeroed packet", "zeroed head"):
        start, size = mp3_frames(content)[400]
        size = size if kind == "zeroed packet" else 4
        return content[:start] + bytes(size) + content[start + size :]
    return {
        "lyrics at the end": content + LYRICS,
        "html at the end": content + HTML,
        "junk put in": content[:middle] + junk(3000) + content[middle:],
        "zeros put in": content[:middle] + bytes(3000) + content[middle:],
        "written over": content[:middle] + junk(3000) + content[middle + 3000 :],
        "cut out": content[:middle] + content[middle + 3000 :],
        "a bit turned": content[:middle] + bytes([content[middle] ^ 0x55]) + content[middle + 1 :],
        "cut off": content[:middle],
    }[kind]


@pytest.mark.parametrize(
    ("form", "kind"),
    [
        *(("mp3", kind) for kind in ("lyrics at the end", "html at the end", "junk put in", "zeros put in")),
        *(("mp3", kind) for kind in ("written over", "cut out", "zeroed packet", "zeroed head")),
        *(("flac", kind) for kind in ("html at the end", "junk put in", "written over", "cut out", "a bit turned")),
        *(("ogg", kind) for kind in ("html at the end", "junk put in", "written over", "cut out", "a bit turned")),
        ("flac", "cut off"),
    ],
)
def test_damage_costs_the_cuts_that_hold_it_and_is_told_with_its_time(
    whole: dict[str, bytes], tmp_path: Path, form: str, kind: str
) -> None:
    path = tmp_path / f"a.{form}"
    path.write_bytes(damage(whole[form], form, kind))
    recording = read_recording(path, sha256(path))
    pieces, faults = usable_cuts(recording, **CUT)
    if kind.endswith("at the end"):
        assert len(pieces) == 5 and not faults
    elif kind == "cut off":
        assert len(pieces) == 2 and not faults
    else:
        # In the middle of 21 s, or, in Ogg, in pages of one second and more around it.
        assert 2 in faults and len(faults) <= (1 if form != "ogg" else 2)
        assert faults[2].startswith("damaged: 8.00-12.00 s cannot be decoded at ")
    # Nothing happens without a word.
    said = gaps_in_words(recording)
    assert said or (form in ("flac", "ogg") and kind == "html at the end")
    # What is left is what it was, each piece in its place: but where frames were lost that nothing counts.
    counted = form != "mp3" or kind in ("lyrics at the end", "html at the end", "junk put in", "zeros put in")
    for number, piece in pieces.items():
        if counted or number < 2:
            expected = 0.75 * soxr.resample(rising()[4 * number * RATE_HZ :][: 4 * RATE_HZ], RATE_HZ, 16_000)
            inside = slice(1600, -1600)
            error = np.square(piece[inside] - expected[inside]).mean() / np.square(expected[inside]).mean()
            assert error < 0.02, (number, error)


def test_a_gap_of_the_first_frame_moves_nothing(whole: dict[str, bytes], tmp_path: Path) -> None:
    content, path = whole["flac"], tmp_path / "a.flac"
    path.write_bytes(content[:600] + junk(2000) + content[2600:])
    recording = read_recording(path, sha256(path))
    assert recording.gaps[0][0] == 0 < recording.gaps[0][1] and len(recording.audio) == round(LENGTH_S * RATE_HZ)
    assert 0 in usable_cuts(recording, **CUT)[1]


def test_a_recording_of_damage_alone_is_left_out_with_its_reason(whole: dict[str, bytes], tmp_path: Path) -> None:
    content, path = bytearray(whole["mp3"]), tmp_path / "a.mp3"
    for start, _ in mp3_frames(whole["mp3"])[20::60]:
        content[start : start + 300] = bytes(300)
    path.write_bytes(content)
    with pytest.raises(
        RecordingError, match=r"^damaged: 0\.00-4\.00 s cannot be decoded at .*; none of its 5 cuts can be used$"
    ):
        usable_cuts(read_recording(path, sha256(path)), **CUT)


def test_what_a_damaged_frame_sounds_like_costs_its_cut_alone(tmp_path: Path) -> None:
    """MP3 has no checksum that is kept to: what stands for a frame is played, however loud."""
    audio, path = rising(12.0), tmp_path / "a.wav"
    audio[5 * RATE_HZ : 5 * RATE_HZ + 99] = 30
    soundfile.write(path, audio, RATE_HZ, subtype="FLOAT")
    pieces, faults = usable_cuts(read_recording(path, sha256(path)), **CUT)
    assert list(pieces) == [0, 2]
    assert faults == {1: "samples far outside -1 to 1: in 4.00-8.00 s the largest is 30"}


# --- nothing to be heard ---


def faults_of(folder: Path, audio: np.ndarray, form: str = "wav", **more: object) -> tuple[list[int], dict[int, str]]:
    path = folder / f"a.{form}"
    soundfile.write(path, audio, RATE_HZ, **more)
    pieces, faults = usable_cuts(read_recording(path, sha256(path)), **CUT)
    return list(pieces), faults


def test_a_silent_cut_is_left_out_alone(tmp_path: Path) -> None:
    tone = rising(12.0)
    tone[4 * RATE_HZ : 8 * RATE_HZ] *= 1e-4
    kept, faults = faults_of(tmp_path, np.column_stack([tone, tone]))
    assert kept == [0, 2] and faults == {1: "silent: 4.00-8.00 s peaks at -87 dBFS"}


@pytest.mark.parametrize("form", ["wav", "flac", "mp3"])
def test_channels_that_cancel_are_left_out(tmp_path: Path, form: str) -> None:
    left, right = rising(8.0), -rising(8.0)
    said = r"^channels cancel: in 0\.00-4\.00 s their mean has .*; none of its 2 cuts can be used$"
    with pytest.raises(RecordingError, match=said):
        faults_of(tmp_path, np.column_stack([left, right]), form)
    # In one cut only, and with an offset that does not cancel.
    right[4 * RATE_HZ :] *= -1
    offset = 0.1 * (form != "mp3")
    kept, faults = faults_of(tmp_path, np.column_stack([left + offset, right]), form)
    assert kept == [1] and list(faults) == [0] and faults[0].startswith("channels cancel: ")


def test_an_offset_is_no_sound(tmp_path: Path) -> None:
    with pytest.raises(RecordingError, match=r"^silent: 0\.00-4\.00 s peaks at "):
        faults_of(tmp_path, np.full(8 * RATE_HZ, 0.5))


def test_one_channel_or_a_little_over_full_scale_is_music(tmp_path: Path) -> None:
    tone = rising(8.0)
    for audio in (np.column_stack([tone, 0 * tone]), np.column_stack([tone] + 5 * [0 * tone]), 4 * tone):
        assert faults_of(tmp_path, audio, subtype="FLOAT") == ([0, 1], {})


def test_only_the_part_that_is_made_use_of_is_judged(tmp_path: Path) -> None:
    """For a continuation that is a cut's opening."""
    tone = rising(8.0)
    tone[2 * RATE_HZ : 6 * RATE_HZ] = 0
    path = tmp_path / "a.wav"
    soundfile.write(path, tone, RATE_HZ)
    pieces, faults = usable_cuts(read_recording(path, sha256(path)), **CUT | {"n_heard": 2 * 16_000})
    assert list(pieces) == [0] and len(pieces[0]) == 2 * 16_000
    assert faults == {1: "silent: 4.00-6.00 s peaks at -inf dBFS"}


# --- what a WAV file's header says ---


def wav(folder: Path, *, form: str = "WAV", subtype: str = "PCM_16", states: int | None, after: bytes = b"") -> Path:
    """A WAV file of 2 s whose data chunk states this many bytes (None: the truth)."""
    path = folder / "a.wav"
    soundfile.write(path, 0.3 * rising(2.0), RATE_HZ, format=form, subtype=subtype)
    content = path.read_bytes()
    at = content.index(b"ds64") + 16 if form == "RF64" else content.index(b"data") + 4
    size = 8 if form == "RF64" else 4
    if states is not None:
        content = content[:at] + states.to_bytes(size, "little") + content[at + size :]
    path.write_bytes(content + after)
    return path


@pytest.mark.parametrize("states", [0, 2, 1000, 1001, 88_200, 10**9, 0xFFFFFFFF])
@pytest.mark.parametrize("subtype", ["PCM_U8", "PCM_16", "PCM_24", "FLOAT"])
def test_a_wav_is_as_long_as_its_data_whatever_its_header_says(tmp_path: Path, states: int, subtype: str) -> None:
    path = wav(tmp_path, subtype=subtype, states=states)
    recording = read_recording(path, sha256(path))
    assert abs(len(recording.audio) / RATE_HZ - 2) < 1e-3
    stated = wav(tmp_path, form="RF64", subtype=subtype, states=states % 2**32 if states < 2**32 - 1 else 2**40)
    assert abs(len(read_recording(stated, sha256(stated)).audio) / RATE_HZ - 2) < 1e-3


@pytest.mark.parametrize("after", [b"LIST\x04\0\0\0INFO", HTML, b"TAG" + bytes(125)])
def test_what_follows_a_wavs_data_is_not_played(tmp_path: Path, after: bytes) -> None:
    path = wav(tmp_path, states=None, after=after)
    assert len(read_recording(path, sha256(path)).audio) == 2 * RATE_HZ
