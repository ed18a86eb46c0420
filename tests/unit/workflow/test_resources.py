"""What jobs ask of a cluster: enough for what was measured, more for larger models, batches and retries."""

import json
from pathlib import Path

import pytest

from benchmarks.true_size import study_config
from reprise.config.schema import Study
from reprise.config.validation import validate
from reprise.workflow.resources import Needs, job_needs
from tests.places import ROOT

MEASURED = json.loads((ROOT / "benchmarks" / "true_size.json").read_text())
SMALL = {"n_layers": 24, "d_model": 1024, "n_codebooks": 4, "codebook_size": 2048}
SMALL |= {"frame_rate_hz": 50, "sample_rate_hz": 32_000}
LARGE = SMALL | {"n_layers": 48, "d_model": 2048}


def needs(stage: str, facts: dict = SMALL, *, n_clips: int = 6, on_gpu: bool = False, **fields: object) -> Needs:
    config = study_config(Path("some/model"))
    config["studies"]["small"] |= fields
    study: Study = validate(config, check_files=False).studies["small"]
    return job_needs(stage, study, facts, n_clips=n_clips, on_gpu=on_gpu)


@pytest.mark.parametrize("stage", [*MEASURED["stages"], "ablate"])
def test_a_stage_gets_what_it_was_measured_to_take_and_not_many_times_that(stage):
    measured = MEASURED["ablation"] | {"jobs": 1} if stage == "ablate" else MEASURED["stages"][stage]
    asked = needs(stage.removesuffix("_random"))
    # Two Snakemakes of the executor are counted with each job.
    assert 1.1 * measured["peak_mb"] < asked.mem_mb - 400 < 4 * measured["peak_mb"] + 1000
    assert 60 * asked.minutes > 2 * measured["seconds"] / measured["jobs"]


def test_more_is_asked_for_more():
    assert needs("generate", LARGE).mem_mb > 4 * needs("generate").mem_mb
    assert needs("generate", n_clips=600).minutes > 20 * needs("generate").minutes
    more_rows = {"generation": {"duration_s": 12, "cfg_coef": 3.0, "batch_size": 64, "n_batches": 1}}
    assert needs("generate", **more_rows).mem_mb > needs("generate").mem_mb
    # On a GPU the host holds the weights alone, while they are loaded.
    assert needs("generate", on_gpu=True, **more_rows).mem_mb == needs("generate", on_gpu=True).mem_mb
    assert needs("probe", n_clips=20_000).mem_mb > needs("probe").mem_mb + 1000


def test_a_model_that_is_not_there_yet_is_taken_to_be_an_embedded_one():
    assert needs("generate", {}).mem_mb < 3000
