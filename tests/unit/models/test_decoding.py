"""Our forward passes against audiocraft's own, and what batching must not change."""

import numpy as np
import pytest
import torch

import reprise.models.audiocraft_setup  # noqa: F401
from audiocraft.modules.conditioners import ConditioningAttributes
from reprise.models.capture import residual_stream
from reprise.models.delay_pattern import delayed
from reprise.models.forward import teacher_forced
from reprise.models.generation import Sampling, choose, clip_noise, generate, generate_clips
from reprise.models.loading import load_model
from reprise.models.prompts import encode_prompts

PROMPTS = ["piano in c, amber theme", "organ", "vibraphone in eb, coral theme"]
N_FRAMES = 30
SAMPLING = Sampling(temperature=0.9, top_k=100, cfg_coef=1.0)
KEYS = [(1, 2), (3, 4), (5, 6)]


def attributes(prompts):
    return [ConditioningAttributes(text={"description": p}) for p in prompts]


@pytest.fixture(scope="module")
def tokens(random_model):
    return torch.from_numpy(np.random.default_rng(0).integers(256, size=(3, 4, N_FRAMES)))


def test_delay_pattern_is_audiocrafts(random_model, tokens):
    pattern = random_model.lm.pattern_provider.get_pattern(N_FRAMES)
    sequence, _, _ = pattern.build_pattern_sequence(tokens, 256, keep_only_valid_steps=True)
    assert torch.equal(delayed(tokens, 256), sequence)


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


def test_a_nucleus_holds_the_likeliest_tokens_and_only_them():
    """Shares drawn from are audiocraft's: probabilities, cut where those before a token hold more than top_p."""
    logits = torch.randn(1, 1, 40, generator=torch.Generator().manual_seed(1)) * 2
    noise = torch.empty(20_000, 1, 40).exponential_(generator=torch.Generator().manual_seed(2))
    for top_p, temperature in ((0.6, 1.0), (0.3, 0.7), (1e-6, 1.0)):
        probability = (logits[0, 0] / temperature).softmax(-1)
        order = probability.argsort(descending=True)
        before = probability[order].cumsum(0) - probability[order]
        kept = order[before <= top_p]
        expected = torch.zeros(40).index_put((kept,), probability[kept]) / probability[kept].sum()
        drawn = choose(logits.expand(20_000, 1, 40), noise, Sampling(temperature, 0, 1.0, top_p))[:, 0]
        found = torch.bincount(drawn, minlength=40) / len(drawn)
        torch.testing.assert_close(found, expected, atol=0.015, rtol=0)
        assert not found[expected == 0].any()


