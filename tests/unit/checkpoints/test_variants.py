"""What a checkpoint says of itself is read without torch, and a model of a kind that would not run is refused."""

import os

import pytest
import torch
from omegaconf import OmegaConf

import reprise.models.audiocraft_setup  # noqa: F401
from audiocraft.models.builders import get_lm_model
from reprise.checkpoints.variants import (
    SUPPORTED,
    Checkpoint,
    compatibility_errors,
    read_checkpoint,
    read_facts,
    text_encoders,
    unsupported,
)
from reprise.models.loading import load_model
from reprise.organisms.lm import lm_config
from tests.places import PLANNER


@pytest.mark.parametrize("as_object", [False, True])
def test_a_configuration_is_read_as_omegaconf_reads_it(as_object, tmp_path):
    package = torch.load(PLANNER / "state_dict.bin")
    config = OmegaConf.create(package["xp.cfg"])
    # Weights after the configuration, and before it.
    for order in (("best_state", "xp.cfg"), ("xp.cfg", "best_state")):
        made = {"best_state": package["best_state"], "xp.cfg": config if as_object else OmegaConf.to_yaml(config)}
        torch.save({key: made[key] for key in order}, tmp_path / "state_dict.bin")
        found = read_checkpoint(tmp_path / "state_dict.bin")
        assert found == Checkpoint(OmegaConf.to_container(config), None)


def test_a_checkpoint_that_says_nothing(tmp_path):
    path = tmp_path / "state_dict.bin"
    nothing = Checkpoint({}, None)
    assert read_checkpoint(path) == nothing
    path.write_bytes(b"PK")
    assert read_checkpoint(path) == nothing
    for package in ([1, 2], {"best_state": {}}, {"xp.cfg": "a text"}, {"xp.cfg": "{"}):
        torch.save(package, path)
        assert read_checkpoint(path) == nothing
    torch.save(torch.load(PLANNER / "state_dict.bin"), path, _use_new_zipfile_serialization=False)
    assert read_checkpoint(path) == nothing
    assert unsupported({}) == [] and text_encoders({}) == []


def test_what_a_pickle_names_is_not_run(tmp_path):
    class Harm:
        def __reduce__(self):
            return (os.mkdir, (str(tmp_path / "harm"),))

    torch.save({"xp.cfg": "a: 1", "harm": Harm()}, tmp_path / "state_dict.bin")
    assert read_checkpoint(tmp_path / "state_dict.bin").config == {"a": 1}
    assert not (tmp_path / "harm").exists()


def test_facts_are_those_of_the_loaded_model():
    model = load_model(str(PLANNER))
    assert read_facts(PLANNER) == {name: getattr(model, name) for name in read_facts(PLANNER)}
    assert len(read_facts(PLANNER)) == 7


def config_with(**changes):
    """The organisms' configuration with some of its (dotted) fields changed."""
    config = OmegaConf.create(lm_config())
    for name, value in changes.items():
        OmegaConf.update(config, name.replace("__", "."), value, force_add=True)
    return OmegaConf.to_container(config)


