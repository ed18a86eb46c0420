"""One pass over given tokens: audiocraft's own residual stream and logits, causal, whatever the batch."""

import numpy as np
import torch

import reprise.models.audiocraft_setup  # noqa: F401
from reprise.models.forward import teacher_forced
from reprise.models.prompts import encode_prompts
from tests.unit.models.small_study import N_FRAMES, PROMPTS, attributes


def test_residual_stream_and_logits_equal_audiocrafts(random_model, tokens):
    # One prompt at a time: in a batch audiocraft pads shorter prompts with vectors that are then attended to.
    for i, prompt in enumerate(PROMPTS):
        seen = {}
        hooks = [
            layer.register_forward_hook(lambda _m, _a, x, n=n: seen.__setitem__(n, x))  # noqa: B023
            for n, layer in enumerate(random_model.lm.transformer.layers)
        ]
        with torch.no_grad():
            expected = random_model.lm.compute_predictions(tokens[i : i + 1], attributes([prompt]))
        for hook in hooks:
            hook.remove()
        ours, logits = teacher_forced(
            random_model, tokens[i : i + 1], encode_prompts(random_model, [prompt]), layers=range(6), with_logits=True
        )
        for layer in range(6):
            torch.testing.assert_close(ours[layer], seen[layer], rtol=1e-4, atol=1e-4)
        for k in range(4):
            torch.testing.assert_close(
                logits[:, k, k:N_FRAMES], expected.logits[:, k, : N_FRAMES - k], rtol=1e-4, atol=1e-3
            )


def test_nothing_before_a_scrambled_token_changes(random_model, tokens):
    t = 17
    scrambled = tokens.clone()
    scrambled[:, :, t:] = torch.from_numpy(np.random.default_rng(1).integers(256, size=(3, 4, N_FRAMES - t)))
    text = encode_prompts(random_model, PROMPTS)
    before, _ = teacher_forced(random_model, tokens, text, layers=[-1, 2, 5])
    after, _ = teacher_forced(random_model, scrambled, text, layers=[-1, 2, 5])
    for layer in before:
        assert torch.equal(before[layer][:, : t + 1], after[layer][:, : t + 1])
        assert not torch.equal(before[layer][:, t + 1], after[layer][:, t + 1])
