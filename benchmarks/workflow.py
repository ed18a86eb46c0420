"""Measurements of the whole workflow: the full demo, and a rerun after a changed horizon.

`horizon_change`: wall time of the rerun divided by that of the full demo. `overhead_fraction`: fraction of the demo's
wall time in which no job computes (start-up, imports and Snakemake itself), from the jobs' logs.
"""

import json
import subprocess
import sys
import tempfile
import time
from datetime import datetime
from pathlib import Path
from statistics import median
from typing import Any

import pandas as pd
import yaml

from benchmarks.records import record

ROOT = Path(__file__).parents[1]
N_HORIZON_CHANGES = 3


def run_snakemake(directory: Path, config: Path, *targets: str) -> float:
    """Run the workflow in `directory`, and return the wall seconds. RuntimeError: the end of the log of a failure."""
    command = [sys.executable, "-m", "snakemake", *targets, "--cores", "2", "--snakefile", ROOT / "Snakefile"]
    command += ["--directory", directory, "--configfile", config]
    began, path = time.monotonic(), directory / "snakemake.log"
    with open(path, "a") as log:
        ended = subprocess.run(list(map(str, command)), stdout=log, stderr=log, cwd=directory)
    if ended.returncode:
        raise RuntimeError(f"snakemake failed with {config}:\n{path.read_text()[-3000:]}")
    return time.monotonic() - began


def computing_s(logs: Path) -> float:
    """Seconds in which at least one job computes: the union of the spans from each job's first to last log line."""

    def moment(line: str) -> float:
        return datetime.strptime(line[:23], "%Y-%m-%d %H:%M:%S,%f").timestamp()

    spans = []
    for path in logs.rglob("*.log"):
        lines = [line for line in path.read_text().splitlines() if line[:2] == "20"]
        if lines:
            spans.append((moment(lines[0]), moment(lines[-1])))
    total, reached = 0.0, 0.0
    for begin, end in sorted(spans):
        total += max(0.0, end - max(begin, reached))
        reached = max(reached, end)
    return total


def demo_figures(results: Path) -> dict[str, Any]:
    """The numbers of the demo in the README, from its results."""
    studies = {}
    for path in sorted(results.glob("*/verdict.json")):
        judged = json.loads(path.read_text())
        studies[path.parent.name] = {
            "verdict": judged["verdict"],
            "reason": judged["reason"],
            "mechanism": judged.get("mechanism"),
            "costs": candidate_costs(results, path.parent.name, judged),
            "gates": [
                {k: g[k] for k in ("name", "value", "low", "high", "threshold", "outcome")} for g in judged["gates"]
            ],
        }
    return studies


def candidate_costs(results: Path, study: str, judged: dict[str, Any]) -> list[dict[str, Any]]:
    """The wall seconds of each stage that follows a candidate, for each that was edited."""
    timings = results / "benchmarks" / study
    found = []
    for candidate in judged["candidates"]:
        files = {
            stage: timings / stage / f"{candidate['name']}.tsv" for stage in ("ablate", "effects", "heads", "map")
        }
        seconds = {
            stage: float(pd.read_csv(file, sep="\t")["s"].sum()) for stage, file in files.items() if file.exists()
        }
        if seconds:
            rows = pd.read_parquet(results / study / "ablations" / candidate["name"] / "conditions.parquet")
            found.append(
                {"title": candidate["title"], "kind": candidate["kind"], "continuations": len(rows)} | seconds
            )
    return found


def run() -> tuple[list[dict[str, Any]], dict[str, Any]]:
    """Records for `results.json`, and the demo's figures."""
    with tempfile.TemporaryDirectory() as name:
        directory = Path(name)
        for needed in ("resources", "config"):
            (directory / needed).symlink_to(ROOT / needed)
        config = yaml.safe_load((ROOT / "config" / "config.yaml").read_text())
        path = directory / "study.yaml"
        path.write_text(yaml.safe_dump(config))
        full_s = run_snakemake(directory, path)
        overhead = 1 - computing_s(directory / "results" / "logs") / full_s
        demo = demo_figures(directory / "results")
        changes = []
        for i in range(N_HORIZON_CHANGES):
            config["defaults"]["horizons"]["long"] = [4, 7.5 - 0.5 * i]
            path.write_text(yaml.safe_dump(config))
            changes.append(run_snakemake(directory, path))
    change_s = median(changes)
    return [
        record(
            "horizon_change",
            change_s,
            full_s,
            change_s / full_s,
            "s",
            len(changes),
            "rerun after a changed horizon, against the full demo",
        ),
        record(
            "overhead_fraction",
            overhead * full_s,
            full_s,
            overhead,
            "s",
            1,
            "wall time of the demo in which no job computes, against all of it",
        ),
    ], demo
