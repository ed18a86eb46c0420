"""The delay pattern: audiocraft's own, and step by step what it is as a whole."""

import torch

import reprise.models.audiocraft_setup  # noqa: F401
from reprise.models.delay_pattern import chosen_frames, delayed, n_positions, n_steps, predictions, step_input
from tests.unit.models.small_study import N_FRAMES


def test_delay_pattern_is_audiocrafts(random_model, tokens):
    pattern = random_model.lm.pattern_provider.get_pattern(N_FRAMES)
    sequence, _, _ = pattern.build_pattern_sequence(tokens, 256, keep_only_valid_steps=True)
    assert torch.equal(delayed(tokens, 256), sequence)


def test_a_step_reads_what_the_whole_pattern_has_there(tokens):
    whole = delayed(tokens, 256)
    for p in range(n_positions(N_FRAMES)):
        assert torch.equal(step_input(tokens, p, 256), whole[:, :, p : p + 1])


def test_every_token_is_chosen_once_before_it_is_read(tokens):
    chosen = {}
    for p in range(n_steps(N_FRAMES, 4)):
        for k, frame in chosen_frames(p, 4, N_FRAMES):
            assert chosen.setdefault((k, frame), p) == p
            # The next step is the first that reads it.
            marked = torch.zeros_like(tokens)
            marked[:, k, frame] = 1
            assert step_input(marked, p + 1, 0)[:, k].all() and not step_input(marked, p, 0).any()
    assert len(chosen) == 4 * N_FRAMES


def test_predictions_stand_where_their_frames_are_chosen():
    position = torch.arange(n_positions(N_FRAMES))[None, None, :, None].expand(2, 4, -1, 5)
    for k, predicted in predictions(position):
        frames = [f for f in range(N_FRAMES) if f + k < n_positions(N_FRAMES)]
        assert predicted.shape == (2, len(frames), 5)
        assert predicted[0, :, 0].tolist() == [f + k for f in frames]
        assert all((k, f) in chosen_frames(f + k, 4, N_FRAMES) for f in frames)
