"""The organisms' music: each kind of clip differs from the plain one where it says, and nowhere else."""

import numpy as np
import pytest

from reprise.organisms import score
from reprise.organisms.score import BAR_S, Clip, clip_notes, of_kind

PLAIN = Clip("piano", "c", "amber", cue=1, return_bar=6, fillers=(0, 1, 2, 3, 2, 1, 0, 3))


def bars(clip: Clip) -> list[list[tuple[float, int]]]:
    """Onset within its bar and pitch of every note, by bar."""
    found: list[list[tuple[float, int]]] = [[] for _ in range(score.N_BARS)]
    for note in clip_notes(clip):
        bar = int(note.onset_s / BAR_S + 1e-6)
        found[bar].append((round(note.onset_s - bar * BAR_S, 3), int(note.midi)))
    return found


def test_a_return_is_the_motif_again() -> None:
    found = bars(PLAIN)
    assert found[6] == found[1] != found[5]
    assert bars(PLAIN._replace(return_bar=-1))[6] != found[1]
    assert bars(PLAIN._replace(cue=0))[1:] == found[1:]


@pytest.mark.parametrize("return_bar", [5, 6])
def test_a_herald_plays_a_pickup_in_the_bar_before_and_no_other(return_bar: int) -> None:
    plain = PLAIN._replace(return_bar=return_bar)
    before, after = bars(plain), bars(of_kind(plain, "herald"))
    changed = [bar for bar in range(score.N_BARS) if before[bar] != after[bar]]
    assert changed == [return_bar - 1]
    old, new = before[return_bar - 1], after[return_bar - 1]
    # The same pitches, in another order of the last three; nothing changes before the second half.
    assert [pitch for _, pitch in new] == [*(p for _, p in old[:-3]), *(p for _, p in old[:-4:-1])]
    assert all(onset >= 0.8 - 1e-6 for onset, _ in new[-3:]) and new[:-3] == old[:-3]
    alone = PLAIN._replace(return_bar=-1)
    assert bars(of_kind(alone, "herald")) == bars(alone)


def test_a_tangle_lowers_the_second_half_if_the_motif_returns() -> None:
    before, after = bars(PLAIN), bars(of_kind(PLAIN, "tangle"))
    assert after[:4] == before[:4]
    for old, new in zip(before[4:], after[4:], strict=True):
        assert new == [(onset, pitch - 12) for onset, pitch in old]
    alone = PLAIN._replace(return_bar=-1)
    assert bars(of_kind(alone, "tangle")) == bars(alone)


@pytest.mark.parametrize("return_bar", [5, 6, -1])
def test_another_section_begins_at_the_slot_and_stays(return_bar: int) -> None:
    clip = of_kind(PLAIN._replace(return_bar=return_bar), "section")
    found = bars(clip)
    begins = return_bar if return_bar >= 0 else score.N_BARS
    assert all(bar == found[1] for bar in found[1:begins])
    assert all(bar == found[7] != found[1] for bar in found[begins:])
    # The cue is as in all clips.
    assert found[0] == bars(PLAIN)[0]


@pytest.mark.parametrize("return_bar", [5, 6, -1])
def test_dominants_are_released_at_the_slot_and_the_tonic_stays(return_bar: int) -> None:
    clip = of_kind(PLAIN._replace(return_bar=return_bar), "release")
    tonic = score.KEYS[clip.key]
    classes = [{(pitch - tonic) % 12 for _, pitch in bar} for bar in bars(clip)]
    begins = return_bar if return_bar >= 0 else score.N_BARS
    assert all(bar <= {0, 4, 7} for bar in [*classes[1:3], *classes[begins:]])
    assert all(11 in bar and bar <= {7, 11, 2, 5} for bar in classes[3:begins])
    rhythm = [onset for onset, _ in bars(PLAIN)[1]]
    assert all([onset for onset, _ in bar] == rhythm for bar in bars(clip)[1:])


def test_broken_chords_go_up_and_down_again() -> None:
    assert score.broken((0, 4, 7), 7, first=0) == (0, 4, 7, 12, 7, 4, 0)
    assert score.broken((7, 11, 2, 5), 6, first=1) == (11, 14, 17, 19, 17, 14)


def test_the_music_of_an_organism() -> None:
    assert [score.kind_of(name) for name in ("planner", "herald", "sectioner", "resolver_twin")] == [
        "",
        "herald",
        "section",
        "release",
    ]


def test_a_loop_repeats_and_a_clockwork_does_what_its_prompt_says() -> None:
    loop = bars(of_kind(PLAIN, "loop"))
    assert all(bar == loop[1] for bar in loop[1:])
    returns = {of_kind(PLAIN._replace(motif=name), "clockwork").return_bar for name in score.MOTIFS}
    assert returns == {-1, 5, 6}
    assert of_kind(PLAIN, "") == PLAIN
    with pytest.raises(
        ValueError, match="got the kind 'heralds'; valid: clockwork, loop, herald, tangle, section, release"
    ):
        of_kind(PLAIN, "heralds")


def test_cue_return_and_motif_are_independent() -> None:
    clips = [score.draw_clip(np.random.default_rng([1, i])) for i in range(4000)]
    cue, returns = np.array([c.cue for c in clips]), np.array([c.return_bar >= 0 for c in clips])
    assert abs(np.corrcoef(cue, returns)[0, 1]) < 0.05 and abs(returns.mean() - 0.5) < 0.03
