"""Many edits at once: each row against the untouched continuation of its own clip."""

from typing import Any

import numpy as np
import pandas as pd
import pytest

from reprise.interventions.effect_table import Measured, edit_effects, untouched_clips
from reprise.models.codec import decode_audio
from reprise.targets.registry import target_of
from reprise.targets.target import ScoreCurve

N_FRAMES = 100


def same_start(audio: np.ndarray, sample_rate_hz: int, settings: Any, *, start_s: float, duration_s: float) -> Any:
    """Scores how much a continuation is like the reference in the untouched audio; the event is at 2.5 s."""
    passage = slice(round(start_s * sample_rate_hz), round((start_s + (duration_s or 1.0)) * sample_rate_hz))

    def score(other: np.ndarray) -> ScoreCurve:
        same = float(np.array_equal(audio[passage], other[passage]))
        return ScoreCurve(np.array([2.5]), np.array([same]), np.array([0.5]))

    return score


HOW = Measured(target_of("recurrence")._replace(scorer=same_start), {"min_score": 0.5}, prefix_s=1.0, event_s=0.5)


@pytest.fixture(scope="module")
def tokens(random_model) -> np.ndarray:
    shape = (2, random_model.n_codebooks, N_FRAMES)
    return np.random.default_rng(0).integers(0, random_model.codebook_size, shape).astype(np.uint16)


@pytest.mark.parametrize("threads", [1, 3])
def test_each_row_is_compared_with_its_own_clip(random_model, tokens, threads):
    clips = pd.DataFrame(
        {"clip_id": ["a", "b"], "reference_start_s": [2.0, 3.5], "reference_duration_s": [1.0, 0.0]},
        index=[7, 3],
    )
    nll = np.zeros((2, N_FRAMES), np.float32)
    untouched = untouched_clips(random_model, clips, tokens, nll, HOW, threads=threads)
    assert list(untouched) == ["a", "b"]
    # From frame 75, 3 s: clip a's reference stays up to that time, and clip b's does not.
    late = tokens.copy()
    late[:, :, 75:] = (late[:, :, 75:] + 1) % random_model.codebook_size
    early = tokens.copy()
    early[:, :, 40:] = (early[:, :, 40:] + 1) % random_model.codebook_size
    rows = pd.DataFrame(
        {"clip_id": ["b", "a", "a", "b", "a"], "target_start_s": 2.0, "target_stop_s": 2.75},
        index=[5, 4, 4, 0, 9],
    ).assign(reference_duration_s=[0.0, 1.0, 1.0, 0.0, 1.0])
    made = np.stack([tokens[1], early[0], late[0], late[1], tokens[0]])
    # Costly from 3.3 s to 3.7 s: after the event of clip b, which may last until 3.25 s, and inside that of clip a.
    # Of clip b, 25 frames before the event and 18 after it count.
    cost = np.zeros((5, N_FRAMES), np.float32)
    cost[:, 83:92] = 1.0
    kl = np.arange(5, dtype=np.float32)[:, None] * np.ones((1, N_FRAMES), np.float32)
    found = list(edit_effects(random_model, rows, made, cost, untouched, HOW, kl=kl, threads=threads))
    records = pd.DataFrame([record for record, _ in found])
    assert records["found_baseline"].eq(1).all()
    # A row that equals its untouched continuation has its numbers, whatever it was given as its own.
    assert records["effect_rate"].tolist()[:2] == [0, 1] and records["effect_rate"].tolist()[3:] == [1, 0]
    assert records["damage_nats"].tolist() == pytest.approx([0, 0, 0, 9 / 43, 0])
    assert records["kl_nats"].tolist() == pytest.approx([0, 1, 2, 3, 4])
    for (_, audio), expected in zip(found, made, strict=True):
        np.testing.assert_allclose(audio, decode_audio(random_model, expected), atol=1e-6)
