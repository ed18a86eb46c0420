"""A model and an SAE of the hub, taken from its cache: named before any job where they are missing, then run without a
network; a cache that moves stales nothing. And what the doctor says of it all."""

import json
import shutil

import pytest

from tests.conftest import put_on_hub
from tests.workflow.conftest import ROOT, jobs, snakemake, tiny_config, write_config

PLANNER = ROOT / "resources" / "planner"
CHECKPOINTS = {name: PLANNER / name for name in ("state_dict.bin", "compression_state_dict.bin")}
SAE = {f"layers/2/{path.name}": path for path in (PLANNER / "sae" / "layer2").iterdir()}
A, B, C = "a" * 40, "b" * 40, "c" * 40


def hub_config(directory):
    config = tiny_config()
    config["studies"]["tiny"] = {"model": {"name": "owner/tiny"}, "saes": {2: f"hf://owner/saes/layers/2@{C}"}}
    config["defaults"]["seeds"] = [0]
    config["defaults"]["generation"] = {"n_batches": 1, "batch_size": 4}
    config["defaults"]["ablation"]["n_clips"] = 2
    prompts = (ROOT / "config" / "prompts.tsv").read_text().splitlines()
    (directory / "prompts.tsv").write_text("\n".join(prompts[:5]) + "\n")
    write_config(directory, config)


@pytest.mark.slow
def test_a_study_of_the_hub(tmp_path, hub_cache, monkeypatch):
    hub_config(tmp_path)
    output = snakemake(tmp_path, "--cores", "1", check=False)
    source = tmp_path / "config.yaml"
    assert "the configuration has problems, nothing was run:" in output and "Traceback" not in output
    assert (
        f"{source}: studies.tiny.model.name: owner/tiny is not in the cache {hub_cache}; jobs download nothing: on a "
        "machine with network, run hf download owner/tiny state_dict.bin compression_state_dict.bin\n"
    ) in output
    assert f"run hf download owner/saes --revision {C} --include 'layers/2/*'\n" in output

    # The doctor says the same, and what else it found.
    output = snakemake(tmp_path, "--cores", "1", "doctor", check=False)
    assert f"- {source}: studies.tiny.model.name: owner/tiny is not in the cache {hub_cache}; " in output
    assert "4 prompts x 1 seeds = 4 clips of 16 s" in " ".join(output.replace("│", " ").split())
    assert "Nothing is missing" not in output and "Error in rule doctor" in output
    assert not (tmp_path / "results" / "tiny").exists()

    put_on_hub(hub_cache, "owner/tiny", CHECKPOINTS, commit=A)
    put_on_hub(hub_cache, "owner/saes", SAE, commit=C, main=False)
    output = snakemake(tmp_path, "--cores", "1", "doctor")
    assert "Nothing is missing." in output and "fails" not in output
    assert not (tmp_path / "results" / "tiny").exists()

    # As far as the certificate, with the model and the SAE of the embedded planner.
    made = "results/tiny/certificates/layer2.json"
    snakemake(tmp_path, "--cores", "2", made)
    certificate = json.loads((tmp_path / made).read_text())
    assert certificate["passed"] and certificate["sae"] == f"hf://owner/saes/layers/2@{C}"
    assert certificate["agreements"]["model"] is True, "by its weights' digest"
    for path in (tmp_path / "results").rglob("*.json"):
        assert str(hub_cache) not in path.read_text()

    # The cache moves, and another commit has the same weights.
    moved = tmp_path / "elsewhere"
    shutil.move(hub_cache, moved)
    monkeypatch.setenv("HF_HUB_CACHE", str(moved))
    put_on_hub(moved, "owner/tiny", CHECKPOINTS, commit=B)
    assert jobs(snakemake(tmp_path, "--dry-run", "--cores", "2", made)) == {}

    # A download that broke off is seen before any job, though all outputs are there.
    blob = (moved / "models--owner--tiny" / "snapshots" / B / "state_dict.bin").resolve()
    blob.write_bytes(blob.read_bytes()[:5000])
    output = snakemake(tmp_path, "--cores", "2", made, check=False)
    assert "state_dict.bin was cut off at 5,000 bytes; jobs download nothing" in output
    assert "run hf download owner/tiny state_dict.bin --force-download" in output
