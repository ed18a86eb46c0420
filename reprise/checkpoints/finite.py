"""Find NaN and infinite values where they first occur. The error names a dtype that may avoid them.

NaN and infinite values stay in the residual stream: after one layer has them, all later layers and the logits have
them too. So one check of the last result covers everything before it.
"""

import torch


class NotFiniteError(RuntimeError):
    """Activations or logits are NaN or infinite. The message names the place, the dtype and what is valid."""


def all_finite(values: torch.Tensor) -> bool:
    """Whether all values are finite. If they are, it takes one pass and no copy. Waits for the device."""
    # The sum of finite values can overflow. So if the sum is not finite, each value is checked.
    return bool(torch.isfinite(values.sum(dtype=torch.float32))) or bool(torch.isfinite(values).all())


def check_finite(values: torch.Tensor, what: str) -> None:
    """Raise NotFiniteError unless all values are finite. what: the values in words, for the message."""
    if not all_finite(values):
        raise not_finite(what, values.dtype)


def not_finite(what: str, dtype: torch.dtype) -> NotFiniteError:
    """The error for values, `what` in words, that are not finite."""
    name = str(dtype).removeprefix("torch.")
    return NotFiniteError(f"model: {what} are not all finite in {name}; valid: {wider(name)}")


def wider(dtype: str) -> str:
    """What is valid if numbers do not fit in a dtype, in words."""
    if dtype == "float16":
        return "model.dtype bfloat16 or float32"
    if dtype == "bfloat16":
        return "model.dtype float32"
    return "a model whose values are finite in float32 (those of this model are not)"


def layer_text(layer: int) -> str:
    """The activations of a layer (-1: the input embedding) in words."""
    return f"the activations of layer {layer}" if layer >= 0 else "the input embeddings"
