"""The whole workflow on a tiny study: it ends, and afterwards only what is stale would run."""

import json
import os
import shutil
import subprocess
import sys

import numpy as np
import pandas as pd
import pytest
import soundfile
from safetensors.numpy import save_file

import reprise
from reprise.interventions.direction_files import DirectionFile
from reprise.interventions.subspace import linear
from reprise.review.event_ids import event_ids, read_audio_digests
from reprise.saes.latents import read_latents
from reprise.storage.artifacts import read_array, read_clips, store_of
from tests.workflow.conftest import ROOT, jobs, manifests, snakemake, tiny_config, write_config

ABOVE_LABELS = {"identify_model", "generate", "activations_tiny", "measure_sae", "certify_sae", "encode"}
ABOVE_LABELS |= {"descriptors", "events"}


def events_tables(finished):
    return sorted((finished / "results/tiny/events").glob("b??.parquet"))


def labels(finished):
    return pd.read_parquet(finished / "results/tiny/labels/h4-8.parquet")


def test_the_study_ends_with_a_verdict_and_a_report(finished):
    record = json.loads((finished / "results/tiny/verdict.json").read_text())
    assert record["verdict"] in ("foresight", "entangled", "local", "correlate", "unresolved", "none")
    assert record["gates"] and record["preregistration"]["digest"]
    page = (finished / "results/report/index.html").read_text()
    assert record["verdict"] in page


def test_every_clip_has_tokens_audio_activations_and_codes(finished):
    clips = read_clips(manifests(finished, "tokens"))
    assert len(clips) == 16 and clips["clip_id"].is_unique
    tokens = read_array(manifests(finished, "tokens"), "tokens")
    assert tokens.shape == (16, 4, 400) and tokens.dtype == np.uint16 and tokens.max() < 256
    acts = read_array(manifests(finished, "activations/layer2"), "resid_post")
    assert acts.shape == (16, 401, 128) and np.isfinite(acts.astype(np.float32)).all()
    latents = read_array(manifests(finished, "latents/layer2"), "values")
    assert latents.shape[:2] == (16, 401) and (latents >= 0).all()
    for manifest in manifests(finished, "audio"):
        for clip_id in read_clips([manifest])["clip_id"]:
            audio, rate_hz = soundfile.read(store_of(manifest) / f"{clip_id}.flac")
            assert rate_hz == 16000 and len(audio) == 16 * 16000 and np.abs(audio).max() > 0.01


def test_the_notebook_of_the_docs_runs(finished, monkeypatch):
    monkeypatch.chdir(finished)
    cells = json.loads((ROOT / "docs/open_study.ipynb").read_text())["cells"]
    source = "\n".join("".join(cell["source"]) for cell in cells if cell["cell_type"] == "code")
    names = {}
    exec(source.replace("results/planner", "results/tiny"), names)
    assert names["part"].shape == (101, 128)  # 4 to 8 s at 25 Hz, both ends
    # Its sum over slots is the column of the sparse matrix.
    latents = read_latents(manifests(finished, "latents/layer2"), range(100, 201))
    column = latents[:, [names["feature"]]].toarray().reshape(16, 101).mean(axis=1)
    np.testing.assert_allclose(names["activation"], column, rtol=1e-5)


