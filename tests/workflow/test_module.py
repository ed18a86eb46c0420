"""Reprise as a module of another workflow, with and without a prefix: the same jobs, and results at the same paths."""

import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from tests.workflow.conftest import ROOT, jobs, tiny_config

# Without the project's profile, which another workflow does not have.
TRIGGERS = ["--rerun-triggers", "mtime", "params", "input", "software-env"]


def other_workflow(directory: Path, *, prefix: str) -> None:
    """A workflow that takes a verdict and the report from Reprise."""
    (directory / "mine.yaml").write_text(yaml.safe_dump({"reprise": tiny_config()}))
    before = f"{prefix}/" if prefix else ""
    (directory / "Snakefile").write_text(
        f"""\
configfile: "mine.yaml"

module reprise:
    snakefile: "{ROOT}/Snakefile"
    config: config["reprise"]
    {f'prefix: "{prefix}"' if prefix else ""}

use rule * from reprise as reprise_*

rule mine:
    default_target: True
    input: "{before}results/tiny/verdict.json", "{before}results/report/index.html"
    output: "mine.txt"
    shell: "cp {{input[0]}} {{output}}"
"""
    )


def run(directory: Path, *arguments: str) -> str:
    command = [sys.executable, "-m", "snakemake", "--directory", directory, "--snakefile", directory / "Snakefile"]
    command += ["--cores", "2", *TRIGGERS, *arguments]
    done = subprocess.run(list(map(str, command)), capture_output=True, text=True, cwd=directory)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout + done.stderr


@pytest.mark.parametrize("prefix", ["", "inner"])
def test_a_finished_study_is_found_and_its_last_stages_run(finished, planner_files, tmp_path, prefix):
    directory = tmp_path / "other"
    shutil.copytree(finished, directory, symlinks=True)
    other_workflow(directory, prefix=prefix)
    inside = directory / prefix
    if prefix:
        inside.mkdir()
        shutil.move(directory / "results", inside)
    assert jobs(run(directory, "--dry-run")) == {"mine": 1}
    before = {name: (inside / "results" / name).read_bytes() for name in ("report/index.html", "tiny/verdict.json")}
    run(directory, "--forcerun", "reprise_declare_current", "reprise_report")
    assert (directory / "mine.txt").read_bytes() == before["tiny/verdict.json"]
    # The page names files and how long stages took; all else is the same.
    page = (inside / "results/report/index.html").read_text()
    assert len(page) == pytest.approx(len(before["report/index.html"].decode()), rel=0.01) and "unresolved" in page
    assert not prefix or not (directory / "results").exists()


def test_what_is_wrong_with_the_configuration_is_said_as_the_modules(tmp_path):
    other_workflow(tmp_path, prefix="")
    config = tiny_config()
    config["defaults"]["generation"]["tempo"] = 3
    (tmp_path / "mine.yaml").write_text(yaml.safe_dump({"reprise": config}))
    command = [sys.executable, "-m", "snakemake", "--cores", "1", "--dry-run"]
    done = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path)
    said = done.stdout + done.stderr
    assert done.returncode != 0 and "the module's config: defaults.generation.tempo: unknown field" in said
