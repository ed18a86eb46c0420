"""An old name works as the new one does, and says so."""

import pytest

from reprise.config.errors import ConfigError
from reprise.config.renamed import RENAMED, with_new_names
from reprise.config.schema import GROUPS
from reprise.config.validation import validate
from tests.places import PLANNER

STUDY = {"model": {"name": str(PLANNER)}, "saes": {2: f"{PLANNER}/sae/layer2"}}


@pytest.mark.parametrize(("group", "old", "new"), RENAMED)
def test_every_new_name_is_a_field_and_no_old_one_is(group, old, new):
    assert new in GROUPS[group].model_fields and old not in GROUPS[group].model_fields


def test_an_old_name_sets_the_same_field():
    old = {"defaults": {"generation": {"rows": 8}}, "studies": {"a": {**STUDY, "ablation": {"halves": "conditional"}}}}
    study = validate(old, check_files=False).studies["a"]
    assert study.generation.batch_size == 8 and study.ablation.cfg_branches == "conditional"
    renamed, warnings = with_new_names(old)
    assert renamed["defaults"]["generation"] == {"batch_size": 8} and old["defaults"]["generation"] == {"rows": 8}
    assert warnings == [
        "defaults.generation.rows is now called batch_size; the old name works until the next release",
        "studies.a.ablation.halves is now called cfg_branches; the old name works until the next release",
    ]


def test_a_value_that_is_wrong_is_named_by_its_new_name():
    with pytest.raises(ConfigError, match=r"generation\.batch_size"):
        validate({"studies": {"a": {**STUDY, "generation": {"rows": 0}}}}, check_files=False)


def test_both_names_at_once_are_refused():
    with pytest.raises(
        ConfigError,
        match=r"studies\.a\.generation\.rows: also given under its new name batch_size; valid: only batch_size",
    ):
        validate({"studies": {"a": {**STUDY, "generation": {"rows": 8, "batch_size": 9}}}}, check_files=False)


@pytest.mark.parametrize("raw", [None, [], {"studies": None}, {"studies": {"a": None}, "defaults": 3}])
def test_what_is_no_configuration_is_left_to_validation(raw):
    assert with_new_names(raw) == (raw, [])
