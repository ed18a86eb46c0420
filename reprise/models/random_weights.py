"""The same architecture with weights drawn at random: what a model predicts that has learnt nothing."""

import torch

from reprise.models.adapter import Model
from reprise.models.transformer import learnt_tensors


def randomly_initialised(model: Model, *, seed: int) -> Model:
    """The model with its LM's weights drawn anew, in place: what its architecture alone makes of the same tokens.

    Matrices are normal with variance 1 / fan-in, biases 0 and norms 1. What encodes the prompt stays.
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
