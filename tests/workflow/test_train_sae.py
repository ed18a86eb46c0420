"""A study that trains its SAE: killed in the middle, it goes on; trained again, it is the same."""

import copy
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pandas as pd
import pytest

from reprise.saes.loading import load_sae
from tests.workflow.conftest import ROOT, jobs, snakemake, tiny_config, write_config

pytestmark = pytest.mark.slow

SAE = "results/tiny/saes/layer2.manifest.json"
CERTIFICATE = "results/tiny/certificates/layer2.json"
CODES = "results/tiny/latents/layer2/b00.manifest.json"
TRAINING = {"expansion": 4, "k": 32, "n_steps": 400, "batch_size": 256, "learning_rate": 0.003}


def training_config() -> dict:
    config = copy.deepcopy(tiny_config())
    config["studies"]["tiny"]["saes"] = {2: "train"}
    config["defaults"]["sae_training"] = TRAINING
    # What 8 clips teach is good at its own layer, but not clearly best there.
    config["defaults"]["certificate"] = {"n_clips": 4, "min_neighbour_ratio": 1}
    return config


@pytest.fixture(scope="module")
def study(finished, tmp_path_factory):
    """The finished tiny study without its latents, asking for an SAE of its own."""
    directory = tmp_path_factory.mktemp("trained") / "study"
    shutil.copytree(finished, directory, symlinks=True, ignore=shutil.ignore_patterns("latents", "certificates"))
    write_config(directory, training_config())
    return directory


def log_of(study: Path) -> str:
    return (study / "results/logs/tiny/train_sae/layer2.log").read_text()


def kill_in_the_middle(study: Path) -> int:
    """Start the training, kill it and Snakemake after its first checkpoint; how many steps that checkpoint holds."""
    command = [sys.executable, "-m", "snakemake", "--snakefile", ROOT / "Snakefile", "--directory", study]
    command += ["--configfile", study / "config.yaml", "--cores", "1", SAE]
    with (study / "killed.log").open("w") as output:
        run = subprocess.Popen(
            list(map(str, command)), stdout=output, stderr=output, cwd=study, start_new_session=True
        )
        found: list[Path] = []
        while not found and run.poll() is None:
            time.sleep(0.01)
            found = list((study / "results/tiny/saes").glob(".layer2.unfinished/*/[0-9]*"))
        os.killpg(run.pid, signal.SIGKILL)
        run.wait()
    assert found, (study / "killed.log").read_text()
    return int(found[0].name)


def test_a_killed_training_goes_on_and_its_sae_is_certified_and_encodes(study) -> None:
    done = kill_in_the_middle(study)
    assert not (study / SAE).exists()
    snakemake(study, "--unlock")
    snakemake(study, "--cores", "1", CODES, CERTIFICATE)
    (line,) = [line for line in log_of(study).splitlines() if "resuming after step" in line]
    assert done <= int(line.split("after step ")[1].split(" of ")[0]) < TRAINING["n_steps"]
    assert not list((study / "results/tiny/saes").glob(".*"))

    certificate = json.loads((study / CERTIFICATE).read_text())
    assert certificate["passed"] and certificate["fvu"] < 0.4
    assert certificate["agreements"] == {"hook": True, "width": True, "model": True, "context": True}
    # 4 of 16 clips are measured; their 4 prompts have 8.
    counts = {"n_clips": 8, "n_positions": 8 * 401, "prompts_apart": True}
    assert certificate["trained_here"] == {"architecture": "topk", **TRAINING, **counts}
    assert certificate["sae_digest"] == load_sae(study / "results/tiny/saes/layer2").digest


def test_trained_again_it_is_the_same_and_nothing_is_stale(study) -> None:
    weights = study / "results/tiny/saes/layer2/sae_weights.safetensors"
    before = weights.read_bytes()
    snakemake(study, "--cores", "1", "--force", SAE)
    assert "goes on" not in log_of(study) and "step 400 of 400" in log_of(study)
    assert weights.read_bytes() == before
    assert jobs(snakemake(study, "--dry-run", "--cores", "1", CODES)) == {}
    # All that a training leaves is its SAE.
    assert sorted(path.name for path in (study / "results/tiny/saes").iterdir()) == ["layer2", "layer2.manifest.json"]
    assert not [path.name for path in study.iterdir() if path.name in ("wandb", "checkpoints")]


def test_what_makes_a_training_stale(study) -> None:
    def scheduled(certificate: dict) -> dict[str, int]:
        config = training_config()
        config["defaults"]["certificate"] = certificate
        write_config(study, config)
        found = jobs(snakemake(study, "--dry-run", "--cores", "1", CODES))
        write_config(study, training_config())
        return found

    asked = training_config()["defaults"]["certificate"]
    # Judged by encoding itself, which another bound alone asks for nothing.
    assert scheduled(asked | {"max_fvu": 0.4}) == {}
    assert scheduled(asked | {"n_clips": 5}) == {"train_sae": 1, "measure_sae": 1, "encode": 1}


def test_saes_from_other_seeds_show_which_latents_come_back(study) -> None:
    seeds = "results/tiny/saes/layer2.seeds.parquet"
    config = training_config()
    config["defaults"]["sae_training"] = TRAINING | {"n_seeds": 3}
    snakemake(study, "--cores", "2", SAE)
    used = (study / "results/tiny/saes/layer2/sae_weights.safetensors").read_bytes()
    # More seeds do not train the first one again.
    write_config(study, config)
    scheduled = jobs(snakemake(study, "--dry-run", "--cores", "1", seeds))
    assert scheduled == {"train_sae_again": 2, "compare_seeds": 1}
    snakemake(study, "--cores", "2", seeds)
    assert (study / "results/tiny/saes/layer2/sae_weights.safetensors").read_bytes() == used
    table = pd.read_parquet(study / seeds)
    assert table.groupby("seed").size().to_dict() == {1: 512, 2: 512}
    # Not the same SAE again, and not one that has nothing to do with it: chance is near 0.3 in 128 dimensions.
    assert 0.3 < table["cosine"].mean() < 0.95 and table["cosine"].between(-1, 1.0001).all()


def test_without_saelens_no_job_starts(study, tmp_path, monkeypatch) -> None:
    (tmp_path / "sitecustomize.py").write_text("import sys\nsys.modules['sae_lens'] = None\n")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    output = snakemake(study, "--cores", "1", "--force", SAE, check=False)
    assert "studies.tiny.saes: an SAE is to be trained, but SAELens, which trains it, is not installed" in output
    assert "pip install '.[train]' -c envs/constraints.txt" in output and "Traceback" not in output
    assert (study / SAE).exists()
