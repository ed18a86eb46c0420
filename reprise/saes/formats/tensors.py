"""Read an SAE's weights strictly. Formats share these functions, which need torch."""

import pickle
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file

from reprise.saes.errors import SaeError
from reprise.saes.formats.fields import refusal

DTYPES = {"float32": torch.float32, "float16": torch.float16, "bfloat16": torch.bfloat16}


def dtype_of(cfg: dict[str, Any], path: Path) -> torch.dtype:
    """The dtype in the description at `path`; by default float32. Raises SaeError if it is not in `DTYPES`."""
    dtype = str(cfg.get("dtype", "float32")).removeprefix("torch.")
    if dtype not in DTYPES:
        raise refusal(path, "dtype", cfg["dtype"], ", ".join(DTYPES))
    return DTYPES[dtype]


def read_safetensors(path: Path) -> dict[str, torch.Tensor]:
    """The tensors of a safetensors file, by name. Raises SaeError if the file is damaged."""
    try:
        return load_file(path)
    except (SafetensorError, OSError) as error:
        raise SaeError(f"{path}: not a complete safetensors file ({error})") from None


def read_torch(path: Path) -> dict[str, torch.Tensor]:
    """The tensors of a PyTorch file, by name. Raises SaeError if it is damaged or contains other objects."""
    try:
        found = torch.load(path, map_location="cpu", weights_only=True)
    except (RuntimeError, EOFError, pickle.UnpicklingError) as error:
        raise SaeError(f"{path}: not a complete file of tensors ({error})") from None
    if not isinstance(found, dict) or not all(isinstance(tensor, torch.Tensor) for tensor in found.values()):
        raise SaeError(f"{path}: contains more than tensors: a training checkpoint, or another format")
    return found


def named(
    path: Path,
    found: dict[str, torch.Tensor],
    names: dict[str, str],
    shapes: dict[str, tuple[int, ...]],
    *,
    dtype: torch.dtype | None = None,
) -> dict[str, torch.Tensor]:
    """Check the weights in a file, and return them under the names of `make_sae`.

    Parameters
    ----------
    path : Path
        The file, for messages.
    found : dict of tensor
        What the file holds.
    names : dict of str
        For each name in `make_sae`, the name in the file.
    shapes : dict of tuple
        For each name in `make_sae`, the shape in the file.
    dtype : torch.dtype, optional
        Weights are rounded to it.

    Returns
    -------
    dict of float32 tensor

    Raises
    ------
    SaeError
        For a missing or additional name, another shape, and a value that is not finite.
    """
    if found.keys() != set(names.values()):
        raise SaeError(f"{path}: holds {', '.join(sorted(found))}; valid: exactly {', '.join(names.values())}")
    weights = {}
    for name, theirs in names.items():
        tensor = found[theirs]
        if tuple(tensor.shape) != shapes[name]:
            raise SaeError(f"{path}: {theirs} has shape {tuple(tensor.shape)}; its description says {shapes[name]}")
        tensor = tensor.to(dtype or tensor.dtype).float()
        if not bool(torch.isfinite(tensor).all()):
            raise SaeError(f"{path}: {theirs} is not all finite" + (f" as {str(dtype)[6:]}" if dtype else ""))
        weights[name] = tensor
    return weights
