"""What was measured of an SAE at its hook and at the hooks around it, kept apart from how it is judged: a changed
bound of the certificate (reprise/saes/certificate.py) measures and encodes nothing anew.

In JSON a hook and its metrics are one object, and a metric that is NaN is null.

Degenerate input: where nothing was measured, `metrics` is empty and `not_measured` may say why.
"""

import math
from collections.abc import Mapping
from typing import Any, NamedTuple


class Hook(NamedTuple):
    """Where activations are taken: after layer `layer` (-1: the input embedding), as they are or, `normed`, as the
    next layer's first norm makes them."""

    layer: int
    normed: bool

    @property
    def text(self) -> str:
        where = f"layer {self.layer}" if self.layer >= 0 else "the input embedding"
        return f"{where}, normed," if self.normed else where


class Measurement(NamedTuple):
    """One SAE on the clips of one study. declared, expected, metrics, unconditional, not_measured: as `certify` takes
    them. sae: its name in the configuration. n_clips: how many were measured; n_silent: how many more would have been,
    were anything to be heard in them. all_silent: whether that is so of every clip of the study. trained_here: the
    settings of the training, where the study trains the SAE."""

    declared: Mapping[str, Any]
    expected: Mapping[str, Any]
    metrics: Mapping[Hook, Mapping[str, Any]]
    sae: str
    sae_digest: str
    n_clips: int
    unconditional: Mapping[str, Any] | None = None
    not_measured: str = ""
    n_silent: int = 0
    all_silent: bool = False
    trained_here: Mapping[str, Any] | None = None


def to_plain(measurement: Measurement) -> dict[str, Any]:
    """A measurement as builtins, for `write_json`."""
    hooks = [{**hook._asdict(), **metrics} for hook, metrics in sorted(measurement.metrics.items())]
    return measurement._asdict() | {"metrics": hooks}


def from_plain(record: Mapping[str, Any]) -> Measurement:
    """The measurement that `to_plain` made such a record of, after it was written as JSON and read."""
    without = record["unconditional"]
    metrics = {
        Hook(found["layer"], found["normed"]): _numbers({k: v for k, v in found.items() if k not in Hook._fields})
        for found in record["metrics"]
    }
    return Measurement(**{**record, "metrics": metrics, "unconditional": without and _numbers(without)})


def _numbers(metrics: Mapping[str, Any]) -> dict[str, Any]:
    """Metrics with their NaN, also in the bins."""
    return {
        name: [_numbers(b) for b in value] if name == "bins" else math.nan if value is None else value
        for name, value in metrics.items()
    }
