"""The delay pattern: audiocraft's own, and step by step what it is as a whole."""

import pytest
import torch

import reprise.models.audiocraft_setup  # noqa: F401
from audiocraft.modules.codebooks_patterns import DelayedPatternProvider
from reprise.models.delay_pattern import chosen_frames, delayed, n_positions, n_steps, predictions, step_input
from tests.unit.models.small_study import N_FRAMES

PLAIN = (0, 1, 2, 3)
DELAYS = (PLAIN, (0, 0, 1, 1, 2, 2, 3, 3), (0, 0, 0), (0, 2, 2, 40))


@pytest.fixture(params=DELAYS, ids=str)
def delays(request):
    return request.param


@pytest.fixture
def tokens(delays):
    return torch.randint(256, (3, len(delays), N_FRAMES), generator=torch.Generator().manual_seed(0))


def test_delay_pattern_is_audiocrafts(delays, tokens):
    pattern = DelayedPatternProvider(len(delays), list(delays)).get_pattern(N_FRAMES)
    sequence, _, _ = pattern.build_pattern_sequence(tokens, 256, keep_only_valid_steps=True)
    assert torch.equal(delayed(tokens, 256, delays), sequence)
    whole, _, _ = pattern.build_pattern_sequence(tokens, 256)
    assert whole.shape[-1] == n_steps(N_FRAMES, delays) + 1
    # A step more than is chosen at: the last one's tokens, which nothing reads.
    assert torch.equal(torch.cat([step_input(tokens, p, 256, delays) for p in range(whole.shape[-1])], dim=2), whole)


def test_a_step_reads_what_the_whole_pattern_has_there(delays, tokens):
    whole = delayed(tokens, 256, delays)
    for p in range(n_positions(N_FRAMES)):
        assert torch.equal(step_input(tokens, p, 256, delays), whole[:, :, p : p + 1])


def test_every_token_is_chosen_once_before_it_is_read(delays, tokens):
    chosen = {}
    for p in range(n_steps(N_FRAMES, delays)):
        for k, frame in chosen_frames(p, delays, N_FRAMES):
            assert chosen.setdefault((k, frame), p) == p
            # The next step is the first that reads it.
            marked = torch.zeros_like(tokens)
            marked[:, k, frame] = 1
            assert step_input(marked, p + 1, 0, delays)[:, k].all() and not step_input(marked, p, 0, delays).any()
    assert len(chosen) == len(delays) * N_FRAMES


def test_predictions_stand_where_their_frames_are_chosen(delays):
    position = torch.arange(n_positions(N_FRAMES))[None, None, :, None].expand(2, len(delays), -1, 5)
    for k, predicted in predictions(position, delays):
        frames = [f for f in range(N_FRAMES) if f + delays[k] < n_positions(N_FRAMES)]
        assert predicted.shape == (2, len(frames), 5)
        assert predicted[0, :, 0].tolist() == [f + delays[k] for f in frames]
        assert all((k, f) in chosen_frames(f + delays[k], delays, N_FRAMES) for f in frames)