def test_a_clip_is_edited_in_a_notebook(finished, tmp_path):
    study = reprise.open_study(finished / "results/tiny")
    clip, other = study.clips["clip_id"].iloc[[0, 5]]
    save_file({"direction": np.eye(128, dtype=np.float32)[7]}, tmp_path / "mine.safetensors")
    (tmp_path / "mine.json").write_text('{"layer": 2}')
    mine = tmp_path / "mine.safetensors"
    # In the continuation alone, so that the prefix is as it was.
    edited = study.edit(clip, mine, to=200.0, seconds=(9, 12), device="cpu")
    assert np.array_equal(edited.tokens[0], study.tokens.sel(clip=clip))
    differs_s = np.flatnonzero((edited.tokens[0] != edited.tokens[1]).any(axis=0)) / 25
    # The position at 9 s also chooses codebook 3 of three frames earlier.
    assert 9 - 3 / 25 <= differs_s[0] == edited.numbers["first_difference_s"] < 10
    assert edited.numbers["kl_lag0"] < edited.numbers["kl_lag1"]
    assert len(edited.audio) == len(edited.untouched) == 16 * edited.sample_rate_hz == 16 * 16000
    assert edited.numbers["found_baseline"] in (0, 1)
    still = study.edit(clip, mine, to=200.0, dose=0, device="cpu")
    assert np.array_equal(still.audio, still.untouched) and still.numbers["kl_nats"] == 0
    with pytest.raises(ValueError, match=r"to is 'nobody'; valid: a clip's name, numbers"):
        study.edit(clip, mine, to="nobody", device="cpu")
    rank_2 = DirectionFile(linear("given", np.eye(128)[:2]), 2, {})
    moved = study.edit(clip, rank_2, to=other, seconds=(0, 8), device="cpu")
    assert moved.numbers["kl_nats"] > 0
    with pytest.raises(ValueError, match="one finite number for each of 2"):
        study.edit(clip, rank_2, to=[1.0], device="cpu")
    with pytest.raises(ValueError, match=r"seconds is \(5, 3\); valid: two times within 0-16"):
        study.edit(clip, rank_2, seconds=(5, 3), device="cpu")
    with pytest.raises(ValueError, match=r"no candidate is called 'layer2-f9'; valid: "):
        study.edit(clip, "layer2-f9", device="cpu")


def test_labels_are_not_usable_before_the_cue_is_out_of_the_baselines_hearing(finished):
    labels = pd.read_parquet(finished / "results/tiny/labels/h4-8.parquet")
    usable = labels[labels["reason"] == ""]
    assert usable["time_s"].min() == 7.0 and usable["time_s"].max() == 8.0
    assert usable["clip_id"].nunique() == 16


def test_nothing_to_do_a_second_time(finished):
    assert jobs(snakemake(finished, "--dry-run", "--cores", "2")) == {}


def test_touching_every_file_reruns_nothing(finished, planner_files):
    for path in [finished / "config.yaml", finished / "prompts.tsv", *planner_files]:
        os.utime(path)
    assert jobs(snakemake(finished, "--dry-run", "--cores", "2")) == {}


def test_a_changed_horizon_reruns_labels_and_what_follows(reconfigured):
    config = tiny_config()
    config["defaults"]["horizons"]["long"] = [4, 7]
    scheduled = reconfigured(config)
    assert not ABOVE_LABELS & scheduled.keys(), scheduled
    # One horizon's label, its probes (one a representation) and its screen; the other's stay.
    assert scheduled["label"] == 1 and scheduled["probe"] == 5 and scheduled["screen"] == 1
    assert scheduled["baseline"] == 1
    assert scheduled["candidates"] == 1 and scheduled["verdict"] == 1 and scheduled["report"] == 1


def test_what_else_is_probed_reruns_no_probe(reconfigured):
    config = tiny_config()
    config["defaults"]["probes"] |= {"representations": ["resid", "sae", "random_model"], "alpha": 0.06}
    scheduled = reconfigured(config)
    assert not scheduled.keys() & {*ABOVE_LABELS, "label", "baseline", "probe", "screen"}, scheduled


def test_an_added_horizon_reruns_its_own(reconfigured):
    config = tiny_config()
    config["defaults"]["horizons"]["medium"] = [2, 4]
    scheduled = reconfigured(config)
    assert not ABOVE_LABELS & scheduled.keys(), scheduled
    assert scheduled["label"] == 1 and scheduled["probe"] == 5 and scheduled["screen"] == 1
    assert scheduled["baseline"] == 1


