"""What Snakemake itself says of the workflow: its linter, its report, and what jobs take."""

import re
import subprocess
import sys

from tests.workflow.conftest import ROOT, snakemake, tiny_config, write_config


def test_snakemakes_linter_finds_nothing():
    done = subprocess.run([sys.executable, "-m", "snakemake", "--lint"], capture_output=True, text=True, cwd=ROOT)
    assert done.returncode == 0, done.stdout + done.stderr


def test_a_study_of_the_command_line_that_is_wrong_is_blamed_on_the_command_line(tmp_path):
    command = [sys.executable, "-m", "snakemake", "--snakefile", ROOT / "Snakefile", "-n", "--directory", tmp_path]
    command += ["--config", 'studies={"mine": {"seedz": [1]}}']
    done = subprocess.run(list(map(str, command)), capture_output=True, text=True, cwd=tmp_path)
    said = done.stdout + done.stderr
    assert "nothing was run" in said and "\n--config: studies.mine.seedz: unknown field" in said
    assert "config.yaml" not in said


def test_snakemakes_own_report_is_written(finished, tmp_path):
    snakemake(finished, "--report", str(tmp_path / "report.html"))
    page = (tmp_path / "report.html").read_text()
    assert "measure_sae" in page and "certify_sae" in page and "probe" in page


def test_jobs_that_run_the_model_on_a_gpu_take_turns_and_no_others_do(reconfigured, finished):
    config = tiny_config()
    config["studies"]["tiny"]["model"]["device"] = "cuda"
    write_config(finished, config)
    said = snakemake(finished, "--dry-run", "--forceall", "--cores", "2")
    took = {}
    for rule, block in re.findall(r"^(?:local)?(?:rule|checkpoint) (\w+):\n((?:    .*\n)+)", said, re.M):
        took.setdefault(rule, set()).add("gpu=1" in block)
    on_gpu = {rule for rule, found in took.items() if found == {True}}
    of_corpus = {"generate", "activations_tiny", "activations_random_tiny"}
    assert {*of_corpus, "measure_sae", "encode", "find_deciding_heads"} == on_gpu
    assert "mem_mb=" in said and "runtime=" in said
