"""A study that reaches its ablations, and what of them a changed setting computes again."""

import json
import shutil

import numpy as np
import pandas as pd
import pytest
import torch
from safetensors.torch import save_file

from reprise.candidates.featurizers import das
from reprise.saes.latents import read_latents
from reprise.saes.loading import load_sae
from reprise.storage.artifacts import read_array, read_clips
from tests.workflow.conftest import ROOT, corpus_of, jobs, manifests, run_script, snakemake, tiny_config, write_config

EDITING = {"generate", "activations_tiny", "measure_sae", "certify_sae", "encode", "descriptors", "events"}
EDITING |= {"ablate", "effects"}


def ablation_config() -> dict:
    config = tiny_config()
    fields = config["defaults"]
    fields["generation"] = {"n_batches": 1, "batch_size": 32}
    # What is tested is what follows a candidate, so one is taken on with less evidence than a study asks for.
    fields["screen"] = {"fdr": 0.9}
    fields["candidates"] = {"kinds": ["feature", "mean_difference"]}
    fields["descriptors"] = {"context_s": 1}
    fields["probes"] |= {"representations": ["sae", "random_model"], "alpha": 0.5}
    fields["ablation"] = {"n_clips": 3, "doses": [0, 1.0], "windows": ["until_event"], "n_sufficiency": 2}
    return config


@pytest.fixture(scope="module")
def study(tmp_path_factory):
    """The directory of a finished study whose screen finds the planted plan."""
    directory = tmp_path_factory.mktemp("ablation")
    prompts = (ROOT / "config" / "prompts.tsv").read_text().splitlines()
    (directory / "prompts.tsv").write_text("\n".join([prompts[0], *prompts[1:49:2]]) + "\n")
    write_config(directory, ablation_config())
    snakemake(directory, "--cores", "2")
    return directory


def results(study):
    return study / "results" / "tiny"


def test_a_candidate_is_found_edited_and_judged(study):
    judged = json.loads((results(study) / "verdict.json").read_text())["candidates"]
    # What was tried in vain stays in the list. One candidate of each kind is edited.
    edited = [c for c in judged if c["edited"]]
    assert sorted(c["kind"] for c in edited) == ["feature", "mean_difference"]
    assert all({"effect", "damage", "selectivity", "second_target"} <= {g["name"] for g in c["gates"]} for c in edited)
    found = pd.read_parquet(results(study) / "candidates.parquet")
    assert set(found.loc[found["name"] != "", "title"]) == {c["title"] for c in edited}
    for c in edited:
        effects = pd.read_parquet(results(study) / "effects" / f"{c['name']}.parquet")
        nothing = effects[(effects["dose"] == 0) & (effects["kind"] != "resampled")]
        assert (nothing[["effect_score", "effect_rate", "damage_nats", "kl_nats"]] == 0).all(axis=None)
        assert set(effects["arm"]) == {"necessity", "sufficiency"} and c["sufficient"]
        control = "matched_feature" if c["kind"] == "feature" else "swapped_fit"
        kinds = {"untouched", "resampled", "target", "second_target", "random_subspace", control}
        assert kinds <= set(effects["kind"]) <= kinds | {"local_feature"}


def test_continuations_keep_their_prefix_and_a_dose_of_nothing_changes_no_token(study):
    folder = next(p for p in sorted((results(study) / "ablations").iterdir()) if p.is_dir() and "-f" in p.name)
    table, made = pd.read_parquet(folder / "conditions.parquet"), np.load(folder / "tokens.npy")
    tokens = manifests(study, "tokens")
    clips = read_clips(tokens)["clip_id"].tolist()
    own = read_array(tokens, "tokens")[[clips.index(c) for c in table["clip_id"]]]
    assert made.shape == own.shape
    n_prefix = 8 * 25
    assert (made[..., :n_prefix] == own[..., :n_prefix]).all()
    fresh_noise = table["kind"] == "resampled"
    nothing = (table["dose"] == 0) & ~fresh_noise
    assert nothing.sum() > 2 * 3 and (made[nothing] == own[nothing]).all()
    assert (made[fresh_noise] != own[fresh_noise]).any(axis=(1, 2)).all()
    # Removing the plan does something.
    removed = (table["kind"] == "target") & (table["window"] == "until_event") & (table["dose"] == 1)
    assert (made[removed] != own[removed]).any(axis=(1, 2)).any()


