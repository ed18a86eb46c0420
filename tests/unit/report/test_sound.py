"""Sounds in a page."""

import io

import numpy as np
import soundfile

from reprise.report.sound import embed, encode_flac


def test_encode_flac_halves_a_high_rate_and_keeps_a_low_one() -> None:
    tone = 0.5 * np.sin(2 * np.pi * 440 * np.arange(32000) / 32000).astype(np.float32)
    heard, rate_hz = soundfile.read(io.BytesIO(encode_flac(tone, 32000)))
    assert rate_hz == 16000 and len(heard) == 16000
    assert abs(np.abs(np.fft.rfft(heard)).argmax() - 440) == 0
    same, rate_hz = soundfile.read(io.BytesIO(encode_flac(tone, 8000)), dtype="float32")
    assert rate_hz == 8000 and np.abs(same - tone).max() < 1e-4


def test_embed_stops_at_its_allowance_but_takes_what_still_fits() -> None:
    noise = np.random.default_rng(0).uniform(-0.5, 0.5, 16000).astype(np.float32)
    long, short = (noise, 16000), (noise[:1600], 16000)
    allowance = len(encode_flac(*long)) + len(encode_flac(*short))
    assert [bool(uri) for uri in embed([long, long, short, short], allowance)] == [True, False, True, False]
