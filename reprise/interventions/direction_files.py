"""Directions as files: a vector that was found elsewhere can be judged here, and one of ours can be used there.

A direction is two files with one stem: `<name>.safetensors` has the tensors, `<name>.json` says what they are.

Tensors. Either `direction`, float `[d_model]` or `[rank, d_model]`, which makes an orthogonal projection; or `read`
and `write` `[rank, d_model]` and `offset` `[rank]`, as in `Subspace`. Optional: `mean` `[d_model]`, the stream whose
coordinates are 0, beside `direction`.

Description. `layer` (0-based) is required. `hook` must be `resid_post`, the stream after the layer, if it is there.
All other fields are kept as they are: `kind`, `model`, `source` and so on.

Heavy libraries are imported where they are used, because the configuration reads descriptions.

Degenerate input: a missing file, tensors that do not fit together or are not finite, and another hook are errors that
name the file, the field and what is valid.
"""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from reprise.interventions.subspace import Subspace

HOOK = "resid_post"


class DirectionError(ValueError):
    """A direction's files cannot be used: the file, the field, the value and what is valid."""


class DirectionFile(NamedTuple):
    """A direction that was read: its `subspace`, the `layer` that it is of, and what the description says."""

    subspace: "Subspace"
    layer: int
    about: dict[str, Any]


def describe(path: str | Path) -> dict[str, Any]:
    """The description of a direction, from `<name>.json` beside `<name>.safetensors`, whichever of them is given.

    Nothing heavy is imported for it: the configuration is checked with it. Raises DirectionError.
    """
    tensors, said = (Path(path).with_suffix(suffix) for suffix in (".safetensors", ".json"))
    for file in (tensors, said):
        if not file.is_file():
            raise DirectionError(f"{file}: missing; valid: {tensors.name} and {said.name} in one folder")
    try:
        about = json.loads(said.read_text(encoding="utf-8"))
    except ValueError as error:
        raise DirectionError(f"{said}: not JSON ({error})") from None
    if not isinstance(about, dict):
        raise DirectionError(f"{said}: holds a {type(about).__name__}; valid: an object of fields")
    layer, hook = about.get("layer"), about.get("hook", HOOK)
    if type(layer) is not int or layer < 0:
        raise DirectionError(f"{said}: layer is {layer!r}; valid: a whole number from 0")
    if hook != HOOK:
        raise DirectionError(f"{said}: hook is {hook!r}; valid: {HOOK!r}, the residual stream after the layer")
    return about


def read_direction(path: str | Path) -> DirectionFile:
    """Read a direction from its two files. Raises DirectionError."""
    import numpy as np
    from safetensors import SafetensorError
    from safetensors.numpy import load_file

    from reprise.interventions.subspace import linear

    about, file = describe(path), Path(path).with_suffix(".safetensors")
    try:
        tensors = load_file(file)
    except (SafetensorError, OSError) as error:
        raise DirectionError(f"{file}: cannot be read ({error})") from None
    names = set(tensors)
    if names - {"mean"} == {"direction"}:
        read, write, mean = tensors["direction"], None, tensors.get("mean")
    elif names == {"read", "write", "offset"}:
        read, write, mean = tensors["read"], tensors["write"], None
    else:
        valid = "direction (and mean), or read, write and offset"
        raise DirectionError(f"{file}: has the tensors {', '.join(sorted(names))}; valid: {valid}")
    try:
        subspace = linear("given", read, write, mean=mean)
    except ValueError as error:
        raise DirectionError(f"{file}: {error}") from None
    if "offset" in tensors:
        offset = np.asarray(tensors["offset"], np.float32)
        if offset.shape != (subspace.rank,) or not np.isfinite(offset).all():
            raise DirectionError(f"{file}: offset has shape {offset.shape}; valid: [rank], finite")
        subspace = subspace._replace(offset=offset)
    return DirectionFile(subspace, about["layer"], about)


def write_direction(
    path: str | Path,
    subspace: "Subspace",
    *,
    layer: int,
    about: Mapping[str, Any],
    decoder: "NDArray[np.floating] | None" = None,
) -> None:
    """Write a direction as two files beside each other.

    Parameters
    ----------
    path : path
        The file with the tensors; its suffix becomes `.safetensors`.
    subspace : Subspace
        A linear subspace, or SAE latents.
    layer : int
        The layer that it is of, 0-based.
    about : mapping
        Further fields of the description, of builtins.
    decoder : array `[d_sae, d_model]`, optional
        The SAE's decoder directions, for latents. What is written is the orthogonal projection onto those of the
        latents. The stream has a part along them also where the SAE's latents are not active, so an edit of the one
        is not exactly an edit of the other.

    Raises
    ------
    ValueError
        For latents without a decoder.
    """
    import numpy as np
    from safetensors.numpy import save_file

    from reprise.interventions.subspace import linear

    if subspace.latents:
        if decoder is None:
            raise ValueError(
                f"write_direction: latents {list(subspace.latents)} belong to an SAE; valid: with its decoder"
            )
        about = {**about, "latents": list(subspace.latents)}
        subspace = linear(subspace.kind, np.asarray(decoder)[list(subspace.latents)])
    file = Path(path).with_suffix(".safetensors")
    # The library writes the bytes of an array as they lie in memory.
    save_file({name: np.ascontiguousarray(getattr(subspace, name)) for name in ("read", "write", "offset")}, file)
    size = {"rank": subspace.rank, "d_model": subspace.read.shape[1]}
    said = {**about, "layer": layer, "hook": HOOK, "kind": subspace.kind, **size}
    file.with_suffix(".json").write_text(json.dumps(said, indent=2) + "\n", encoding="utf-8")
