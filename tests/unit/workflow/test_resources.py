"""What jobs ask of a cluster: enough for what was measured, more for larger models, batches and retries."""

import json
from pathlib import Path

import pandas as pd
import pytest

from benchmarks.true_size import study_config
from reprise.config.schema import Study
from reprise.config.validation import validate
from reprise.interventions.conditions import condition_table
from reprise.workflow.resources import Needs, continuations, edited_candidates, job_needs
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


def test_an_ablation_makes_as_many_continuations_as_its_table_has_rows():
    ablation = {"n_clips": 3, "n_sufficiency": 2, "n_controls": 2, "doses": [0.5, 1.0]}
    study = validate(
        {"studies": {"a": {"model": {"name": "m"}, "saes": {2: "s"}, "ablation": ablation}}}, check_files=False
    ).studies["a"]
    kinds = {"target": ["t"], "matched_feature": ["m0", "m1"], "swapped_fit": ["s0", "s1"]}
    rows = 0
    for n, more, doses, windows in (
        (3, {"local_feature": ["l"]}, [0.5, 1.0], study.ablation.windows),
        (2, {}, [1.0], ["until_event"]),
    ):
        clips = pd.DataFrame({"clip_id": [f"c{i}" for i in range(n)], "target_start_s": 9.0, "target_stop_s": 12.0})
        named = {"reference": "without", "second_reference": "zero"}
        edits = {**kinds, **more}
        rows += len(condition_table(edits, clips, doses, windows, layer=2, prefix_s=8, frame_rate_hz=25, **named))
    assert continuations(study, 100) == rows
    # No more clips are continued than there are.
    assert continuations(study, 1) < rows / 2


def test_candidates_are_counted_by_what_can_be_tried():
    asked = {"model": {"name": "m"}, "layers": [2], "candidates": {"max_edited": 2}}
    (study,) = validate({"studies": {"a": asked}}, check_files=False).studies.values()
    # Without an SAE, of the default kinds only the mean difference.
    assert edited_candidates(study) == 2
    asked["candidates"] = {"kinds": ["probe", "leace"], "directions": ["a.safetensors"]}
    (study,) = validate({"studies": {"a": asked}}, check_files=False).studies.values()
    assert edited_candidates(study) == 3


def test_a_model_that_is_not_there_yet_is_taken_to_be_an_embedded_one():
    assert needs("generate", {}).mem_mb < 3000
