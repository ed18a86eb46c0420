"""Files with other weights than their configuration describes are refused before any job."""

import json
import re

import pytest
import torch
from safetensors.torch import save_file

from reprise.checkpoints.contents import CODEC_FILE, LM_FILE
from reprise.checkpoints.name_checks import text_encoder_problems
from reprise.checkpoints.weight_names import encodec_names, t5_names
from reprise.checkpoints.weights import model_problems
from reprise.models.loading import load_model
from tests.conftest import put_on_hub
from tests.places import PLANNER

MERGED = "valid: the adapter merged into the model with PEFT's merge_and_unload(), then "


def changed(folder, file, change):
    """Change the weights in one of audiocraft's files."""
    package = torch.load(PLANNER / file)
    package["best_state"] = change(dict(package["best_state"]))
    torch.save(package, folder / file)


def test_weights_of_an_adapter_inside_a_checkpoint(model):
    def with_base(state):
        return {f"base_model.model.{name}": weight for name, weight in state.items()}

    changed(model, LM_FILE, with_base)
    (line,) = model_problems(str(model))
    assert "state_dict.bin contains weights of an adapter: base_model.model.condition_provider." in line
    assert MERGED in line
    changed(model, LM_FILE, lambda state: {**state, "linears.0.lora_B.default.weight": torch.zeros(1)})
    (line,) = model_problems(str(model))
    assert (
        "state_dict.bin contains weights of an adapter: linears.0.lora_B.default.weight; " in line and MERGED in line
    )


@pytest.mark.parametrize(
    "file, name",
    [
        (LM_FILE, "transformer.layers.2.norm1.bias"),
        (LM_FILE, "linears.3.weight"),
        (CODEC_FILE, "quantizer.vq.layers.0._codebook.embed"),
        (CODEC_FILE, "decoder.model.0.conv.conv.bias"),
    ],
)
def test_names_that_are_lacking_or_in_excess(model, file, name):
    valid = "valid: exactly the weights that its xp.cfg describes"
    changed(model, file, lambda state: {n: weight for n, weight in state.items() if n != name})
    assert model_problems(str(model)) == [f'"{model}": {file} is missing 1 weight: {name}; {valid}']
    with pytest.raises(RuntimeError, match=rf'Missing key\(s\) in state_dict: "{re.escape(name)}"'):
        load_model(str(model))
    changed(model, file, lambda state: {**state, f"{name}.more": torch.zeros(1)})
    extra = f"{file} contains 1 weight that the model does not have: {name}.more"
    assert model_problems(str(model)) == [f'"{model}": {extra}; {valid}']
    with pytest.raises(RuntimeError, match=rf'Unexpected key\(s\) in state_dict: "{re.escape(name)}.more"'):
        load_model(str(model))


def test_what_conditions_a_model_has_names_of_its_own(model):
    changed(
        model, LM_FILE, lambda state: {**state, "condition_provider.conditioners.description.t5.x": torch.zeros(1)}
    )
    assert model_problems(str(model)) == []
    changed(model, LM_FILE, lambda state: {**state, "condition_provider.conditioners.other.x": torch.zeros(1)})
    (line,) = model_problems(str(model))
    assert "does not have: condition_provider.conditioners.other.x" in line


def test_a_text_encoder_of_the_hub_that_lacks_weights(tmp_path):
    """audiocraft loads it without a word, with random weights in their place."""
    config = {"model_type": "t5", "num_layers": 2}
    (tmp_path / "config.json").write_text(json.dumps(config))
    names = sorted(t5_names(config))
    # As published, with the decoder, which is not used.
    published = [*names, "decoder.block.0.layer.0.SelfAttention.q.weight", "lm_head.weight"]
    save_file({name: torch.zeros(1) for name in published}, tmp_path / "model.safetensors")
    assert text_encoder_problems(tmp_path) == []
    save_file({name: torch.zeros(1) for name in published[1:]}, tmp_path / "model.safetensors")
    (line,) = text_encoder_problems(tmp_path)
    assert line.startswith(f"model.safetensors is missing 1 weight: {names[0]}; ")
    # The same from torch's file.
    (tmp_path / "model.safetensors").unlink()
    torch.save({name: torch.zeros(1) for name in published[1:]}, tmp_path / "pytorch_model.bin")
    assert text_encoder_problems(tmp_path) == [line.replace("model.safetensors", "pytorch_model.bin")]


def test_a_codec_of_the_hub_that_lacks_weights(model, hub_cache, tmp_path):
    torch.save({"pretrained": "owner/codec", "exported": True, "version": "1.3.0"}, model / CODEC_FILE)
    config = {"model_type": "encodec", "target_bandwidths": [2.2], "upsampling_ratios": [8, 5, 4, 4]}
    (tmp_path / "config.json").write_text(json.dumps({**config, "sampling_rate": 32000, "codebook_size": 2048}))
    names = encodec_names(json.loads((tmp_path / "config.json").read_text()))
    for lacking in (set(), {"quantizer.layers.3.codebook.embed"}):
        save_file({name: torch.zeros(1) for name in names - lacking}, tmp_path / "model.safetensors")
        put_on_hub(hub_cache, "owner/codec", {f: tmp_path / f for f in ("config.json", "model.safetensors")})
        assert len(model_problems(str(model))) == len(lacking)
    (line,) = model_problems(str(model))
    assert (
        f'"{model}" decodes with owner/codec, whose model.safetensors is missing 1 weight: quantizer.layers.3' in line
    )
