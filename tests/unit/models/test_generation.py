"""Sampling: audiocraft's own tokens and shares, and what batching must not change."""

import numpy as np
import pytest
import torch

import reprise.models.audiocraft_setup  # noqa: F401
from reprise.models.generation import Sampling, choose, clip_noise, generate, generate_clips
from tests.unit.models.small_study import KEYS, N_FRAMES, PROMPTS, SAMPLING, attributes


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


def test_tokens_depend_on_identity_alone(random_model):
    def run(prompts, keys, rows):
        passes = generate_clips(random_model, prompts, keys, n_frames=N_FRAMES, sampling=SAMPLING, batch_size=rows)
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
            batch_size=2,
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


def test_noise_samples_the_softmax():
    logits = np.log([0.5, 0.3, 0.15, 0.05])
    noise = clip_noise((1, 2, 3), 1, 4)
    draws = [int(np.argmax(logits - np.log(next(noise)[0]))) for _ in range(20_000)]
    # Standard error of a share is at most 0.0036.
    np.testing.assert_allclose(np.bincount(draws) / len(draws), [0.5, 0.3, 0.15, 0.05], atol=0.015)


def test_a_prefix_needs_its_lengths(random_model):
    prefix = torch.zeros(1, random_model.n_codebooks, 5, dtype=torch.int64)
    for given in ({"prefix": prefix}, {"n_prefix_frames": [5]}):
        with pytest.raises(ValueError, match="only one of prefix and n_prefix_frames"):
            generate(random_model, ["a"], [(0,)], n_frames=8, sampling=Sampling(1.0, 10, 1.0), **given)
