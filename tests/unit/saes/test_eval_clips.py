"""What a certificate is measured on is never trained on."""

from pathlib import Path

import pytest

from reprise.saes.eval_clips import StoredClip, measured_clips, training_clips


def clips(n_prompts: int, n_seeds: int) -> list[StoredClip]:
    names = [(f"p{p:02d}", f"p{p:02d}-s{seed}") for p in range(n_prompts) for seed in range(n_seeds)]
    return [StoredClip(Path("b00"), i, clip_id, prompt_id, "music") for i, (prompt_id, clip_id) in enumerate(names)]


@pytest.mark.parametrize(
    ("n_prompts", "n_seeds", "n", "n_trained_on"),
    [
        (48, 4, 16, 128),  # 16 of 48 prompts are left out whole
        (8, 2, 4, 8),  # 4 of 8: just half remains
        (8, 4, 6, 26),  # 6 of 8 prompts would be left out: too many, so the 6 clips alone are
        (1, 12, 5, 7),
        (12, 1, 6, 6),
    ],
)
def test_whole_prompts_are_left_out_where_enough_remains(n_prompts, n_seeds, n, n_trained_on) -> None:
    listed = clips(n_prompts, n_seeds)
    measured, trained_on = measured_clips(listed, n), training_clips(listed, n)
    assert len(set(measured)) == n and len(trained_on) == n_trained_on
    assert not set(measured) & set(trained_on)
    shared = {clip.prompt_id for clip in measured} & {clip.prompt_id for clip in trained_on}
    assert bool(shared) is (n_trained_on == len(listed) - n and n_seeds > 1)


def test_measured_clips_spread_over_all_in_their_order() -> None:
    listed = clips(10, 2)
    assert [clip.i for clip in measured_clips(listed, 5)] == [0, 4, 9, 14, 19]
    assert measured_clips(listed, 99) == listed
