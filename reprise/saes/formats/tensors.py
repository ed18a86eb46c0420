"""An SAE's weights, read strictly: what formats share that needs torch."""

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
    dtype = str(cfg.get("dtype", "float32")).removeprefix("torch.")
    if dtype not in DTYPES:
        raise refusal(path, "dtype", cfg["dtype"], ", ".join(DTYPES))
    return DTYPES[dtype]


def read_safetensors(path: Path) -> dict[str, torch.Tensor]:
    try:
        return load_file(path)
    except (SafetensorError, OSError) as error:
        raise SaeError(f"{path}: not a whole safetensors file ({error})") from None


def read_torch(path: Path) -> dict[str, torch.Tensor]:
    try:
        found = torch.load(path, map_location="cpu", weights_only=True)
    except (RuntimeError, EOFError, pickle.UnpicklingError) as error:
        raise SaeError(f"{path}: not a whole file of tensors ({error})") from None
    if not isinstance(found, dict) or not all(isinstance(tensor, torch.Tensor) for tensor in found.values()):
        raise SaeError(f"{path}: holds more than tensors: a backup of a training, or another form")
    return found


def named(
    path: Path,
    found: dict[str, torch.Tensor],
    names: dict[str, str],
    shapes: dict[str, tuple[int, ...]],
    *,
    dtype: torch.dtype | None = None,
) -> dict[str, torch.Tensor]:
    """Weights under our names, float32 (rounded to `dtype`), after checking names, shapes and that all is finite."""
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