def test_heads_are_attributed_and_shown(study):
    page = (study / "results" / "report" / "index.html").read_text()
    assert page.count("Which attention heads pass it on") == 2
    for path in (results(study) / "heads").glob("*.parquet"):
        table = pd.read_parquet(path)
        effects = pd.read_parquet(results(study) / "effects" / path.name)
        edited = (effects["kind"] == "target") & (effects["dose"] == 1) & (effects["arm"] == "necessity")
        assert table["n_clips"].iloc[0] == (effects.loc[edited, "effect_rate"] == 1).sum()
        assert effects.loc[effects["found"] == 1, "onset_s"].between(9.5, 12.5).all()
        # The plan is planted in the output of layer 2: the heads that read it come later, and one reads it at once.
        assert not table.loc[table["layer"] <= 2, "attribution"].any()
        best = table.loc[table["attribution"].idxmax()]
        assert best["layer"] == 3 and best["direct"] > 0.9 * best["attribution"]


def test_a_map_says_when_the_edit_acts(study):
    """Only a candidate that passes has a map, and three clips are too few for that; so it is asked for."""
    (candidate,) = (results(study) / "candidates").glob("layer2-meandifference-*.json")
    assert not (results(study) / "maps").exists()
    snakemake(study, "--cores", "2", f"results/tiny/maps/{candidate.stem}.parquet")
    table = pd.read_parquet(results(study) / "maps" / f"{candidate.stem}.parquet")
    assert table["where"].tolist() == ["layer 2"] * 7 and table["from_s"].tolist() == [0, 2, 4, 6, 8, 10, 12]
    # The planner decides when the return is due.
    assert table.loc[table["to_s"] <= 8, "effect"].max() < table.loc[table["from_s"] >= 8, "effect"].max()
    assert table["damage"].abs().max() < 0.5
    # Nothing that the verdict rests on was made again.
    assert jobs(snakemake(study, "--dry-run", "--cores", "2")) == {}


def test_a_subspace_found_by_gradient_is_tried_with_the_others(study, tmp_path, monkeypatch):
    monkeypatch.setattr(das, "DAS_STEPS", 1)
    events = sorted(map(str, results(study).glob("events/b??.parquet")))
    folder = tmp_path / "study"
    shutil.copytree(study, folder, symlinks=True)
    output = folder / "results" / "tiny" / "das" / "layer2.json"
    inputs = {
        "model": str(corpus_of(study) / "model.json"),
        "tokens": manifests(study, "tokens"),
        "activations": manifests(study, "activations/layer2"),
        "events": events,
        "clip_summaries": [path.replace(".parquet", ".clips.parquet") for path in events],
        "reviews": [],
    }
    of_clips = {"confirm_fraction": 0.5, "prefix_s": 8.0, "return_window_s": [1.5, 4.5], "context_s": 1}
    of_clips |= {"earliest_s": 4.0, "reference_s": 2.0, "reviewed_only": False}
    model = {"name": str(ROOT / "resources" / "planner"), "backend": "audiocraft", "dtype": "float32"}
    asked = {"study": "tiny", "layer": 2, "of_clips": of_clips, "das_rank": 2, "n_controls": 1, "model": model}
    run_script("fit_das", tmp_path / "log", inputs, {0: str(output)}, **asked)
    record = json.loads(output.read_text())
    assert record["subspace"]["kind"] == "das" and len(record["controls"]) == 1 and 0.5 < record["auroc"] <= 1
    read = np.array(record["subspace"]["read"])
    assert np.allclose(read @ read.T, np.eye(2), atol=1e-5)

    config = ablation_config()
    config["defaults"]["candidates"] = {"kinds": ["das", "mean_difference"], "das_rank": 2}
    write_config(folder, config)
    snakemake(folder, "--cores", "2", "results/tiny/candidates.parquet")
    found = pd.read_parquet(folder / "results" / "tiny" / "candidates.parquet").set_index("kind")
    assert found.loc["das", "title"] == "layer 2, DAS" and found.loc["das", "rank"] == 2
    (spec,) = (folder / "results" / "tiny" / "candidates").glob("layer2-das-*.json")
    subspaces = json.loads(spec.read_text())["subspaces"]
    assert subspaces["target"] == record["subspace"] and subspaces["swapped_fit0"] == record["controls"][0]


