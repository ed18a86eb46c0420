"""Likelihood of given tokens: the same numbers as the NLL of a continuation, and the gradients of differences."""

import numpy as np
import pytest
import torch

from reprise.interventions.effects import continuation_nll
from reprise.interventions.likelihood import log_likelihood
from reprise.models.adapter import Model
from reprise.models.forward import teacher_forced
from reprise.models.prompts import encode_prompts

PROMPTS = ["organ in C", "marimba in G"]


@pytest.fixture(scope="module")
def tokens(random_model: Model) -> torch.Tensor:
    rng = np.random.default_rng(0)
    return torch.from_numpy(rng.integers(0, random_model.codebook_size, (2, random_model.n_codebooks, 20)))


def test_it_is_the_negative_of_the_nll(random_model: Model, tokens: torch.Tensor) -> None:
    found = log_likelihood(random_model, tokens, encode_prompts(random_model, PROMPTS))
    nll = continuation_nll(random_model, tokens.numpy().astype(np.uint16), PROMPTS, batch_size=2)
    assert found.shape == (2, 20) and np.allclose(-found.detach().numpy(), nll, atol=1e-5)


def test_a_gradient_is_the_slope(random_model: Model, tokens: torch.Tensor) -> None:
    text, along = encode_prompts(random_model, PROMPTS), torch.randn(random_model.d_model)

    def last(by: torch.Tensor) -> torch.Tensor:
        def edit(layer: int, start: int, x: torch.Tensor) -> torch.Tensor:
            return x + by * along if layer == 1 else x

        return log_likelihood(random_model, tokens, text, edit=edit)[:, -1].sum()

    by = torch.zeros((), requires_grad=True)
    (slope,) = torch.autograd.grad(last(by), [by])
    with torch.no_grad():
        difference = (last(torch.tensor(1e-2)) - last(torch.tensor(-1e-2))) / 2e-2
    assert abs(slope) > 1e-3 and torch.isclose(slope, difference, rtol=0.05)


@pytest.mark.parametrize("layer", [0, 3, -1])
def test_a_pass_may_begin_after_a_layer(random_model: Model, tokens: torch.Tensor, layer: int) -> None:
    layer, text = layer % random_model.n_layers, encode_prompts(random_model, PROMPTS)
    streams, _ = teacher_forced(random_model, tokens, text, layers=[layer])
    along = torch.randn(random_model.d_model, generator=torch.Generator().manual_seed(0))

    def edit(at: int, _start: int, x: torch.Tensor) -> torch.Tensor:
        return x + along if at == layer else x

    whole = log_likelihood(random_model, tokens, text, edit=edit)
    found = log_likelihood(random_model, tokens, text, after=(layer, streams[layer] + along))
    torch.testing.assert_close(found, whole, atol=1e-5, rtol=1e-5)
    unedited = log_likelihood(random_model, tokens, text)
    assert not torch.allclose(unedited, whole, atol=1e-3)
