"""How long Snakemake takes to plan: a dry run of a study of 100, 1,000 and 10,000 prompts.

The study has five layers, five horizons, four seeds, every representation, and batches of 250 clips. It is finished:
its files exist (empty, because planning does not read them), and `snakemake --touch` has recorded them as made with
these settings.
"""

import json
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from statistics import median
from typing import Any

import yaml

from benchmarks.records import record

ROOT = Path(__file__).parents[1]
N_PROMPTS, N_SEEDS, N_CLIPS_A_BATCH, N_ROUNDS = (100, 1_000, 10_000), 4, 250, 3
LAYERS = (0, 1, 2, 3, 4)
HORIZONS = {"local": [0.5, 2], "soon": [2, 3], "medium": [3, 5], "far": [4, 7], "long": [4, 8]}


def snakemake(directory: Path, *arguments: str) -> str:
    command = [sys.executable, "-m", "snakemake", "--snakefile", ROOT / "Snakefile", "--directory", directory]
    command += ["--configfile", directory / "config.yaml", *arguments]
    done = subprocess.run(list(map(str, command)), cwd=directory, capture_output=True, text=True)
    if done.returncode:
        raise RuntimeError(f"{done.stdout}{done.stderr}")
    return done.stdout + done.stderr


def prepare(directory: Path, n_prompts: int) -> None:
    """Write a study's configuration and prompts, with an SAE for each layer."""
    planner = ROOT / "resources" / "planner"
    for layer in LAYERS:
        folder = directory / "sae" / f"layer{layer}"
        shutil.copytree(planner / "sae" / "layer2", folder)
        cfg = json.loads((folder / "cfg.json").read_text())
        cfg["metadata"] |= {"hook_layer": layer, "hook_name": f"transformer.layers.{layer}"}
        (folder / "cfg.json").write_text(json.dumps(cfg))
    study = {
        "model": {"name": str(planner)},
        "prompts": "prompts.tsv",
        "seeds": list(range(N_SEEDS)),
        "generation": {"n_batches": max(1, n_prompts * N_SEEDS // N_CLIPS_A_BATCH)},
        "saes": {layer: f"sae/layer{layer}" for layer in LAYERS},
        "horizons": HORIZONS,
        "probes": {"n_swaps": 999},
    }
    (directory / "config.yaml").write_text(yaml.safe_dump({"studies": {"large": study}}))
    lines = ["prompt_id\tprompt", *(f"p{i:05d}\tpiano in c, theme {i}" for i in range(n_prompts))]
    (directory / "prompts.tsv").write_text("\n".join(lines) + "\n")


def finish(directory: Path) -> None:
    """Create every output that Snakemake lists, and let it record them as made."""
    for line in snakemake(directory, "--summary").splitlines():
        path = directory / line.split("\t")[0]
        if line.startswith("results/"):
            path.parent.mkdir(parents=True, exist_ok=True)
            path.touch() if path.suffix else path.mkdir(exist_ok=True)
    snakemake(directory, "--touch", "--cores", "1")


def plan(n_prompts: int) -> dict[str, float]:
    """Seconds of a dry run of a finished study, and the number of its jobs."""
    with tempfile.TemporaryDirectory() as name:
        directory = Path(name)
        prepare(directory, n_prompts)
        n_jobs = int(snakemake(directory, "--dry-run", "--quiet", "rules").split("total")[1].split()[0])
        finish(directory)
        taken = []
        for _ in range(N_ROUNDS):
            began = time.monotonic()
            said = snakemake(directory, "--dry-run")
            taken.append(time.monotonic() - began)
        if "Nothing to be done" not in said:
            raise RuntimeError(f"the study is not finished:\n{said[-2000:]}")
        return {"seconds": median(taken), "n_jobs": n_jobs}


def run() -> list[dict[str, Any]]:
    """Records for `results.json`."""
    found = {n: plan(n) for n in N_PROMPTS}
    least = found[N_PROMPTS[0]]["seconds"]
    return [
        record(
            f"plan_prompts_{n}",
            of["seconds"],
            least,
            of["seconds"] / least,
            "s",
            N_ROUNDS,
            f"dry run of a finished study: {n:,} prompts, 5 layers, 5 horizons, {of['n_jobs']:,} jobs, against "
            f"{N_PROMPTS[0]} prompts (ratio: times as long)",
        )
        for n, of in found.items()
    ]
