"""What there is to say of one file format of SAEs."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple


def _nothing_wrong(cfg: Mapping[str, Any], folder: Path) -> None:
    return None


def _unsaid(cfg: Mapping[str, Any]) -> tuple[None, str]:
    return None, ""


class Format(NamedTuple):
    """A format in which SAEs are published.

    A folder is of this format where it holds both `description` (JSON) and `weights`; `beside`: files that may lie
    beside them and are read as well.

    read(folder): the arguments of `make_sae`, or SaeError. It alone may import torch, and does so when it is called.
    problem(cfg, folder): why an SAE can't be used, by what its description says; None where nothing shows.
    said_layer(cfg): the layer that it says it is of, and in words why, where that is not the number that it says.
    version: of a format that another package adds, any text; another one makes stale what reads its SAEs. Built-in
    code is followed itself.
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
        """What every folder of this format holds."""
        return self.description, self.weights
