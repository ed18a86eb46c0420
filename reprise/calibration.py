"""Calibration: the same study again and again on models whose answer is known.

A run is a study of its own, named `calibration/<organism>-<number>`, with prompts drawn by its name and seeds that no
other run has; it is judged by the thresholds that every study has. What comes out is counted by
`reprise/confusion.py`. The Snakefile imports this at every parse, so nothing heavy is imported here.

Degenerate input: where fewer prompts are listed than a run draws, it takes them all.
"""

from collections.abc import Mapping, Sequence
from typing import Any

from reprise.config import Prompt
from reprise.identity import stable_share


def run_names(organisms: Sequence[str], n_runs: int) -> list[str]:
    """Names of all runs, the organisms' in turn."""
    return [f"calibration/{organism}-{run:02d}" for organism in organisms for run in range(n_runs)]


def parse_run(name: str) -> tuple[str, int]:
    """(organism, number) of a run's name. Raises ValueError for another name."""
    folder, _, run = name.partition("/")
    organism, _, number = run.rpartition("-")
    if folder != "calibration" or not organism or not number.isdigit():
        raise ValueError(f"calibration: {name!r} is not a run; valid: calibration/<organism>-<number>")
    return organism, int(number)


def draw(prompts: Sequence[Prompt], n: int, name: str) -> list[Prompt]:
    """`n` of the prompts, drawn by a run's name, in their own order."""
    chosen = sorted(prompts, key=lambda p: stable_share(f"{name} {p.prompt_id}"))[:n]
    return [p for p in prompts if p in chosen]


def run_settings(asked: Mapping[str, Any], name: str) -> dict[str, Any]:
    """The fields of a run's study, from config/calibration.yaml."""
    organism, run = parse_run(name)
    folder = asked["organisms"][organism]
    first = asked["first_seed"] + run * asked["seeds_per_run"]
    return {
        **asked["study"],
        "model": {"name": folder},
        "saes": {layer: f"{folder}/sae/layer{layer}" for layer in asked["sae_layers"]},
        "prompts": asked["prompts"],
        "seeds": list(range(first, first + asked["seeds_per_run"])),
    }
