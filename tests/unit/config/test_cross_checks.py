"""Fields that do not go together are named."""

import pytest

from reprise.config.cross_checks import MAX_SEED
from tests.unit.config.studies import checked, problems

BAD_TOGETHER = {
    "beyond the clip": (
        {"horizons": {"local": [0.5, 2], "long": [4, 10]}},
        "studies.planner.horizons.long: got [4, 10] does not fit: motif end 4 s + context_s 3 s + 10 s = 17 s, but a "
        "clip has only 16 s; valid: an end of at most 9 (is it in seconds?)",
    ),
    "no whole return": (
        {"horizons": {"local": [0.5, 2], "long": [7.5, 8]}},
        "studies.planner.horizons.long: got [7.5, 8] leaves no time for a whole return of 2 s: motif end 4 s + "
        "context_s 3 s + 7.5 s, but a clip has only 16 s; valid: a start of at most 7",
    ),
    "backwards": (
        {"horizons": {"local": [0.5, 2], "long": [4, 3]}},
        "studies.planner.horizons.long: got [4, 3]; valid: [from, to] in seconds with from < to",
    ),
    "twice the same": (
        {"horizons": {"local": [0.5, 2], "long": [4, 8], "longer": [4, 8.0]}},
        "studies.planner.horizons.longer: got [4, 8], the same as long; valid: a different horizon for each role",
    ),
    "too fine for a name": (
        {"horizons": {"local": [0.5, 2], "long": [4, 7.1234567]}},
        "studies.planner.horizons.long: got [4.0, 7.1234567]; valid: at most six digits, because they are part of "
        "a directory's name",
    ),
    "no local": (
        {"horizons": {"near": [0.5, 2], "long": [4, 8]}},
        "studies.planner.horizons: got near, long, none named local; valid: one named local and a longer one",
    ),
    "none longer": (
        {"horizons": {"local": [0.5, 2], "long": [1, 8]}},
        "studies.planner.horizons: none begins where local ends; valid: at least one that begins at 2 s, where local "
        "ends, or later",
    ),
    "no room for the motif": (
        {"generation": {"duration_s": 7}},
        "studies.planner.events.motif_duration_s: motif end 4 s + context_s 3 s is 7 s, but a clip has only 7 s; "
        "valid: a sum that is shorter than the clip (are these in seconds?)",
    ),
    "prefix too long": (
        {"ablation": {"prefix_s": 12}},
        "studies.planner.ablation.prefix_s: got 12; valid: 7 (motif end + context_s) to 8 (clip minus the longest "
        "horizon)",
    ),
    "too few surrogates": (
        {"events": {"n_surrogates": 18}},
        "studies.planner.events.n_surrogates: got 18, too few for any p-value to reach events.max_p_value 0.05; "
        "valid: at least 19",
    ),
    "too few swaps": (
        {"probes": {"alpha": 0.01, "n_swaps": 398}},
        "studies.planner.probes.n_swaps: got 398, too few for any p-value to reach probes.alpha 0.01 / 4 tests "
        "(layers x representations x shorter horizons); valid: at least 399",
    ),
    "no random model": (
        {"probes": {"representations": ["resid", "sae"]}},
        "studies.planner.probes.representations: got resid, sae; valid: a list with random_model in it, because the "
        "learned gain is compared with it",
    ),
    "no SAE for what needs one": (
        {"saes": {}, "layers": [2], "probes": {"representations": ["sae", "random_model"]}},
        "studies.planner.probes.representations: got sae, random_model, and no layer has an SAE; valid: a "
        "representation that needs no SAE, such as resid, or an SAE in saes",
    ),
    "no SAE for candidates": (
        {"saes": {}, "layers": [2], "candidates": {"kinds": ["feature", "feature_set"]}},
        "studies.planner.candidates.kinds: got feature, feature_set, and no layer has an SAE; valid: a list with a "
        "direction in it",
    ),
    "two edit targets that are one": (
        {"ablation": {"target": "mean"}},
        "studies.planner.ablation.second_target: got mean, the same as ablation.target; valid: another one, or none",
    ),
    "damage beyond what is counted": (
        {"verdict": {"max_damage": 1.5}},
        "studies.planner.verdict.max_damage: got 1.5; valid: a number (nats per token) > 0 and < 1",
    ),
    "no evidence": (
        {"probes": {"representations": ["embedding"]}},
        "studies.planner.probes.representations: got embedding; valid: at least one of resid, sae, because the "
        "verdict depends on it",
    ),
    "no dose of 1": (
        {"ablation": {"doses": [0.5, 2]}},
        "studies.planner.ablation.doses: got [0.5, 2.0]; valid: a list with 1 in it, because the verdict depends "
        "on it",
    ),
    "not until the event": (
        {"ablation": {"windows": ["prefix_only"]}},
        'studies.planner.ablation.windows: got ["prefix_only"]; valid: a list with until_event in it, because the '
        "verdict depends on it",
    ),
    "candidates above events": (
        {"events": {"min_score": 0.3}},
        "studies.planner.events.candidate_score: got 0.4; valid: at most events.min_score, 0.3",
    ),
    "an empty band": (
        {"screen": {"min_active": 0.7}},
        "studies.planner.screen.min_active: got 0.7; valid: below screen.max_active, 0.6",
    ),
    "two of a kind": (
        {"generation": {"top_p": 0.9}},
        "studies.planner.generation.top_p: got 0.9, and top_k is 100; valid: only one of the two, the other 0",
    ),
    "a return window that leaves nothing else": (
        {"ablation": {"return_window_s": [0, 6]}},
        "studies.planner.ablation.return_window_s: got [0, 6], which leaves 0 s of a continuation of 8 s; valid: "
        "[from, to] that leaves 1 s or more before and after a return, to measure damage in",
    ),
}


@pytest.mark.parametrize("study, expected", BAD_TOGETHER.values(), ids=BAD_TOGETHER.keys())
def test_fields_that_do_not_go_together(study: dict, expected: str) -> None:
    assert problems(**study) == (f"config.yaml: {expected}",)


def test_a_horizon_may_end_exactly_with_the_clip() -> None:
    study = checked(horizons={"local": [0.5, 2], "long": [4, 9]}, ablation={"prefix_s": 7}).studies["planner"]
    assert study.horizons["long"] == (4.0, 9.0)
    # 2 + 2 + 3.1 + 8.9 is not 16 in floating point.
    checked(descriptors={"context_s": 3.1}, horizons={"local": [0.5, 2], "long": [4, 8.9]}, ablation={"prefix_s": 7.1})


def test_a_seed_too_large_for_tables_is_refused() -> None:
    (line,) = problems(seeds=[1, 10**40])
    assert line == f"config.yaml: studies.planner.seeds.1: got a number of 41 digits; valid: at most {MAX_SEED}, " + (
        "so that it fits in int64"
    )
