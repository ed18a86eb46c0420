"""The demo at other seeds: its verdicts, and whether a study of the advised size decides as often as predicted.

Every organism of the demo is studied four times, each time with other seeds of the same prompts. Then half of the
prompts of one study become a pilot. Its `advice` for 80% power is a number of prompts. Studies of that size are drawn
from the other three sets of seeds. A prompt with another set of seeds counts as another prompt. The real probes judge
these studies.
"""

import json
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import yaml

from benchmarks.power import LAYER, RANDOM, Pool, promised_and_found, summary
from benchmarks.workflow import ROOT, demo_figures, run_snakemake
from reprise.probing.probes import Question
from reprise.probing.questions import read_question
from reprise.saes.latents import read_latents
from reprise.storage.artifacts import read_array, read_clips
from reprise.targets.labels import label_grid, without_local
from reprise.verdict.preregistration import Thresholds

SETS = ((0, 1, 2, 3), (4, 5, 6, 7), (8, 9, 10, 11), (12, 13, 14, 15))
LONG, LOCAL = "h4-8", "h0.5-2"
KINDS = ("resid", "sae", RANDOM)
N_STUDIES = 8


def configuration() -> dict[str, Any]:
    """The demo's configuration, with every study at each of the four sets of seeds."""
    config = yaml.safe_load((ROOT / "config" / "config.yaml").read_text())
    config["studies"] = {
        f"{name}-{seeds[0]}-{seeds[-1]}": {**fields, "seeds": list(seeds)}
        for name, fields in config["studies"].items()
        for seeds in SETS
    }
    return config


def run() -> dict[str, Any]:
    """The content of `seeds.json`."""
    with tempfile.TemporaryDirectory() as name:
        directory = Path(name)
        for needed in ("resources", "config"):
            (directory / needed).symlink_to(ROOT / needed)
        path = directory / "study.yaml"
        path.write_text(yaml.safe_dump(configuration()))
        run_snakemake(directory, path)
        return collect(directory / "results")


def collect(results: Path) -> dict[str, Any]:
    """The verdicts of finished studies, and their predicted and measured power."""
    thresholds = json.loads(next(results.glob("planner-*/verdict.json")).read_text())["thresholds"]
    pools = [read_pool(results, f"planner-{seeds[0]}-{seeds[-1]}") for seeds in SETS]
    return {"verdicts": demo_figures(results), "power": power_found(pools, Thresholds(**thresholds))}


def read_pool(results: Path, study: str) -> Pool:
    """The question and the representations of one layer at the long horizon."""
    folder = results / study
    shared = folder / json.loads((folder / "clips.json").read_text())["corpus"]

    def stores(of: Path) -> list[str]:
        return sorted(str(path) for path in of.glob("b*.manifest.json"))

    descriptors = stores(folder / "descriptors")
    clips = read_clips(descriptors)
    labels, local = (pd.read_parquet(folder / "labels" / f"{h}.parquet") for h in (LONG, LOCAL))
    grid = label_grid(without_local(labels, local), clips["clip_id"])
    hooks = {"resid": f"layer{LAYER}", "random_model": f"random-layer{LAYER}"}
    pool: Pool = {
        kind: read_array(stores(shared / "activations" / hook), "resid_post", grid.positions).astype(np.float32)
        for kind, hook in hooks.items()
    }
    latents = read_latents(stores(folder / "latents" / f"layer{LAYER}"), grid.positions)
    pool["sae"] = latents.toarray().reshape(*grid.y.shape, -1).astype(np.float32)
    pool["question"] = read_question(descriptors, clips, grid)
    return pool


def part(pools: list[Pool], chosen: list[tuple[int, str]]) -> Pool:
    """The clips of some (pool number, prompt) pairs. Each pair counts as one prompt."""
    joined: dict[str, list] = {key: [] for key in ("y", "usable", "prompt", "clip_ids", "x", *KINDS)}
    for n, (number, prompt) in enumerate(chosen):
        pool = pools[number]
        question: Question = pool["question"]
        mine = np.flatnonzero(np.asarray(question.prompt) == prompt)
        joined["prompt"].append(np.full(len(mine), f"{n:04d}"))
        joined["clip_ids"].append([f"{n:04d}-{question.clip_ids[i]}" for i in mine])
        for key in ("y", "usable", "x"):
            joined[key].append(np.asarray(getattr(question, key))[mine])
        for kind in KINDS:
            joined[kind].append(pool[kind][mine])
    whole = {key: np.concatenate(values) for key, values in joined.items()}
    question = Question(
        whole["y"],
        whole["usable"],
        whole["prompt"],
        whole["clip_ids"].tolist(),
        whole["x"],
        pools[0]["question"].names,
    )
    return {"question": question, **{kind: whole[kind] for kind in KINDS}}


def power_found(pools: list[Pool], t: Thresholds) -> dict[str, Any]:
    """How often studies of the advised size decide, compared with the power that their pilots predict."""
    prompts = sorted(set(pools[0]["question"].prompt))
    rows = []
    for number in range(len(pools)):
        for half in (0, 1):
            seed = 10 * number + half
            others = [(n, p) for n in range(len(pools)) if n != number for p in prompts]

            def study_of(size: int, draw: int, seed: int = seed, others: list = others) -> Pool | None:
                order = np.random.default_rng([seed, draw, 9]).permutation(len(others))[:size]
                return part(pools, [others[i] for i in order]) if size <= len(others) else None

            pilot = part(pools, [(number, p) for p in prompts[half::2]])
            rows.append(promised_and_found(pilot, study_of, t, seed=seed, n_studies=N_STUDIES))
    return summary(rows)
