"""A prompt is encoded as if it were alone."""

import torch

import reprise.models.audiocraft_setup  # noqa: F401
from reprise.models.forward import teacher_forced
from reprise.models.prompts import encode_prompts
from tests.unit.models.small_study import PROMPTS


def test_a_prompt_is_encoded_as_if_alone(random_model, tokens):
    together, _ = teacher_forced(random_model, tokens, encode_prompts(random_model, PROMPTS), layers=[5])
    alone, _ = teacher_forced(random_model, tokens[1:2], encode_prompts(random_model, PROMPTS[1:2]), layers=[5])
    torch.testing.assert_close(together[5][1:2], alone[5], rtol=1e-4, atol=1e-4)


def test_no_text_is_no_prompt(random_model, tokens):
    without, empty = (
        teacher_forced(random_model, tokens[:1], encode_prompts(random_model, [p]), layers=[5])[0][5]
        for p in (None, "")
    )
    assert torch.equal(without, empty)
