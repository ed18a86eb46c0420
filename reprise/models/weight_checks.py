"""Checks that a model was loaded with exactly its own weights, all finite; and the digest of the weights."""

import hashlib
from collections.abc import Callable, Mapping
from pathlib import Path
from types import MappingProxyType

import torch

from reprise.checkpoints.contents import names_problems, stored_names, weights_files
from reprise.checkpoints.finite import all_finite, wider
from reprise.checkpoints.hub import SHARDS
from reprise.checkpoints.weight_names import is_benign


class WeightsError(ValueError):
    """Weights that are missing, unexpected, or not finite. The message names them."""


def check_names(
    folder: Path,
    module: torch.nn.Module,
    *,
    what: str = "",
    allowed: Callable[[str], bool] = is_benign,
    parts: Mapping[str, str] = MappingProxyType({}),
) -> None:
    """Check that transformers' files in a folder contain exactly the weights of a module.

    transformers draws missing weights at random and ignores unexpected ones. Its own loading does not report all of
    them (for a model with a T5 it ignores every name that contains "decoder").

    Parameters
    ----------
    what
        Text before the file's name in the message.
    allowed, parts
        See `names_problems`.

    Raises
    ------
    WeightsError
        If weights are missing or unexpected.
    """
    files = weights_files(folder)
    names = stored_names(folder, files)
    if names is None:
        # Files of torch before 1.6 must be loaded to get the names.
        names = [name for file in files for name in torch.load(folder / file, map_location="cpu", weights_only=True)]
    file = what + (files[0] if len(files) == 1 else SHARDS)
    expected = module.state_dict().keys()
    if wrong := names_problems(names, expected, file=file, backend="transformers", allowed=allowed, parts=parts):
        raise WeightsError("; ".join(wrong))


def check_finite_weights(modules: Mapping[str, torch.nn.Module], *, dtype: str | None = None) -> None:
    """Raise WeightsError for a weight that has NaN or infinite values.

    modules: by the name that the message gives. dtype: what the weights were rounded to; None: as in the file.
    """
    for what, module in modules.items():
        for name, value in module.state_dict().items():
            if value.is_floating_point() and not all_finite(value):
                raise WeightsError(
                    f"{what}: {name} is not all finite "
                    + (
                        f"as {dtype}; valid: {wider(dtype)}"
                        if dtype
                        else "in the file; valid: weights that are finite"
                    )
                )


def weights_digest(*modules: torch.nn.Module) -> str:
    """SHA-256 (first 16 hex digits) of the names, shapes and values of all weights, whatever the file format."""
    digest = hashlib.sha256()
    for module in modules:
        for name, value in sorted(module.state_dict().items()):
            digest.update(f"{name}{tuple(value.shape)}".encode())
            digest.update(value.detach().to("cpu", torch.float32).contiguous().numpy().tobytes())
    return digest.hexdigest()[:16]
