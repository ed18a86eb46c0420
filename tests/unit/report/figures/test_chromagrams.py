"""Pictures of pitch classes, and how well the motif matches below them."""

import base64
import io
import re

import numpy as np
from PIL import Image

from reprise.report.figures.chromagrams import Window, chroma_png, clip_figure
from reprise.targets.registry import target_of
from tests.unit.report.results_folder import CLIP_S, RATE_HZ, clip_audio


def test_chroma_png_is_a_picture_of_the_chroma() -> None:
    chroma = np.zeros((5, 12), np.float32)
    chroma[3, 0], chroma[1, 11], chroma[2, 5] = 1.0, 0.5, -1.0
    png = base64.b64decode(chroma_png(chroma).split(",")[1])
    alpha = np.asarray(Image.open(io.BytesIO(png)))[..., 3]
    assert alpha.shape == (12, 5)
    # Pitch class c is the lowest row, b the highest; what is below zero is not seen.
    assert alpha[11, 3] == 255 and alpha[0, 1] == round(255 * 0.5**1.3)
    assert np.count_nonzero(alpha) == 2


def test_match_curve_of_a_return_peaks_where_it_returns() -> None:
    audio = clip_audio(0, return_s=10.0)
    score = target_of("recurrence").scorer(audio, RATE_HZ, {}, start_s=2.0, duration_s=2.0)
    windows = [Window(2.0, 4.0, "reference", "motif")]
    svg = clip_figure(audio, RATE_HZ, score(audio), windows, min_score=0.7, event="a return", label="l")
    assert "least score of a return: 0.7" in svg
    points = re.search('points="([^"]+)"', svg)[1].split()
    x, y = np.array([list(map(float, p.split(","))) for p in points]).T
    # Times in thousandths of the clip, upwards is less.
    assert abs(x[y.argmin()] / 1000 * CLIP_S - 10.0) < 0.1 and y.min() < 5
    assert x.min() >= 1000 * 4.0 / CLIP_S - 1
