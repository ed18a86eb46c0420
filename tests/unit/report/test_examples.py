"""Examples are chosen by rule."""

import pandas as pd

from reprise.report.examples import example_clips
from reprise.targets.recurrence.view import WORDS
from tests.unit.report.results_folder import event


def test_example_clips_are_chosen_by_rule() -> None:
    rows = [event(f"a-s{i}", 10.0, score) for i, score in enumerate((0.9, 0.7, 0.8))]
    rows += [event("b-s0", 9.0, 0.6, "score"), event("b-s1", 9.0, 0.65, "gap"), event("a-s0", 14.0, 0.69, "gap")]
    clips = ["b-s1", "a-s2", "a-s1", "a-s0", "b-s0", "b-s2"]
    assert [c for c, _ in example_clips(pd.DataFrame(rows), clips, WORDS)] == ["a-s2", "b-s2", "b-s1"]
    nothing = pd.DataFrame(rows).head(0)
    assert [c for c, _ in example_clips(nothing, clips, WORDS)] == ["a-s0"]
    assert [c for c, _ in example_clips(pd.DataFrame(rows[:3]), ["a-s0", "a-s1", "a-s2"], WORDS)] == ["a-s2"]
