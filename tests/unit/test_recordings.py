"""Recordings: what is decoded, where it is cut, and why a file is left out. All files are real ones."""

import hashlib
from pathlib import Path

import numpy as np
import pytest
import soundfile

from reprise.recordings import RecordingError, cuts, read_recording

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
    audio, rate_hz = read_recording(files[name], sha256(files[name]))
    assert rate_hz == RATE_HZ and audio.ndim == 1 and audio.dtype == np.float32
    expected = stereo().mean(axis=1)
    # An MP3 without its first frame begins with the encoder's delay and ends on a whole frame.
    slack = 4000 if name == "headless" else 0
    assert 0 <= len(audio) - len(expected) <= slack
    if not slack:
        error = np.sqrt(np.mean((audio - expected) ** 2) / np.mean(expected**2))
        assert error < (1e-4 if name in ("wav", "flac") else 0.1), error


def test_why_a_file_is_left_out(files: dict[str, Path], tmp_path: Path) -> None:
    text, empty, video = tmp_path / "text.mp3", tmp_path / "empty.wav", tmp_path / "broken.flac"
    text.write_text("not music\n" * 500)
    empty.touch()
    content = files["flac"].read_bytes()
    video.write_bytes(content[: len(content) // 2])
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
    assert reason(files["mp3"], "0" * 64) == f"checksum: SHA-256 is {found}, and the manifest says {'0' * 64}"
    for path in (text, empty, video):
        assert reason(path).startswith("cannot be decoded: Invalid data found")
    assert reason(not_finite) == f"cannot be decoded: {RATE_HZ} samples are NaN or infinite"


def test_a_truncated_mp3_is_not_what_its_checksum_says_and_else_as_long_as_what_is_there(
    files: dict[str, Path], tmp_path: Path
) -> None:
    content = files["mp3"].read_bytes()
    half = tmp_path / "half.mp3"
    half.write_bytes(content[: len(content) // 2])
    with pytest.raises(RecordingError, match=r"^checksum: "):
        read_recording(half, sha256(files["mp3"]))
    # Its header still says 7 s.
    audio, _ = read_recording(half, sha256(half))
    assert len(audio) / RATE_HZ == pytest.approx(DURATION_S / 2, abs=0.4)
    with pytest.raises(RecordingError, match=r"^too short: 3\.\d s, and a clip has 4 s$"):
        list(cuts(audio, RATE_HZ, n_samples=4 * 16_000, to_hz=16_000, max_cuts=4))


@pytest.mark.parametrize("to_hz", [16_000, 32_000])
def test_cuts_are_where_their_numbers_say(files: dict[str, Path], to_hz: int) -> None:
    audio, rate_hz = read_recording(files["wav"], sha256(files["wav"]))
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
