"""The definition of a file format of SAEs."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple


def _nothing_wrong(cfg: Mapping[str, Any], folder: Path) -> None:
    return None


def _unsaid(cfg: Mapping[str, Any]) -> tuple[None, str]:
    return None, ""


class Format(NamedTuple):
    """A format in which SAEs are published.

    Attributes
    ----------
    name
        Its name.
    description, weights
        File names. A folder is of this format if it holds both. The description is JSON.
    read(folder)
        The arguments of `make_sae`. Raises SaeError. Only this function may import torch, when it is called.
    problem(cfg, folder)
        Why an SAE cannot be used according to its description; None if no problem is found.
    said_layer(cfg)
        The layer that the description declares, 0-based, and an explanation if it differs from the number in the file.
    beside
        Names of optional files that are read as well.
    version
        Of a format from another package: any text. A changed text makes the results that read its SAEs stale.
        Built-in code is tracked itself.
    """

    name: str
    description: str
    weights: str
    read: Callable[[Path], dict[str, Any]]
    problem: Callable[[Mapping[str, Any], Path], str | None] = _nothing_wrong
    said_layer: Callable[[Mapping[str, Any]], tuple[int | None, str]] = _unsaid
    beside: tuple[str, ...] = ()
    version: str = ""

    @property
    def files(self) -> tuple[str, str]:
        """The files that every folder of this format holds."""
        return self.description, self.weights
