"""Activations, logits and weights that are NaN or infinite are an error that says where and in which precision, not
clips of the token 0."""

import numpy as np
import pandas as pd
import pytest
import torch

from reprise.checkpoints.finite import NotFiniteError, all_finite
from reprise.interventions.edits import Edits
from reprise.interventions.effects import continuation_nll
from reprise.interventions.run import run_conditions, teacher_forced_kl
from reprise.interventions.subspace import of_latents
from reprise.models.capture import residual_stream, store_residual_stream
from reprise.models.codec import decode_audio
from reprise.models.forward import teacher_forced
from reprise.models.generation import Sampling, choose, generate
from reprise.models.loading import load_model
from reprise.models.prompts import encode_prompts
from reprise.saes.loading import load_sae
from tests.places import PLANNER

N_FRAMES = 12
PROMPTS = ["piano in c, amber theme", None]
SAMPLING = Sampling(1.0, 50, 3.0)
SCALE = 20_000.0


def saved(folder, change):
    """A copy of the planner with its language model's weights changed in place."""
    (folder / "compression_state_dict.bin").symlink_to(PLANNER / "compression_state_dict.bin")
    package = torch.load(PLANNER / "state_dict.bin")
    change(package["best_state"])
    torch.save(package, folder / "state_dict.bin")
    return folder


def overflowing(weights, layer=4):
    """The MLP's inner layer is too large for float16 and, in a wider type, scaled back."""
    weights[f"transformer.layers.{layer}.linear1.weight"] *= SCALE
    weights[f"transformer.layers.{layer}.linear2.weight"] /= SCALE


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return saved(tmp_path_factory.mktemp("overflows"), overflowing)


@pytest.fixture(scope="module")
def model(folder):
    return load_model(str(folder), dtype="float16")


@pytest.fixture(scope="module")
def tokens():
    return np.random.default_rng(0).integers(256, size=(2, 4, N_FRAMES))


AT_LAYER = r"model: the activations of layer 4 are not all finite in float16; valid: model\.dtype bfloat16 or float32$"


@pytest.mark.parametrize("cfg_coef", [1.0, 3.0])
def test_a_generation_that_overflows(model, cfg_coef):
    with pytest.raises(NotFiniteError, match=AT_LAYER):
        generate(model, PROMPTS, [(1,), (2,)], n_frames=N_FRAMES, sampling=Sampling(1.0, 50, cfg_coef))


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_the_same_model_runs_where_there_is_room(folder, dtype):
    made = generate(load_model(str(folder), dtype=dtype), PROMPTS, [(1,), (2,)], n_frames=N_FRAMES, sampling=SAMPLING)
    assert len(made.unique()) > 5


def test_passes_over_given_tokens_that_overflow(model, tokens):
    with pytest.raises(NotFiniteError, match=AT_LAYER):
        continuation_nll(model, tokens, PROMPTS, batch_size=2)
    with pytest.raises(NotFiniteError, match=AT_LAYER):
        next(residual_stream(model, tokens, PROMPTS, layers=[2, 5], batch_size=2))
    with pytest.raises(NotFiniteError, match=AT_LAYER):
        # As activations are stored.
        store_residual_stream(model, tokens, PROMPTS, {4: None}, batch_size=2)
    # What comes before is as it should be.
    before = next(residual_stream(model, tokens, PROMPTS, layers=[-1, 3], batch_size=2))
    assert all(np.isfinite(x).all() for x in before.values())


def conditions():
    fields = {"prompt": PROMPTS[0], "kind": "target", "window": "until_event", "control": 0, "edit": "latent"}
    fields |= {"layer": 4, "dose": 1.0, "reference": "zero", "donor": None, "n_prefix_frames": 4}
    fields |= {"start_position": 0, "stop_position": 10}
    return pd.DataFrame([{"clip_id": f"c{i}", **fields} for i in range(2)])


def test_an_ablation_that_overflows_does_not_blame_the_sae(model, tokens):
    latent = {"latent": of_latents("feature", [3])}
    edits = Edits(latent, {("latent", "zero"): np.zeros(1)}, sae=load_sae(PLANNER / "sae" / "layer4"))
    baseline = {f"c{i}": tokens[i] for i in range(2)}
    with pytest.raises(NotFiniteError, match=AT_LAYER):
        keys = {clip_id: (1,) for clip_id in baseline}
        list(run_conditions(model, edits, conditions(), baseline, keys, batch_size=2, sampling=SAMPLING))
    with pytest.raises(NotFiniteError, match=AT_LAYER):
        teacher_forced_kl(model, edits, conditions(), baseline, batch_size=2)


