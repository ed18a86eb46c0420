"""What becomes of labelled times."""

import re
from types import SimpleNamespace

import pandas as pd
import pytest

from reprise.report.views.labels import labels_view
from reprise.targets.registry import target_of
from tests.unit.report.results_folder import event, label_rows


def test_labels_add_up(made: SimpleNamespace) -> None:
    clips = [{"clip_id": "p00-s0", "prompt_id": "p00"}, {"clip_id": "p01-s0", "prompt_id": "p01"}]
    labels = {"h4-8": label_rows(pd.DataFrame([event("p00-s0", 12.0, 0.9)]), clips, 4, 8)}
    study = SimpleNamespace(settings=made.studies["planner"], labels=labels, target=target_of("recurrence"))
    (row,) = labels_view(study)
    # Times 7-8 are usable (b_s = 8 of 16 s): both precede the return at 12 s by 4 to 8 s, but for 8.0, open at a_s.
    assert row["usable"] == "6" and row["clips"] == "1 / 1" and row["prompts"] == "1"
    widths = [float(w) for w in re.findall(r'width="([\d.]+)%" height="16"', row["bar"])]
    assert sum(widths[-5:]) == pytest.approx(100, abs=0.05)
