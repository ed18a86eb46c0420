"""How often verdicts are right."""

from reprise.report.views.calibration import calibration_view
from reprise.verdict.meanings import VERDICTS


def test_how_often_verdicts_are_right_is_told_with_intervals() -> None:
    none = dict.fromkeys(VERDICTS, 0)
    counts = {"planner": none | {"foresight": 9, "unresolved": 1}, "loop": none | {"none": 10}}
    planner, loop = calibration_view(counts)
    assert planner["verdicts"] == "foresight 9, unresolved 1" and planner["truth"] == "foresight"
    assert planner["right"].startswith("90 %") and "to 100 %" in planner["right"]
    assert loop["foresight"] == "0 % (0 % to 31 %)"
    assert calibration_view({}) == []
