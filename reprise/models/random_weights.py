"""The same architecture with random weights: a control that has learnt nothing."""

import torch

from reprise.models.adapter import Model
from reprise.models.transformer import learnt_tensors


def randomly_initialised(model: Model, *, seed: int) -> Model:
    """Replace the weights of the model's LM by random ones, in place, and return the model.

    Matrices are normal with variance 1 / fan-in, biases 0 and norms 1. The encoder of the prompt is not changed.
    """
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for kind, tensor in learnt_tensors(model.transformer):
            if kind == "matrix":
                drawn = torch.randn(tensor.shape, generator=generator) / tensor.shape[-1] ** 0.5
                tensor.copy_(drawn)
            else:
                tensor.fill_(1.0 if kind == "norm" else 0.0)
    return model
