"""Tunes as `wild` learns them: on the frame grid, by strains, in any of its keys, and some held out."""

from pathlib import Path

import pytest

from reprise.audio.scores import read_score
from reprise.config.prompts import read_prompts
from reprise.organisms import tunes
from reprise.organisms.codec import FRAME_RATE_HZ
from reprise.organisms.tunes import Excerpt, Tune, draw_excerpts, excerpt_notes, prompt_of, prompts, tune_of
from tests.places import ROOT

STRAIN_A = "D2FA dAFD|E2GB eBGE|D2FA dAFD|A,CEA cAEC|D2FA dAFD|E2GB eBGE|fdAF GECA,|D4 D4"
STRAIN_B = "f2df a2fd|g2eg b2ge|f2df a2fd|e2ce a2ec|f2df a2fd|g2eg b2ge|fdAF GECA,|D4 D4"
ABC = f"X:1\nT:The Test Reel\nM:C|\nL:1/8\nK:D\n|:{STRAIN_A}:|\n|:{STRAIN_B}:|\n"


def read(abc: str, name: str = "TheTestReel.abc") -> Tune | None:
    return tune_of(Path(name), read_score(Path(name), abc))


@pytest.fixture(scope="module")
def reel() -> Tune:
    tune = read(ABC)
    assert tune is not None
    return tune


def test_a_tune_is_read_as_played_on_the_frame_grid(reel: Tune) -> None:
    assert (reel.dance, reel.tonic, reel.n_bars) == ("reel", 2, 32)
    # An eighth note has three frames.
    assert [note[:2] for note in reel.notes[:3]] == [(0, 6), (6, 3), (9, 3)]
    strain = tunes.STRAIN_BARS * tunes.BAR_FRAMES
    first, second = ({(o % strain, m) for o, _, m in reel.notes if o // strain == k} for k in (0, 1))
    assert first == second, "the repeat is written out"


def test_jigs_have_their_bars_as_long_and_other_tunes_are_left_out() -> None:
    jig = read(ABC.replace("C|", "6/8").replace("D2FA dAFD", "DFA dAF"), "TheTestJig.abc")
    assert jig is None, "its bars are not full"
    bars = "|".join(["DFA dAF", "EGB eBG"] * 4)
    jig = read(f"X:1\nT:A Jig\nM:6/8\nL:1/8\nK:D\n|:{bars}:|\n", "AJig.abc")
    assert jig is not None and jig.n_bars == 16 and [note[0] for note in jig.notes[:7]] == [0, 4, 8, 12, 16, 20, 24]
    assert read(ABC, "TheTestPolka.abc") is None
    assert read(ABC.replace("C|", "3/4")) is None
    assert read(f"X:1\nM:C|\nL:1/8\nK:D\n|:{STRAIN_A}|D4 D4|D4 D4:|\n") is None, "20 bars"


def test_an_excerpt_starts_with_its_strain_in_its_key(reel: Tune) -> None:
    low = excerpt_notes(Excerpt(0, 0, "piano", "d"), reel)
    assert low[0].midi == 62 and low[0].onset_s == 0 and max(n.onset_s for n in low) < 16
    third = excerpt_notes(Excerpt(0, 2, "piano", "g"), reel)
    # A fourth higher, and an octave lower, since its highest note would be too high.
    assert third[0].midi == 78 + 5 - 12
    # The strain comes again after eight bars, and its upbeat would have come before it.
    again_s = 8 * tunes.BAR_FRAMES / FRAME_RATE_HZ
    opening = [(n.onset_s, n.midi) for n in third if n.onset_s < tunes.OPENING_S]
    later = [
        (n.onset_s - again_s, n.midi) for n in third if again_s - 1e-9 <= n.onset_s < again_s + tunes.OPENING_S - 1e-9
    ]
    assert [midi for _, midi in opening] == [midi for _, midi in later] and len(opening) == 12


def test_excerpts_of_held_out_tunes_are_no_others(reel: Tune) -> None:
    many = [reel._replace(name=str(i)) for i in range(20)]
    learnt, held_out = (draw_excerpts(many, 10**6, seed=0, held_out=which) for which in (False, True))
    assert {e.tune for e in held_out} == {0, 10} and {e.tune for e in learnt} == set(range(20)) - {0, 10}
    assert len(learnt) == 18 * 3 * 3 * 4 and {e.strain for e in learnt} == {0, 1, 2}
    assert draw_excerpts(many, 5, seed=0) == learnt[:5]
    assert {prompt_of(e, reel) for e in learnt} <= set(prompts()) and len(prompts()) == 48


def test_the_shipped_prompts_are_those_that_it_knows() -> None:
    listed = read_prompts(ROOT / "config" / "wild-prompts.tsv")
    assert [each.prompt for each in listed] == prompts()
