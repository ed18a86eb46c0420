"""The workflow on a real SLURM cluster of one node: jobs that outgrow their memory, one that fails, a killed run that
leaves jobs behind; and the same bytes as on one machine."""

import os
import re
import shutil
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.workflow.conftest import ROOT, digests, snakemake, write_config
from tests.workflow.slurm import PROGRAMS, cluster, found
from tests.workflow.test_ablation import ablation_config

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not all(map(found, PROGRAMS)), reason="SLURM and munge are not installed"),
]


def small_config() -> dict:
    planner = ROOT / "resources" / "planner"
    fields = {
        "model": {"name": str(planner)},
        "saes": {2: str(planner / "sae" / "layer2")},
        "prompts": "prompts.tsv",
        "seeds": [0],
        "generation": {"n_batches": 1, "batch_size": 8},
        "horizons": {"local": [0.5, 2], "long": [4, 8]},
        "certificate": {"n_clips": 2},
        "events": {"n_surrogates": 19},
        "probes": {"n_swaps": 19, "n_bootstrap": 100, "n_folds": 2, "representations": ["sae", "random_model"]},
        "ablation": {"n_clips": 2, "doses": [1.0]},
    }
    return {"studies": {"tiny": fields}}


def prepare(directory: Path) -> Path:
    directory.mkdir()
    prompts = (ROOT / "config" / "prompts.tsv").read_text().splitlines()
    (directory / "prompts.tsv").write_text("\n".join([prompts[0], *prompts[1:49:8]]) + "\n")
    write_config(directory, small_config())
    return directory


@pytest.fixture(scope="module")
def slurm(tmp_path_factory):
    with cluster(tmp_path_factory.mktemp("slurm")) as env:
        yield env


@pytest.fixture(scope="module")
def alone(tmp_path_factory):
    """The same study, finished on one machine without SLURM."""
    directory = prepare(tmp_path_factory.mktemp("local") / "alone")
    snakemake(directory, "--cores", "2")
    return directory


def submit(directory: Path, env: dict[str, str], *arguments: str) -> subprocess.Popen:
    """The README's command, with what this cluster has no need of: patience, and accounting."""
    command = [sys.executable, "-m", "snakemake", "--snakefile", ROOT / "Snakefile", "--directory", directory]
    command += ["--profile", ROOT / "profiles" / "slurm", "--configfile", directory / "config.yaml"]
    command += ["--default-resources", "slurm_partition=main", "mem_mb=2000", "runtime=30", "--latency-wait", "10"]
    command += ["--slurm-status-command", "squeue", "--slurm-init-seconds-before-status-checks", "1", *arguments]
    with open(directory / "run.log", "a") as log:
        return subprocess.Popen(list(map(str, command)), cwd=directory, env=env, stdout=log, stderr=log)


def queue(env: dict[str, str]) -> dict[str, str]:
    """Jobs that wait or run: what they are for, by their number."""
    listed = subprocess.run(["squeue", "-h", "-o", "%i|%k"], env=env, capture_output=True, text=True).stdout
    return dict(line.split("|", 1) for line in listed.splitlines())


def wait_for(what, run: subprocess.Popen):
    while not (found := what()):
        assert run.poll() is None, "the run has ended"
        time.sleep(0.2)
    return found


@pytest.mark.timeout(900)
def test_killed_and_submitted_again_it_gives_what_one_machine_gives(slurm, alone, tmp_path):
    directory = prepare(tmp_path / "cluster")
    first = submit(directory, slurm)
    generating = wait_for(lambda: [job for job, name in queue(slurm).items() if "generate" in name], first)
    # Until it is at work, not only in the queue.
    wait_for(lambda: list((directory / "results/logs/corpora").glob("*/generate/b00.log")), first)
    first.kill()
    first.wait()
    assert set(generating) <= queue(slurm).keys(), "a job lives on when the run that submitted it is killed"

    # Events get too little memory at their first attempt, and more at each.
    second = submit(directory, slurm, "--set-resources", "events:mem_mb=400*attempt")
    twice = 0
    while second.poll() is None:
        names = list(queue(slurm).values())
        twice += len(names) != len(set(names))
        time.sleep(0.5)
    said = (directory / "run.log").read_text()
    assert second.returncode == 0, said
    assert f"SLURM job {generating[0]}" in said and "were still running here and were stopped" in said
    assert twice == 0, "a job was at work twice at once"
    attempts = re.findall(r"rule events:", said)
    assert len(attempts) >= 2 and "Trying to restart job" in said
    assert list((directory / "results/logs/slurm").rglob("*.log")), "logs are where the profile says"
    assert "results/logs/slurm" in said

    assert digests(directory) == digests(alone)
    # Where it ran is no reason to run it again.
    assert "Nothing to be done" in snakemake(directory, "--dry-run", "--cores", "2")


@pytest.mark.skipif("REPRISE_SLOW" not in os.environ, reason="takes ten minutes: set REPRISE_SLOW=1")
@pytest.mark.timeout(3000)
def test_a_study_that_reaches_its_ablation_gives_what_one_machine_gives(slurm, tmp_path):
    made = []
    for name in ("cluster", "alone"):
        directory = tmp_path / name
        directory.mkdir()
        shutil.copy(ROOT / "config" / "prompts.tsv", directory)
        write_config(directory, ablation_config())
        if name == "cluster":
            assert submit(directory, slurm).wait() == 0, (directory / "run.log").read_text()
        else:
            snakemake(directory, "--cores", "2")
        made.append(digests(directory))
    assert made[0] == made[1] and any("/effects/" in path for path in made[0])


@pytest.mark.timeout(600)
def test_a_job_that_fails_says_why_and_the_others_end(slurm, alone, tmp_path):
    directory = tmp_path / "cluster"
    shutil.copytree(alone, directory)
    events = directory / "results/tiny/events/b00.parquet"
    before = events.read_bytes()
    config = small_config()
    config["studies"]["tiny"]["certificate"] |= {"max_fvu": 0.0001}
    config["studies"]["tiny"]["events"] |= {"n_surrogates": 29}
    write_config(directory, config)
    # Latents that are there another bound does not make anew.
    shutil.rmtree(directory / "results/tiny/latents")
    run = submit(directory, slurm, "--restart-times", "0", "--until", "encode", "events")
    assert run.wait(timeout=400) != 0
    said = (directory / "run.log").read_text()
    assert "Error in rule encode" in said and "results/logs/tiny/encode/layer2-b00.log" in said
    assert "has no certificate for layer 2, so nothing is encoded" in said, "the reason stands where the user looks"
    assert events.read_bytes() != before
    assert "rule generate:" not in said, "what was made on one machine is found on the cluster"