def test_a_later_declaration_says_that_effects_were_known(study, tmp_path):
    copy, config = tmp_path / "study", ablation_config()
    shutil.copytree(study, copy, symlinks=True)
    declared = (results(copy) / "declared.json").stat().st_mtime_ns
    made = [path for name in ("candidates", "ablations", "effects") for path in results(copy).glob(f"{name}/*")]
    assert len(made) >= 3 and all(path.stat().st_mtime_ns > declared for path in made)
    # Results that were deleted were known all the same.
    for name in ("candidates", "ablations", "effects"):
        shutil.rmtree(results(copy) / name)
    (results(copy) / "candidates.parquet").unlink()
    config["defaults"]["verdict"] = {"min_effect": 0.3}
    write_config(copy, config)
    snakemake(copy, "--cores", "2", "results/tiny/preregistration.json")
    second = json.loads((results(copy) / "preregistrations/001.json").read_text())
    assert second["known"] == "effects" and second["changed"] == ["thresholds.min_effect: 0.2 to 0.3"]


def test_a_changed_horizon_that_selects_the_same_feature_edits_nothing_again(study):
    config = ablation_config()
    config["defaults"]["horizons"]["long"] = [4, 7.5]
    before = {p.name for p in (results(study) / "candidates").iterdir()}
    write_config(study, config)
    snakemake(study, "--cores", "2", "results/tiny/candidates.parquet")
    assert {p.name for p in (results(study) / "candidates").iterdir()} == before
    scheduled = jobs(snakemake(study, "--dry-run", "--cores", "2"))
    assert not EDITING & scheduled.keys() and scheduled["verdict"] == 1, scheduled


def test_a_changed_dose_edits_again_and_generates_no_clip(study):
    config = ablation_config()
    config["defaults"]["ablation"]["doses"] = [1.0]
    write_config(study, config)
    scheduled = jobs(snakemake(study, "--dry-run", "--cores", "2"))
    assert scheduled["candidates"] == 1 and not {"generate", "probe", "label"} & scheduled.keys(), scheduled


@pytest.mark.slow
def test_an_sae_without_a_k_takes_the_same_way(study):
    """The shipped SAE's weights with a threshold in place of its k, as a BatchTopK SAE is saved: as many features are
    active as there are."""
    shipped = ROOT / "resources" / "planner" / "sae" / "layer2"
    sae = load_sae(shipped)
    acts = torch.from_numpy(read_array(manifests(study, "activations/layer2"), "resid_post")).float()
    hidden = (acts - sae.b_dec if sae.apply_b_dec_to_input else acts) @ sae.W_enc + sae.b_enc
    threshold = float(torch.quantile(hidden[:8].flatten()[::7], 1 - sae.k / sae.d_sae))
    cfg = json.loads((shipped / "cfg.json").read_text()) | {"architecture": "jumprelu"}
    cfg.pop("k")
    folder = study / "jumprelu"
    folder.mkdir()
    (folder / "cfg.json").write_text(json.dumps(cfg))
    weights = {name: getattr(sae, name).contiguous() for name in ("W_enc", "b_enc", "W_dec", "b_dec")}
    save_file(weights | {"threshold": torch.full((sae.d_sae,), threshold)}, folder / "sae_weights.safetensors")

    config = ablation_config()
    config["studies"]["tiny"]["saes"] = {2: str(folder)}
    (direction,) = (results(study) / "ablations").glob("layer2-meandifference-*.manifest.json")
    made_ns = direction.stat().st_mtime_ns
    write_config(study, config)
    snakemake(study, "--cores", "2")
    # A direction is not read through the SAE, so another SAE does not edit it again.
    assert direction.stat().st_mtime_ns == made_ns
    latents = read_latents([str(results(study) / "latents" / "layer2" / "b00.manifest.json")], range(acts.shape[1]))
    expected = torch.where(hidden > max(threshold, 0), hidden, 0.0).reshape(-1, sae.d_sae)
    n_active = np.diff(latents.indptr)
    assert n_active.min() < n_active.max() and abs(n_active.mean() - sae.k) < 8
    np.testing.assert_allclose(latents[:2000].toarray(), expected[:2000], rtol=1e-3, atol=1e-3)
    judged = json.loads((results(study) / "verdict.json").read_text())["candidates"]
    # What was tried in vain stays in the list.
    candidate = next(c for c in judged if c["edited"] and c["kind"] == "feature")
    assert {"effect", "damage", "selectivity"} <= {gate["name"] for gate in candidate["gates"]}