def test_the_local_horizon_bears_on_the_longer_ones(reconfigured):
    config = tiny_config()
    config["defaults"]["horizons"]["local"] = [0.5, 1.5]
    scheduled = reconfigured(config)
    assert not ABOVE_LABELS & scheduled.keys(), scheduled
    assert scheduled["label"] == 1 and scheduled["probe"] == 10 and scheduled["screen"] == 2


def test_a_changed_threshold_is_declared_and_judged_and_reruns_nothing_else(reconfigured):
    config = tiny_config()
    config["defaults"]["verdict"] = {"min_effect": 0.3}
    assert reconfigured(config) == {"declare_current": 1, "verdict": 1, "report": 1}


def test_a_threshold_changed_after_the_fact_shows_in_the_verdict(finished, tmp_path):
    study, config = tmp_path / "study", tiny_config()
    shutil.copytree(finished, study, symlinks=True)
    config["defaults"]["verdict"] = {"min_effect": 0.3}
    write_config(study, config)
    snakemake(study, "--cores", "1")
    record = json.loads((study / "results/tiny/verdict.json").read_text())
    first, second = record["preregistration"]["declarations"]
    assert first["known"] == "nothing" and first["changed"] == []
    assert second["known"] != "nothing" and second["changed"] == ["thresholds.min_effect: 0.2 to 0.3"]
    page = (study / "results/report/index.html").read_text()
    assert "Declared after results were known" in page and "thresholds.min_effect: 0.2 to 0.3" in page
    assert "Declared after" not in (finished / "results/report/index.html").read_text()
    assert record["thresholds"]["min_effect"] == 0.3 and record["preregistration"]["intact"]


def test_a_checkout_of_any_date_asks_for_no_calibration(tmp_path):
    """git writes files in any order; what the project ships of its calibration must never look out of date."""
    checkout = tmp_path / "checkout"
    left_out = shutil.ignore_patterns(".*", "results", "__pycache__")
    shutil.copytree(ROOT, checkout, ignore=left_out)
    for path in (checkout / "benchmarks").iterdir():
        os.utime(path, (0, 0))
    command = [sys.executable, "-m", "snakemake", "--dry-run", "--quiet", "rules", "--cores", "1"]
    done = subprocess.run(command, capture_output=True, text=True, cwd=checkout)
    scheduled = jobs(done.stdout + done.stderr)
    assert done.returncode == 0 and "calibrate" not in scheduled and scheduled["generate"] == 4
    done = subprocess.run([*command, "calibration"], capture_output=True, text=True, cwd=checkout)
    assert jobs(done.stdout + done.stderr)["calibrate"] == 1


def test_a_device_is_not_a_setting_that_changes_results(reconfigured):
    config = tiny_config()
    config["studies"]["tiny"]["model"]["device"] = "cpu"
    assert reconfigured(config) == {}


def test_an_appended_prompt_reruns_one_batch(finished, reconfigured):
    prompts = finished / "prompts.tsv"
    before = prompts.read_text()
    prompts.write_text(before + "piano-c-heath\tpiano in c, heath theme\n")
    scheduled = reconfigured(tiny_config())
    prompts.write_text(before)
    assert scheduled["generate"] == 1 and scheduled["activations_tiny"] == 1 and scheduled["events"] == 1


def test_a_deleted_store_is_made_again(finished):
    store = finished / "results/tiny/latents/layer2/b00"
    shutil.move(store, finished / "aside")
    scheduled = jobs(snakemake(finished, "--dry-run", "--cores", "2"))
    shutil.move(finished / "aside", store)
    assert scheduled["encode"] == 1 and "generate" not in scheduled and "activations_tiny" not in scheduled


def test_the_review_page_is_made_on_demand(finished):
    snakemake(finished, "--cores", "1", "review")
    page = (finished / "results/tiny/review/index.html").read_text()
    events = pd.concat(map(pd.read_parquet, events_tables(finished)))
    assert page.count('<article class="event"') == min(100, len(events))
    assert jobs(snakemake(finished, "--dry-run", "--cores", "2")) == {}


