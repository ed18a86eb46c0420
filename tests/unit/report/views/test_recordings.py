"""Recordings are credited, and what was left out is listed."""

import json
from pathlib import Path

import pandas as pd
import pytest

from reprise.interventions.matched_damage import matched_damage
from reprise.storage.files import write_parquet
from tests.unit.report.html_page import Page
from tests.unit.report.results_folder import GAINS, NAME, run_script, write_card, write_study


def test_recordings_are_credited_and_what_was_left_out_is_listed(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    fields = write_study(tmp_path, "planner", gains=GAINS["planner"], candidates=True)
    asked = {"folder": "none", "manifest": "m.csv", "checksums": "", "max_tracks": 0, "continue_from_s": 8.0}
    fields |= {"source": "audio", "recordings": asked}
    cards = [write_card(tmp_path, "planner", "foresight")]
    rows = [f"p{i:02d}.wav,{i:064x},{'CC0' if i else 'CC <BY>'},set {i},slow;sad,\n" for i in range(6)]
    rows += [f"lost{i}.mp3,{i + 9:064x},CC0,,fast,\n" for i in range(3)]
    (tmp_path / "m.csv").write_text("path,sha256,licence,source,tags,prompt\n" + "".join(rows))
    reasons = ("missing", "missing", "cannot be decoded: Invalid data <found>")
    left_out = [{"track_id": f"lost{i}", "path": f"lost{i}.mp3", "reason": r} for i, r in enumerate(reasons)]
    cuts = [{"track_id": "p01", "path": "p01.wav", "cut": 1, "reason": "silent: 16.00-32.00 s peaks at -inf dBFS"}]
    damaged = [{"track_id": "p02", "path": "p02.wav", "reason": "cannot be decoded at 1.00-1.05 s"}]
    for manifest in (tmp_path / "results/corpora/planner-0a/audio").glob("*.manifest.json"):
        content = json.loads(manifest.read_text())
        content["meta"] |= {"n_tracks": 9, "left_out": left_out, "cuts_left_out": cuts, "damaged": damaged}
        manifest.write_text(json.dumps(content))

    page = Page(run_script(tmp_path, monkeypatch, {"planner": fields}, cards))
    said, told = page.said("planner"), capsys.readouterr().err
    assert "report: planner: 3 of 9 recordings are left out: results/report/index.html lists them" in told
    assert "report: planner: 1 cuts of recordings are left out: results/report/index.html lists them" in told
    for text in (
        "12 clips of 6 recordings. The model reads them and plays nothing",
        "3 of 9 recordings were left out (missing 2, cannot be decoded 1).",
        "licences CC0: 5; CC <BY>: 1",
        "tags slow 6, sad 6",
        "lost2.mp3: cannot be decoded: Invalid data <found>",
        "1 cut of the other recordings was left out (silent 1).",
        "Cuts that were left out: 1 p01.wav: silent: 16.00-32.00 s peaks at -inf dBFS",
        "Recordings that are damaged: 1 p02.wav: cannot be decoded at 1.00-1.05 s",
        "p00: set 0 (CC <BY>)",
        "prompts in which the motif returns were continued from 8 s. "
        "The 48 with a return in the untouched continuation too",
        # One clip of each cut: no seeds.
        "clips 12 SAE",
    ):
        assert text in said, text
    # A model organism's truth is about its own music.
    assert "built to be" not in said and "planner not stated foresight" in page.said()

    # The model itself returns nowhere: what was edited is judged by nothing.
    effects = next((tmp_path / "results/planner/effects").glob(f"{NAME}.parquet"))
    table = pd.read_parquet(effects).assign(found_baseline=0.0)
    write_parquet(effects, table)
    write_parquet(effects.with_name(f"{NAME}.matched.parquet"), matched_damage(table[:0]))
    said = Page(run_script(tmp_path, monkeypatch, {"planner": fields}, cards)).said("planner")
    assert "None of the model's own continuations has a valid return" in said and "were continued" not in said
