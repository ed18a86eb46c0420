"""Capture in passes of a fixed number of rows."""

import numpy as np

import reprise.models.audiocraft_setup  # noqa: F401
from reprise.models.capture import residual_stream
from reprise.models.forward import teacher_forced
from reprise.models.prompts import encode_prompts
from tests.unit.models.small_study import PROMPTS


def test_capture_in_padded_passes_equals_one_pass(random_model, tokens):
    passes = list(
        residual_stream(random_model, tokens.numpy().astype(np.uint16), PROMPTS, layers=[-1, 3], batch_size=2)
    )
    assert [len(p[3]) for p in passes] == [2, 1]
    whole, _ = teacher_forced(random_model, tokens, encode_prompts(random_model, PROMPTS), layers=[-1, 3])
    np.testing.assert_allclose(np.concatenate([p[3] for p in passes]), whole[3], rtol=1e-4, atol=1e-4)