def test_a_prompt_is_encoded_as_if_alone(random_model, tokens):
    together, _ = teacher_forced(random_model, tokens, encode_prompts(random_model, PROMPTS), layers=[5])
    alone, _ = teacher_forced(random_model, tokens[1:2], encode_prompts(random_model, PROMPTS[1:2]), layers=[5])
    torch.testing.assert_close(together[5][1:2], alone[5], rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("cfg_coef", [1.0, 3.0])
def test_greedy_tokens_equal_audiocrafts(random_model, cfg_coef):
    prompts = PROMPTS[::2]  # of equal length, see above
    ours = generate(random_model, prompts, KEYS[:2], n_frames=N_FRAMES, sampling=Sampling(1e-6, 1, cfg_coef))
    conditions = attributes(prompts)
    with torch.no_grad():
        theirs = random_model.lm.generate(
            conditions=conditions, max_gen_len=N_FRAMES, use_sampling=False, cfg_coef=cfg_coef
        )
    assert torch.equal(ours, theirs)


@pytest.mark.parametrize("cfg_coef", [1.0, 3.0])
def test_teacher_forced_capture_equals_streaming_capture(random_model, cfg_coef):
    """At every layer and position; with guidance in both halves of the batch."""
    streamed = {layer: [] for layer in range(6)}

    def record(layer, _position, x):
        streamed[layer].append(x.clone())
        return x

    sampling = SAMPLING._replace(cfg_coef=cfg_coef)
    tokens = generate(random_model, PROMPTS, KEYS, n_frames=N_FRAMES, sampling=sampling, edit=record)
    halves = [PROMPTS] if cfg_coef == 1 else [PROMPTS, [None] * len(PROMPTS)]
    for half, prompts in enumerate(halves):
        captured, _ = teacher_forced(random_model, tokens, encode_prompts(random_model, prompts), layers=range(6))
        for layer, steps in streamed.items():
            # Streaming goes on for the delays of the last frame; those positions are not valid ones.
            whole = torch.cat(steps[: N_FRAMES + 1], dim=1)[half * len(PROMPTS) : (half + 1) * len(PROMPTS)]
            torch.testing.assert_close(captured[layer], whole, rtol=1e-4, atol=1e-4)


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


def test_tokens_depend_on_identity_alone(random_model):
    def run(prompts, keys, rows):
        passes = generate_clips(random_model, prompts, keys, n_frames=N_FRAMES, sampling=SAMPLING, rows=rows)
        return np.concatenate(list(passes))

    together = run(PROMPTS, KEYS, 4)
    reordered = run(PROMPTS[::-1], KEYS[::-1], 4)[::-1]
    alone = np.concatenate([run([p], [k], 4) for p, k in zip(PROMPTS, KEYS, strict=True)])
    assert np.array_equal(together, reordered)
    assert np.array_equal(together, alone)
    assert not np.array_equal(together[0], run(PROMPTS[:1], [(1, 3)], 4)[0])


def test_a_continuation_of_its_own_prefix_is_the_clip(random_model):
    whole = generate(random_model, PROMPTS, KEYS, n_frames=N_FRAMES, sampling=SAMPLING)
    again = generate(
        random_model, PROMPTS, KEYS, n_frames=N_FRAMES, sampling=SAMPLING, prefix=whole, n_prefix_frames=[10, 20, 0]
    )
    assert torch.equal(whole, again)
    other_noise = generate(
        random_model,
        PROMPTS,
        [(7,), (8,), (9,)],
        n_frames=N_FRAMES,
        sampling=SAMPLING,
        prefix=whole,
        n_prefix_frames=[10, 20, 15],
    )
    for row, n in enumerate((10, 20, 15)):
        assert torch.equal(other_noise[row, :, :n], whole[row, :, :n])
        assert not torch.equal(other_noise[row, :, n:], whole[row, :, n:])


def test_clips_go_on_from_their_openings_whatever_stands_beside_them(random_model, tokens):
    def run(which):
        passes = generate_clips(
            random_model,
            [PROMPTS[i] for i in which],
            [KEYS[i] for i in which],
            n_frames=N_FRAMES,
            sampling=SAMPLING,
            rows=2,
            openings=tokens.numpy()[which, :, :12].astype(np.uint16),
        )
        return np.concatenate(list(passes))

    together = run([0, 1, 2])
    assert np.array_equal(together[..., :12], tokens.numpy()[..., :12])
    assert np.array_equal(together[[2, 0]], run([2, 0]))
    # Continued later from what it played itself, a clip is the clip: what an ablation's untouched rows rest on.
    again = generate(
        random_model,
        PROMPTS[:2],
        KEYS[:2],
        n_frames=N_FRAMES,
        sampling=SAMPLING,
        prefix=torch.from_numpy(together[:2]),
        n_prefix_frames=[20, 12],
    )
    assert np.array_equal(again.numpy(), together[:2])


def test_no_text_is_no_prompt(random_model, tokens):
    without, empty = (
        teacher_forced(random_model, tokens[:1], encode_prompts(random_model, [p]), layers=[5])[0][5]
        for p in (None, "")
    )
    assert torch.equal(without, empty)


def test_noise_samples_the_softmax():
    logits = np.log([0.5, 0.3, 0.15, 0.05])
    noise = clip_noise((1, 2, 3), 1, 4)
    draws = [int(np.argmax(logits - np.log(next(noise)[0]))) for _ in range(20_000)]
    # Standard error of a share is at most 0.0036.
    np.testing.assert_allclose(np.bincount(draws) / len(draws), [0.5, 0.3, 0.15, 0.05], atol=0.015)


def test_capture_in_padded_passes_equals_one_pass(random_model, tokens):
    passes = list(residual_stream(random_model, tokens.numpy().astype(np.uint16), PROMPTS, layers=[-1, 3], rows=2))
    assert [len(p[3]) for p in passes] == [2, 1]
    whole, _ = teacher_forced(random_model, tokens, encode_prompts(random_model, PROMPTS), layers=[-1, 3])
    np.testing.assert_allclose(np.concatenate([p[3] for p in passes]), whole[3], rtol=1e-4, atol=1e-4)


def test_half_a_model_directory_is_one_clear_error(random_model_dir, tmp_path):
    (tmp_path / "state_dict.bin").write_bytes((random_model_dir / "state_dict.bin").read_bytes())
    with pytest.raises(FileNotFoundError, match=r"has no compression_state_dict\.bin"):
        load_model(str(tmp_path))
