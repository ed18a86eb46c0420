"""Numbers that are NaN or infinite are found where they arise, and the error says what to ask for.

A residual stream carries them on: what is not finite after a layer is not finite after any later one, nor are the
logits. So one reduction over the last thing computed tells for all that came before.
"""

import torch


class NotFiniteError(RuntimeError):
    """Activations or logits that are NaN or infinite: says where, in which precision, and what is valid."""


def all_finite(values: torch.Tensor) -> bool:
    """Whether all values are finite. One pass and no copy, where they are; waits for the device."""
    # The sum of finite values may overflow, so what it says is amiss is looked at one by one.
    return bool(torch.isfinite(values.sum(dtype=torch.float32))) or bool(torch.isfinite(values).all())


def check_finite(values: torch.Tensor, what: str) -> None:
    """Raise NotFiniteError unless all values are finite. what: the values in words, for the message."""
    if not all_finite(values):
        raise not_finite(what, values.dtype)


def not_finite(what: str, dtype: torch.dtype) -> NotFiniteError:
    """The error of something that is not finite."""
    name = str(dtype).removeprefix("torch.")
    return NotFiniteError(f"model: {what} are not all finite in {name}; valid: {wider(name)}")


def wider(dtype: str) -> str:
    """What to ask for where numbers do not fit in a dtype."""
    if dtype == "float16":
        return "model.dtype bfloat16 or float32"
    if dtype == "bfloat16":
        return "model.dtype float32"
    return "a model whose numbers are finite in float32, which this one's are not"


def layer_text(layer: int) -> str:
    """The activations of a layer (-1: the input embedding) in words."""
    return f"the activations of layer {layer}" if layer >= 0 else "the input embeddings"
