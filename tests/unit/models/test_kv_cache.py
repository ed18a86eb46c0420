"""Steps with a cache of keys and values compute what one pass over the whole does."""

import pytest
import torch

import reprise.models.audiocraft_setup  # noqa: F401
from reprise.models.forward import teacher_forced
from reprise.models.generation import generate
from reprise.models.prompts import encode_prompts
from tests.unit.models.small_study import KEYS, N_FRAMES, PROMPTS, SAMPLING


@pytest.mark.parametrize("cfg_coef", [1.0, 3.0])
def test_teacher_forced_capture_equals_streaming_capture(random_model, cfg_coef):
    """At every layer and position; with guidance in both cfg_branches of the batch."""
    streamed = {layer: [] for layer in range(6)}

    def record(layer, _position, x):
        streamed[layer].append(x.clone())
        return x

    sampling = SAMPLING._replace(cfg_coef=cfg_coef)
    tokens = generate(random_model, PROMPTS, KEYS, n_frames=N_FRAMES, sampling=sampling, edit=record)
    cfg_branches = [PROMPTS] if cfg_coef == 1 else [PROMPTS, [None] * len(PROMPTS)]
    for half, prompts in enumerate(cfg_branches):
        captured, _ = teacher_forced(random_model, tokens, encode_prompts(random_model, prompts), layers=range(6))
        for layer, steps in streamed.items():
            # Streaming goes on for the delays of the last frame; those positions are not valid ones.
            whole = torch.cat(steps[: N_FRAMES + 1], dim=1)[half * len(PROMPTS) : (half + 1) * len(PROMPTS)]
            torch.testing.assert_close(captured[layer], whole, rtol=1e-4, atol=1e-4)
