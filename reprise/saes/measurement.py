"""What was measured about an SAE at its hook and at the neighbouring hooks.

It is stored apart from the certificate (reprise/saes/certificate.py). So a changed bound of the certificate does not
measure or encode again.

In JSON a hook and its metrics are one object, and a metric that is NaN is null.

Degenerate input: if nothing was measured, `metrics` is empty and `not_measured` may give the reason.
"""

import math
from collections.abc import Mapping
from typing import Any, NamedTuple


class Hook(NamedTuple):
    """Where activations are captured: after layer `layer` (-1: the input embedding).

    If `normed`, they are taken after the first norm of the next layer.
    """

    layer: int
    normed: bool

    @property
    def text(self) -> str:
        where = f"layer {self.layer}" if self.layer >= 0 else "the input embedding"
        return f"{where}, normed," if self.normed else where


class Measurement(NamedTuple):
    """One SAE on the clips of one study.

    Attributes
    ----------
    declared, expected, metrics, unconditional, not_measured
        As in `certify`.
    sae, sae_digest
        The SAE's name in the configuration, and its digest.
    n_clips, n_silent
        Number of clips measured, and number of clips left out because they are silent.
    all_silent
        Whether every clip of the study is silent.
    trained_here
        Settings of the training if the study trains the SAE, else None.
    """

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
    """A measurement as plain Python types, for `write_json`."""
    hooks = [{**hook._asdict(), **metrics} for hook, metrics in sorted(measurement.metrics.items())]
    return measurement._asdict() | {"metrics": hooks}


def from_plain(record: Mapping[str, Any]) -> Measurement:
    """The measurement from a record of `to_plain` that was written as JSON and read again."""
    without = record["unconditional"]
    metrics = {
        Hook(found["layer"], found["normed"]): _numbers({k: v for k, v in found.items() if k not in Hook._fields})
        for found in record["metrics"]
    }
    return Measurement(**{**record, "metrics": metrics, "unconditional": without and _numbers(without)})


def _numbers(metrics: Mapping[str, Any]) -> dict[str, Any]:
    """Metrics with NaN instead of null, also in the bins."""
    return {
        name: [_numbers(b) for b in value] if name == "bins" else math.nan if value is None else value
        for name, value in metrics.items()
    }