def test_an_edit_that_is_not_finite_is_told_from_the_layer(random_model, tokens):
    def edit(layer, start, x):
        return x * torch.inf if layer == 2 else x

    text = r"the activations of layer 2, as edited, are not all finite in float32; valid: a model whose values "
    with pytest.raises(NotFiniteError, match=text):
        generate(random_model, PROMPTS, [(1,), (2,)], n_frames=N_FRAMES, sampling=SAMPLING, edit=edit)
    text_of = encode_prompts(random_model, PROMPTS)
    with pytest.raises(NotFiniteError, match=text):
        teacher_forced(random_model, torch.from_numpy(tokens), text_of, edit=edit, layers=[5])


def test_the_first_step_that_is_not_finite_is_found_between_those_that_are_asked(random_model):
    """Of these steps only the first and the last are asked."""

    def edit(layer, start, x):
        return x * torch.nan if layer == 3 and start >= 7 else x

    with pytest.raises(NotFiniteError, match="layer 3, as edited,"):
        generate(random_model, PROMPTS, [(1,), (2,)], n_frames=N_FRAMES, sampling=SAMPLING, edit=edit)


def test_heads_prompts_and_sound_that_are_not_finite(tokens):
    model = load_model(str(PLANNER))
    head = model.transformer.heads[1].weight
    kept = head[3].clone()
    head.data[3] = torch.inf
    with pytest.raises(NotFiniteError, match="model: the logits are not all finite in float32"):
        generate(model, PROMPTS, [(1,), (2,)], n_frames=N_FRAMES, sampling=SAMPLING)
    with pytest.raises(NotFiniteError, match="model: the logits are not all finite in float32"):
        continuation_nll(model, tokens, PROMPTS, batch_size=2)
    head.data[3] = kept
    with pytest.raises(NotFiniteError, match="the encoded prompts"):
        encode_prompts(model._replace(embed_text=lambda prompt: torch.full((2, 128), torch.nan)), PROMPTS)
    with pytest.raises(NotFiniteError, match="the samples that the codec decodes"):
        decode_audio(model._replace(tokens_to_audio=lambda latents: torch.full((1, 1, 640), torch.inf)), tokens[0])


def test_logits_that_are_masked_on_purpose_are_no_error():
    logits = torch.tensor([[[0.0, 5.0, -torch.inf, 1.0]]])
    for sampling in (Sampling(1.0, 2, 1.0), Sampling(1.0, 0, 1.0, 0.9)):
        assert choose(logits, torch.ones_like(logits), sampling).tolist() == [[1]]


def test_weights_that_are_not_finite_in_the_file(tmp_path):
    def break_head(weights):
        weights["linears.2.weight"][:] = torch.nan

    with pytest.raises(ValueError) as caught:
        load_model(str(saved(tmp_path, break_head)))
    assert str(caught.value) == (
        f"model: {tmp_path}: state_dict.bin: linears.2.weight is not all finite in the file; valid: weights that are "
        "finite"
    )


def test_weights_that_overflow_when_they_are_rounded(tmp_path):
    def enlarge(weights):
        weights["transformer.layers.1.norm1.weight"] = weights["transformer.layers.1.norm1.weight"].float() + 70_000

    folder = saved(tmp_path, enlarge)
    assert load_model(str(folder)).dtype == load_model(str(folder)).dtype == torch.float32
    load_model(str(folder), dtype="bfloat16")
    text = (
        r"state_dict\.bin: transformer\.layers\.1\.norm1\.weight is not all finite as float16; valid: model\.dtype b"
    )
    with pytest.raises(ValueError, match=text):
        load_model(str(folder), dtype="float16")


def test_finite_values_whose_sum_overflows_are_finite():
    assert all_finite(torch.full((4,), 3e38)) and all_finite(torch.full((9,), 6e4, dtype=torch.float16))
    assert not all_finite(torch.tensor([torch.inf, -torch.inf])) and all_finite(torch.zeros(0))
