"""A study of a target that an installed package adds: it takes the clips of another study, and ends with a verdict."""

import json
import re
from pathlib import Path

import pandas as pd
import pytest

from reprise.config.corpora import corpus_name
from reprise.config.validation import load_config
from tests import plugins
from tests.workflow.conftest import jobs, snakemake, tiny_config, write_config

# What studies share. Another target makes none of it again.
SHARED = {"identify_model", "generate", "activations_tiny", "activations_random_tiny"}


def test_a_study_of_another_target_shares_the_clips(
    own_copy: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    site = tmp_path / "site"
    plugins.install(site, monkeypatch, page="add-a-target.md")
    monkeypatch.setenv("PYTHONPATH", str(site))
    config = tiny_config()
    # What is declared for all studies are fields of recurrence.
    events = config["defaults"].pop("events")
    config["studies"]["tiny"]["events"] = events
    swells = {"target": "swell", "events": {"rise_db": 6.0}}
    swells["probes"] = config["defaults"]["probes"] | {"representations": ["sae", "random_model"]}
    config["studies"]["swells"] = config["studies"]["tiny"] | swells
    write_config(own_copy, config)
    studies = load_config(own_copy / "config.yaml", base_dir=own_copy).studies
    assert corpus_name(studies["tiny"]) == corpus_name(studies["swells"])
    scheduled = jobs(snakemake(own_copy, "--dry-run", "--cores", "2"))
    assert not SHARED & scheduled.keys(), scheduled
    assert (scheduled["events"], scheduled["descriptors"], scheduled["label"]) == (2, 2, 2)
    snakemake(own_copy, "--cores", "2")
    assert jobs(snakemake(own_copy, "--dry-run", "--cores", "2")) == {}
    swells = own_copy / "results/swells"
    events = pd.concat([pd.read_parquet(path) for path in sorted(swells.glob("events/b??.parquet"))])
    assert len(events) and "transposition" not in events and (events["reference_duration_s"] == 0).all()
    labels = pd.read_parquet(swells / "labels/h4-8.parquet")
    # Nothing has to end first: only the window of the baseline must be full.
    assert labels.loc[labels["reason"] == "", "time_s"].min() == 3.0
    assert json.loads((swells / "verdict.json").read_text())["gates"]
    page = re.sub(r"\s+", " ", (own_copy / "results/report/index.html").read_text())
    assert "Does the music swell?" in page and "Does the motif return?" in page
    snakemake(own_copy, "--cores", "2", "review")
    review = (swells / "review/index.html").read_text()
    assert "may be a swell" in review and 'data-key="a"' not in review and 'data-key="b"' in review

    # The other built-in targets, in the same clips.
    plain = {name: value for name, value in config["studies"]["tiny"].items() if name != "events"}
    # A section is longer than a swell, so less time is left for it.
    ablation = config["defaults"]["ablation"] | {"return_window_s": [1.0, 4.0]}
    columns = {"section": {"chroma_contrast", "timbre_contrast"}, "tension": {"tonic", "loudness_fall_db"}}
    for target in columns:
        config["studies"][target] = plain | {"target": target, "ablation": ablation}
    write_config(own_copy, config)
    wanted = [f"results/{target}/labels/{horizon}.parquet" for target in columns for horizon in ("h0.5-2", "h4-8")]
    scheduled = jobs(snakemake(own_copy, "--dry-run", "--cores", "2", *wanted))
    assert scheduled == {"declare_initial": 2, "events": 4, "label": 4}, scheduled
    snakemake(own_copy, "--cores", "2", *wanted)
    for path, own in zip(wanted[1::2], columns.values(), strict=True):
        labels = pd.read_parquet(own_copy / path)
        assert labels.loc[labels["reason"] == "", "time_s"].min() == 3.0
        assert own <= set(pd.read_parquet((own_copy / path).parents[1] / "events/b00.parquet"))

    # A new version finds the events of this target again.
    module = site / "swell.py"
    module.write_text(module.read_text().replace('version="1"', 'version="2"'))
    scheduled = jobs(snakemake(own_copy, "--dry-run", "--cores", "2"))
    assert not SHARED & scheduled.keys() and scheduled["events"] == 2 and scheduled["label"] == 2, scheduled