STEREO = {
    "transformer_lm__n_q": 8,
    "codebooks_pattern__delay__delays": [0, 0, 1, 1, 2, 2, 3, 3],
    "interleave_stereo_codebooks": {"use": True, "per_timestep": False},
}
REFUSED = {
    "left and right alternate": (
        {"interleave_stereo_codebooks": {"use": True, "per_timestep": True}},
        ["interleave_stereo_codebooks.per_timestep is True (supported: False)"],
    ),
    "half a codebook a channel": (
        {
            "transformer_lm__n_q": 3,
            "codebooks_pattern__delay__delays": [0, 0, 1],
            "interleave_stereo_codebooks": STEREO["interleave_stereo_codebooks"],
        },
        ["transformer_lm.n_q is 3 (supported: 4)"],
    ),
    "the first codebook late": (
        {"codebooks_pattern__delay__delays": [1, 1, 2, 3]},
        ["codebooks_pattern.delay.delays is [1, 1, 2, 3] (supported: [0, 1, 2, 3])"],
    ),
    "a codec of other codebooks": (
        {"transformer_lm__n_q": 2, "codebooks_pattern__delay__delays": [0, 1]},
        ["the codec has 4 codebooks (supported: the language model's 2)"],
    ),
    "text before the music": (
        {"fuser__cross": [], "fuser__prepend": ["description"]},
        [
            "fuser.cross is [] (supported: ['description'])",
            "fuser.prepend is ['description'] (supported: [])",
        ],
    ),
    "first frames in a row": (
        {"codebooks_pattern__delay__flatten_first": 2, "codebooks_pattern__delay__empty_initial": 1},
        [
            "codebooks_pattern.delay.flatten_first is 2 (supported: 0)",
            "codebooks_pattern.delay.empty_initial is 1 (supported: 0)",
        ],
    ),
    "parallel": (
        {"codebooks_pattern__modeling": "parallel"},
        ["codebooks_pattern.modeling is 'parallel' (supported: 'delay')"],
    ),
    "rotary": (
        {"transformer_lm__positional_embedding": "rope"},
        ["transformer_lm.positional_embedding is 'rope' (supported: 'sin')"],
    ),
    "a window": (
        {
            "transformer_lm__past_context": 50,
            "transformer_lm__memory_efficient": False,
            "transformer_lm__custom": True,
        },
        ["transformer_lm.past_context is 50 (supported: None)"],
    ),
    "torch's attention": (
        {"transformer_lm__memory_efficient": False},
        ["transformer_lm.custom is False (supported: True)"],
    ),
}


@pytest.mark.parametrize("changes, expected", REFUSED.values(), ids=REFUSED.keys())
def test_what_would_not_run_is_refused_from_the_file_and_from_the_loaded_model(changes, expected, tmp_path):
    config = config_with(**changes)
    torch.manual_seed(0)
    lm = get_lm_model(OmegaConf.create(config))
    torch.save({"best_state": lm.state_dict(), "xp.cfg": OmegaConf.to_yaml(config)}, tmp_path / "state_dict.bin")
    said = unsupported(read_checkpoint(tmp_path / "state_dict.bin").config)
    assert said == ([] if "codec" in str(expected) else expected)
    (tmp_path / "compression_state_dict.bin").symlink_to(PLANNER / "compression_state_dict.bin")
    with pytest.raises(ValueError) as caught:
        load_model(str(tmp_path))
    assert str(caught.value) == f"model: {tmp_path}: {', '.join(expected)}; valid: {SUPPORTED}"


def test_what_runs_passes(random_model):
    assert unsupported(random_model.lm.cfg) == unsupported(config_with()) == []
    # The delays may go without saying, the pattern's name stood in the transformer once, and references count as such.
    assert unsupported(config_with(codebooks_pattern={"modeling": None}, transformer_lm__q_modeling="delay")) == []
    assert unsupported(config_with(interleave_stereo_codebooks={"use": "${stereo}"})) == []
    assert unsupported(config_with(**STEREO)) == []


@pytest.mark.parametrize("delays", [[0, 1, 2], [0, 2, 1, 3], [0, 1, "2", 3], [-1, 0, 1, 2]])
def test_delays_that_no_pattern_has_are_refused(delays):
    assert unsupported(config_with(codebooks_pattern__delay__delays=delays)) == [
        f"codebooks_pattern.delay.delays is {delays!r} (supported: [0, 1, 2, 3])"
    ]


def test_what_a_study_asks_must_fit_the_model():
    facts = {"n_layers": 6, "max_duration_s": 20.0}
    assert compatibility_errors(facts, name="m", layers=[0, 5], duration_s=20) == []
    assert compatibility_errors({}, name="m", layers=[99], duration_s=600) == []
    assert compatibility_errors(facts, name="m", layers=[6], duration_s=30) == [
        (("saes",), "layer 6 is not in m; valid: 0 to 5 (0-based: some papers count the same layer as 7)"),
        (("generation", "duration_s"), "got 30; valid: at most 20, the longest clip that m supports"),
    ]
