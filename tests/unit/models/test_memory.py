"""The estimate of GPU memory is what the stages take, and too little of it is one error that says what would do."""

import re
import weakref

import numpy as np
import pytest
import torch
import yaml
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_iter

from reprise.interventions.effects import continuation_nll
from reprise.interventions.likelihood import log_likelihood
from reprise.interventions.run import _kl
from reprise.models.forward import teacher_forced
from reprise.models.generation import Sampling, generate
from reprise.models.memory import (
    CODEC_BYTES,
    TEXT_ENCODER_BYTES,
    Need,
    check_memory,
    generation_need,
    gradient_need,
    memory_problem,
    pass_need,
    rows_that_fit,
    weights_bytes,
)
from reprise.models.prompts import encode_prompts
from tests.places import ROOT

PRESETS = ROOT / "config" / "presets"
ROWS, N_FRAMES = 4, 300
MUSICGEN = {
    "n_codebooks": 4,
    "codebook_size": 2048,
    "frame_rate_hz": 50.0,
    "sample_rate_hz": 32000,
}
# Layers and width of the published models (Copet et al. 2023, arXiv 2306.05284) and their size in weights.
PUBLISHED = {"small": (24, 1024, 0.42e9), "medium": (48, 1536, 1.84e9), "large": (48, 2048, 3.26e9)}


class Peak(TorchDispatchMode):
    """Counts the bytes of all tensors that live at one time inside it: `peak` is the most."""

    def __init__(self):
        super().__init__()
        self.tensors, self.now, self.peak = {}, 0, 0

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        made = function(*args, **(kwargs or {}))
        for tensor in tree_iter(made):
            if isinstance(tensor, torch.Tensor):
                storage = tensor.untyped_storage()
                # Views share a storage, which lives as long as any of them.
                if storage._cdata not in self.tensors:
                    self.tensors[storage._cdata] = [0, storage.nbytes()]
                    self.now += storage.nbytes()
                    self.peak = max(self.peak, self.now)
                self.tensors[storage._cdata][0] += 1
                weakref.finalize(tensor, self.forget, storage._cdata)
        return made

    def forget(self, storage):
        self.tensors[storage][0] -= 1
        if not self.tensors[storage][0]:
            self.now -= self.tensors.pop(storage)[1]


@pytest.fixture(scope="module")
def facts(random_model):
    return random_model._asdict()


@pytest.fixture(scope="module")
def prompts(random_model):
    # As many words as the estimate allows for.
    return [" ".join(["piano"] * 64)] * ROWS


@pytest.fixture(scope="module")
def tokens():
    return torch.from_numpy(np.random.default_rng(0).integers(256, size=(ROWS, 4, N_FRAMES)))


def test_weights_are_those_of_the_model(random_model, facts):
    parts = random_model.lm.named_parameters()
    own = sum(weight.numel() for name, weight in parts if not name.startswith("condition_provider."))
    estimate = weights_bytes(facts, dtype="float32") - CODEC_BYTES - TEXT_ENCODER_BYTES
    assert estimate == pytest.approx(4 * own, rel=0.01)
    for n_layers, d_model, n_weights in PUBLISHED.values():
        whole = weights_bytes({**MUSICGEN, "n_layers": n_layers, "d_model": d_model}, dtype="float16")
        assert whole - CODEC_BYTES - TEXT_ENCODER_BYTES == pytest.approx(2 * n_weights, rel=0.01)


@pytest.mark.parametrize("guided", [False, True])
def test_generation_takes_what_is_estimated(random_model, facts, prompts, guided):
    sampling = Sampling(1.0, 100, 3.0 if guided else 1.0)
    with Peak() as measured:
        generate(random_model, prompts, [(i,) for i in range(ROWS)], n_frames=60, sampling=sampling)
    estimate = generation_need(facts, n_frames=60, dtype="float32", guided=guided).a_row * ROWS
    assert 0.8 * estimate < measured.peak < 1.02 * estimate


def test_passes_take_what_is_estimated(random_model, facts, prompts, tokens):
    text = encode_prompts(random_model, prompts)

    def logits():
        return teacher_forced(random_model, tokens, text, with_logits=True)[1]

    def kl():
        return _kl(logits(), torch.arange(ROWS), logits(), range(4))

    stages = [
        ({"n_hooks": 1}, lambda: teacher_forced(random_model, tokens, text, layers=[5])),
        ({"n_hooks": 4}, lambda: teacher_forced(random_model, tokens, text, layers=[-1, 1, 3, 5])),
        ({"n_logits": 1}, lambda: continuation_nll(random_model, tokens.numpy(), prompts, batch_size=ROWS)),
        ({"n_logits": 2}, kl),
    ]
    for kept, run in stages:
        with Peak() as measured:
            run()
        estimate = pass_need(facts, n_frames=N_FRAMES, dtype="float32", **kept).a_row * ROWS
        assert 0.7 * estimate < measured.peak < 1.02 * estimate, kept