def test_a_review_reruns_labels_and_what_follows(finished, tmp_path):
    # On a copy, since reviews stay.
    study = tmp_path / "study"
    shutil.copytree(finished, study, symlinks=True)
    events = pd.concat(map(pd.read_parquet, events_tables(study)), ignore_index=True)
    accepted = events[events["accepted"]]
    ids = event_ids(accepted, read_audio_digests(manifests(study, "audio")))
    review = {"format": "reprise review 1", "study": "tiny", "reviewer": "Ann"}
    file, config = study / "ann.json", tiny_config()

    def decide(decisions: dict[str, str]) -> None:
        rows = [{"event_id": i, "decision": d} for i, d in decisions.items()]
        file.write_text(json.dumps(review | {"decisions": rows}))

    decide({ids[0]: "reject", "0" * 16: "accept"})
    config["defaults"]["review"] = {"files": ["ann.json"]}
    write_config(study, config)
    scheduled = jobs(snakemake(study, "--dry-run", "--cores", "2"))
    assert not ABOVE_LABELS & scheduled.keys(), scheduled
    assert scheduled["import_reviews"] == 1 and scheduled["label"] == 2 and scheduled["probe"] == 10
    assert scheduled["candidates"] == 1 and scheduled["verdict"] == 1 and scheduled["report"] == 1

    before = labels(study)
    output = snakemake(study, "--cores", "1", "labels")
    assert "import_reviews: tiny: 1 of 2 decisions have no effect, their events no longer exist" in output
    changed = labels(study)["y"] != before["y"]
    assert set(before.loc[changed, "clip_id"]) == {accepted["clip_id"].iloc[0]}
    summary = json.loads((study / "results/tiny/reviews.json").read_text())
    assert summary["n_rejected"] == 1 and summary["orphaned"][0]["event_id"] == "0" * 16
    assert "0" * 16 in (study / "results/logs/tiny/import_reviews.log").read_text()

    os.utime(file)
    assert jobs(snakemake(study, "--dry-run", "--cores", "2", "labels")) == {}
    decide({ids[0]: "accept"})
    scheduled = jobs(snakemake(study, "--dry-run", "--cores", "2", "labels"))
    assert {"import_reviews": 1, "label": 2}.items() <= scheduled.items() and len(scheduled) <= 3

    # A file that is no review stops the run before its last import would be thrown away.
    good = file.read_text()
    file.write_text(good[:-1])
    output = snakemake(study, "--cores", "1", "labels", check=False)
    assert "nothing was run:\nann.json: EOF while parsing" in output and "Traceback" not in output
    assert (study / "results/tiny/reviews.parquet").exists()
    file.write_text(good)

    # Only reviewed events count: every other return is unknown.
    config["defaults"]["labels"] = {"reviewed_only": True}
    write_config(study, config)
    snakemake(study, "--cores", "1", "labels")
    after = labels(study)
    assert set(after.loc[after["y"] == 1, "clip_id"]) == {accepted["clip_id"].iloc[0]}
    assert set(after.loc[after["reason"] == "unreviewed", "clip_id"]) <= set(accepted["clip_id"].iloc[1:])
    assert (after["reason"] == "unreviewed").any()


def test_a_missing_review_is_named_before_any_job(finished, reconfigured):
    config = tiny_config()
    config["defaults"]["review"] = {"files": ["none.json"]}
    write_config(finished, config)
    output = snakemake(finished, "--cores", "2", check=False)
    assert 'defaults.review.files.0: there is no file "none.json"' in output and "Traceback" not in output


def test_a_bad_configuration_is_named_before_any_job(finished, reconfigured):
    config = tiny_config()
    config["defaults"]["horizons"]["long"] = [4, 80]
    write_config(finished, config)
    output = snakemake(finished, "--cores", "2", check=False)
    assert "defaults.horizons.long: got [4, 80] does not fit" in output
    assert "Traceback" not in output and "localrule" not in output
