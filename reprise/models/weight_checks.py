"""Whether a model was loaded with the weights that are its own, all of them finite; and the digest that names them."""

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
    """Weights that are not those of the model: lacking, in excess, or not finite. Names them."""


def check_names(
    folder: Path,
    module: torch.nn.Module,
    *,
    what: str = "",
    allowed: Callable[[str], bool] = is_benign,
    parts: Mapping[str, str] = MappingProxyType({}),
) -> None:
    """Raise WeightsError unless transformers' files in a folder hold exactly the weights of a module: what is lacking
    transformers draws at random, and what is in excess it passes over. Neither is reported in full by its own loading
    (a T5 inside has it pass over every name with "decoder" in it)."""
    files = weights_files(folder)
    names = stored_names(folder, files)
    if names is None:
        # As torch wrote files before 1.6: they have to be read as a whole.
        names = [name for file in files for name in torch.load(folder / file, map_location="cpu", weights_only=True)]
    file = what + (files[0] if len(files) == 1 else SHARDS)
    expected = module.state_dict().keys()
    if wrong := names_problems(names, expected, file=file, backend="transformers", allowed=allowed, parts=parts):
        raise WeightsError("; ".join(wrong))


def check_finite_weights(modules: Mapping[str, torch.nn.Module], *, dtype: str | None = None) -> None:
    """Raise WeightsError for a weight that is not finite, naming it: in the file or, given a `dtype`, since it was
    rounded to that. modules: what each is called, with its place in the model's names."""
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
    """SHA-256 (first 16 hex digits) over names, shapes and values of all weights, independent of the file form."""
    digest = hashlib.sha256()
    for module in modules:
        for name, value in sorted(module.state_dict().items()):
            digest.update(f"{name}{tuple(value.shape)}".encode())
            digest.update(value.detach().to("cpu", torch.float32).contiguous().numpy().tobytes())
    return digest.hexdigest()[:16]
