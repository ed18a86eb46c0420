"""What a run says of itself when it ends: computed, reused, how long."""

import json
import os
from pathlib import Path

from reprise.workflow.stages import by_stage, judged, read_jobs, run_summary


def benchmark(path: Path, seconds: float, peak_mb: float, ended: float) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(f"s\th:m:s\tmax_rss\n{seconds}\t0:00:01\t{peak_mb or '-'}\n")
    os.utime(path, (ended, ended))


def test_a_line_a_stage_in_their_order(tmp_path: Path) -> None:
    corpus, study = tmp_path / "corpora" / "m-0a", tmp_path / "small"
    benchmark(corpus / "generate" / "b00.tsv", 100.5, 900, 50)
    benchmark(corpus / "generate" / "b01.tsv", 60.0, 1000, 150)
    benchmark(study / "probe" / "h1-2-sae-layer2.tsv", 7.0, 300, 160)
    benchmark(study / "candidates.tsv", 0.1, 0, 40)  # over before its memory was measured
    jobs = read_jobs([corpus, study, tmp_path / "none"])
    assert by_stage(jobs).to_dict("records")[:2] == [
        {"stage": "generate", "jobs": 2, "seconds": 160.5, "peak_mb": 1000},
        {"stage": "probe", "jobs": 1, "seconds": 7.0, "peak_mb": 300},
    ]
    lines = [line.split() for line in run_summary(jobs, since=100).splitlines()]
    assert lines == [
        ["stage", "computed", "reused", "time"],
        ["generate", "1", "1", "60", "s"],
        ["probe", "1", "0", "7", "s"],
        ["candidates", "0", "1", "-"],
    ]


def test_nothing_was_measured(tmp_path: Path) -> None:
    assert by_stage(read_jobs([tmp_path])).empty and run_summary(read_jobs([tmp_path]), since=0).count("\n") == 0


def test_a_run_says_what_it_judged_and_nothing_older(tmp_path: Path) -> None:
    for study, ended in (("new", 150), ("old", 50)):
        path = tmp_path / study / "verdict.json"
        path.parent.mkdir()
        path.write_text(json.dumps({"verdict": "none", "reason": "nothing predicts"}))
        os.utime(path, (ended, ended))
    assert judged(tmp_path, ["new", "old", "never"], since=100) == ["new: none (nothing predicts)"]
