"""A bad field gives one readable line."""

import pytest

from tests.unit.config.studies import problems

# Each: what a study states, and the one line expected (without the file's name).
BAD_FIELDS = {
    "unknown field": (
        {"generation": {"topk": 5}},
        "studies.planner.generation.topk: unknown field 'topk'; did you mean 'top_k'? valid: duration_s, temperature, "
        "top_k, top_p, cfg_coef, n_batches, batch_size",
    ),
    "field of another group": (
        {"generation": {"context_s": 2}},
        "studies.planner.generation.context_s: unknown field 'context_s'; did you mean 'descriptors.context_s'? "
        "valid: duration_s, temperature, top_k, top_p, cfg_coef, n_batches, batch_size",
    ),
    "negative": (
        {"generation": {"temperature": -1}},
        "studies.planner.generation.temperature: got -1; valid: a number > 0",
    ),
    "no learning rate": (
        {"sae_training": {"learning_rate": 0}},
        "studies.planner.sae_training.learning_rate: got 0; valid: a number > 0, or null",
    ),
    "zero": ({"labels": {"step_s": 0}}, "studies.planner.labels.step_s: got 0; valid: seconds >= 0.01 and <= 600"),
    "text": (
        {"generation": {"rows": "many"}},
        'studies.planner.generation.batch_size: got "many"; valid: a whole number >= 1',
    ),
    "fraction": (
        {"generation": {"n_batches": 1.5}},
        "studies.planner.generation.n_batches: got 1.5; valid: a whole number >= 1",
    ),
    "boolean": (
        {"probes": {"n_folds": True}},
        "studies.planner.probes.n_folds: got true; valid: a whole number >= 2",
    ),
    "not a number": (
        {"generation": {"cfg_coef": float("nan")}},
        "studies.planner.generation.cfg_coef: got NaN; valid: a number >= 1",
    ),
    "empty": (
        {"events": {"max_p_value": None}},
        "studies.planner.events.max_p_value: missing; valid: a number > 0 and < 1",
    ),
    "percent": (
        {"screen": {"max_active": 60}},
        "studies.planner.screen.max_active: got 60; valid: a fraction, not percent, >= 0 and <= 1",
    ),
    "milliseconds": (
        {"generation": {"duration_s": 16000}},
        "studies.planner.generation.duration_s: got 16000 (is this in seconds? it looks like milliseconds or "
        "samples); valid: seconds >= 1 and <= 600",
    ),
    "a choice": (
        {"model": {"name": "a/b", "device": "gpu"}},
        'studies.planner.model.device: got "gpu"; valid: one of auto, cpu, cuda',
    ),
    "a choice in a list": (
        {"probes": {"representations": ["resid", "saes"]}},
        'studies.planner.probes.representations.1: got "saes"; '
        "valid: one of resid, sae, embedding, random_dictionary, random_model",
    ),
    "a repeated seed": (
        {"seeds": [1, 1]},
        "studies.planner.seeds: got [1, 1]: 1 is listed twice; valid: a list, each a whole number >= 0",
    ),
    "a negative seed": ({"seeds": [-1]}, "studies.planner.seeds.0: got -1; valid: a whole number >= 0"),
    "no seeds": ({"seeds": []}, "studies.planner.seeds: got []; valid: a list, each a whole number >= 0"),
    "a group that is none": (
        {"labels": 0.5},
        "studies.planner.labels: got 0.5; valid: a group with the fields step_s, reviewed_only",
    ),
    "no model": (
        {"model": {}},
        "studies.planner.model.name: missing; valid: a hub id such as facebook/musicgen-small, or a directory such as "
        "resources/planner",
    ),
    "no SAE": (
        {"saes": {}},
        "studies.planner.saes: got {}; valid: layer: directory, hub address or train, such as 2: "
        "resources/planner/sae/layer2, 2: hf://owner/name/folder@<commit> or 2: train, or layers such as layers: [2]",
    ),
    "a layer's name": (
        {"saes": {"layer2": "sae"}},
        'studies.planner.saes.layer2: got "layer2"; valid: layer: directory, hub address or train, such as 2: '
        "resources/planner/sae/layer2, 2: hf://owner/name/folder@<commit> or 2: train",
    ),
    "half a horizon": (
        {"horizons": {"local": [0.5], "long": [4, 8]}},
        "studies.planner.horizons.local.1: missing; valid: one named local and a longer one, [from, to] in seconds "
        "with 0 <= from < to, such as {local: [0.5, 2], long: [4, 8]}",
    ),
}


@pytest.mark.parametrize("study, expected", BAD_FIELDS.values(), ids=BAD_FIELDS.keys())
def test_a_bad_field_gives_one_line_with_file_field_value_and_what_is_valid(study: dict, expected: str) -> None:
    assert problems(**study) == (f"config.yaml: {expected}",)