@pytest.mark.parametrize("layer", [0, 2, 5])
def test_a_gradient_takes_what_is_estimated(random_model, facts, prompts, tokens, layer):
    random_model.lm.requires_grad_(False)
    text, direction = encode_prompts(random_model, prompts), torch.ones(128, requires_grad=True)

    def edit(i, _start, x):
        return x + direction if i == layer else x

    with Peak() as measured:
        torch.autograd.grad(log_likelihood(random_model, tokens, text, edit=edit).mean(), [direction])
    estimate = gradient_need(facts, n_frames=N_FRAMES, dtype="float32", layer=layer).a_row * ROWS
    assert 0.7 * estimate < measured.peak < 1.02 * estimate


def test_a_gradient_has_as_many_rows_as_fit(facts):
    need = gradient_need(facts, n_frames=400, dtype="float32", layer=2)
    assert rows_that_fit(need, wanted=8, least=2, free=None) == 8
    assert rows_that_fit(need, wanted=8, least=2, free=(int(need.of(20)), "GPU")) == 8
    assert rows_that_fit(need, wanted=8, least=2, free=(int(need.of(5)) + 1, "GPU")) == 5
    with pytest.raises(RuntimeError, match=r"a gradient needs about .* GB, but GPU has .* GB free; valid: .*float16"):
        rows_that_fit(need, wanted=8, least=2, free=(int(need.of(1)), "GPU"))


def test_half_the_width_takes_half_the_memory_and_guidance_twice(facts):
    whole, half = (generation_need(facts, n_frames=400, dtype=t, guided=False) for t in ("float32", "bfloat16"))
    assert half.a_row == pytest.approx(whole.a_row / 2, rel=0.02)
    assert generation_need(facts, n_frames=400, dtype="float32", guided=True).a_row == 2 * whole.a_row


def test_as_many_rows_fit_as_are_said_to():
    need = Need(fixed=2e9, a_row=0.3e9, afterwards=1.6e9)
    for free in (3.7e9, 8e9, 15e9, 78e9):
        most = need.most_rows(free)
        assert need.of(most) <= free < 2e9 + (most + 1) * 0.3e9
        assert memory_problem(need, batch_size=most, free=(int(free), "A GPU")) is None
        assert memory_problem(need, batch_size=most + 1, free=(int(free), "A GPU"))
    # A row would fit, but not what comes after it.
    assert need.most_rows(3.5e9) == 0


def test_too_little_memory_is_one_error_that_says_what_is_valid():
    need = Need(fixed=2e9, a_row=0.3e9)
    with pytest.raises(RuntimeError) as caught:
        check_memory(need, batch_size=64, free=(15_100_000_000, "NVIDIA A100"))
    assert str(caught.value) == (
        "generation.batch_size: 64 needs about 21.2 GB, but NVIDIA A100 has 15.1 GB free; valid: at most 43 "
        "(the batch size changes the last bits of results: do not change it later)"
    )
    with pytest.raises(RuntimeError) as caught:
        check_memory(need, batch_size=64, free=(2_000_000_000, "NVIDIA T4"))
    assert str(caught.value) == (
        "model: batch size 1 needs about 2.3 GB, but NVIDIA T4 has 2.0 GB free; valid: a GPU with more memory, "
        "model.dtype float16, shorter clips, or model.device cpu"
    )
    check_memory(need, batch_size=64, free=None)


@pytest.mark.parametrize("size", PUBLISHED)
def test_the_presets_say_what_is_estimated(size):
    text = (PRESETS / f"musicgen-{size}.yaml").read_text()
    said = " ".join(line.removeprefix("# ") for line in text.splitlines() if line.startswith("#"))
    study = yaml.safe_load(text)["studies"][f"musicgen-{size}"]
    n_layers, d_model, _ = PUBLISHED[size]
    facts = {**MUSICGEN, "n_layers": n_layers, "d_model": d_model}
    n_frames = study["generation"]["duration_s"] * 50
    need = generation_need(facts, n_frames=n_frames, dtype=study["model"]["dtype"], guided=True)
    stated = r"about ([\d.]+) GB \(its keys and values\), besides the model's ([\d.]+) GB"
    a_row, fixed = re.search(stated, said).groups()
    assert (a_row, fixed) == (f"{need.a_row / 1e9:.2f}", f"{need.fixed / 1e9:.1f}")
    rows = re.search(r"(\d+) rows fit in 15 GB, (\d+) in 23 GB, (\d+) in 78 GB", said).groups()
    assert [int(n) for n in rows] == [need.most_rows(gb * 1e9) for gb in (15, 23, 78)]
    assert study["generation"]["batch_size"] <= int(rows[1])
