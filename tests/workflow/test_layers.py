"""A study of a layer without an SAE: residual probes and directions, on the clips of another study."""

import json
from pathlib import Path

import pandas as pd
import pytest
from safetensors.numpy import save_file

from reprise.organisms.planting import PLANT_LAYER, plan_direction
from tests.workflow.conftest import jobs, snakemake, tiny_config, write_config

pytestmark = pytest.mark.slow

SHARED = {"identify_model", "generate", "activations_tiny", "activations_random_tiny"}
OF_SAES = {"measure_sae", "certify_sae", "encode", "screen"}


def test_a_layer_is_studied_without_an_sae(own_copy: Path) -> None:
    config = tiny_config()
    of_tiny = {key: value for key, value in config["studies"]["tiny"].items() if key != "saes"}
    candidates = {"kinds": ["mean_difference", "leace"], "directions": ["planted.safetensors"]}
    of_bare = {"layers": [PLANT_LAYER], "descriptors": {"context_s": 1}, "candidates": candidates}
    save_file({"direction": plan_direction().numpy()}, own_copy / "planted.safetensors")
    (own_copy / "planted.json").write_text(json.dumps({"layer": PLANT_LAYER, "source": "the planner's training"}))
    config["studies"]["bare"] = of_tiny | of_bare
    write_config(own_copy, config)
    scheduled = jobs(snakemake(own_copy, "--dry-run", "--cores", "2"))
    assert not (SHARED | OF_SAES) & scheduled.keys(), scheduled
    # Residual stream, embedding and random weights, at two horizons.
    assert scheduled["probe"] == 2 * 3
    snakemake(own_copy, "--cores", "2")
    assert jobs(snakemake(own_copy, "--dry-run", "--cores", "2")) == {}
    bare = own_copy / "results" / "bare"
    tried = pd.read_parquet(bare / "candidates.parquet")
    assert tried["title"].tolist() == ["layer 2, mean difference", "layer 2, LEACE", "layer 2, direction planted"]
    assert (tried["latents"] == "").all() and (tried["rank"] == 1).all()
    # So few clips confirm nothing; test_ablation.py edits candidates without latents.
    assert not (bare / "latents").exists() and not (bare / "certificates").exists()
    assert {c["title"] for c in json.loads((bare / "verdict.json").read_text())["candidates"]} == {*tried["title"]}
    # Another vector in the file is another candidate.
    save_file({"direction": plan_direction().numpy()[::-1].copy()}, own_copy / "planted.safetensors")
    assert jobs(snakemake(own_copy, "--dry-run", "--cores", "2"))["candidates"] == 1
    assert "layer 2, mean difference" in (own_copy / "results/report/index.html").read_text()
