"""How long the jobs of each stage took, from the benchmarks that Snakemake writes, `results/benchmarks/<study>/` and
`results/benchmarks/corpora/<corpus>/`.

Degenerate input: without any benchmark the tables are empty.
"""

import json
from collections.abc import Iterable, Sequence
from pathlib import Path

import pandas as pd

# In the order in which they come.
STAGES = (
    "encode_recordings",
    "encode_openings",
    "generate",
    "activations",
    "activations_random",
    "train_sae",
    "measure_sae",
    "encode",
    "descriptors",
    "events",
    "label",
    "baseline",
    "probe",
    "screen",
    "candidates",
    "ablate",
    "effects",
    "power",
)


def read_jobs(folders: Sequence[Path]) -> pd.DataFrame:
    """A row a job: `stage`, `seconds` of wall time, `peak_mb`, and when it `ended` (seconds since the epoch)."""
    rows = []
    for folder in folders:
        for path in sorted(folder.rglob("*.tsv")):
            table = pd.read_csv(path, sep="\t", na_values="-")
            stage = path.relative_to(folder).parts[0].removesuffix(".tsv")
            rows.append((stage, table["s"].sum(), table["max_rss"].max(), path.stat().st_mtime))
    return pd.DataFrame(rows, columns=["stage", "seconds", "peak_mb", "ended"])


def by_stage(jobs: pd.DataFrame) -> pd.DataFrame:
    """A row a stage, in their order: number of `jobs`, their `seconds` together, and the largest `peak_mb`."""
    found = jobs.groupby("stage").agg(jobs=("stage", "size"), seconds=("seconds", "sum"), peak_mb=("peak_mb", "max"))
    return found.reindex([stage for stage in STAGES if stage in found.index]).reset_index()


def run_summary(jobs: pd.DataFrame, *, since: float) -> str:
    """What a run that began at `since` (seconds since the epoch) computed and what it found done, a line a stage."""
    lines = [f"{'stage':<20}{'computed':>10}{'reused':>10}{'time':>12}"]
    for stage in STAGES:
        of_stage = jobs[jobs["stage"] == stage]
        if len(of_stage):
            new = of_stage[of_stage["ended"] >= since]
            spent = f"{new['seconds'].sum():.0f} s" if len(new) else "-"
            lines.append(f"{stage:<20}{len(new):>10}{len(of_stage) - len(new):>10}{spent:>12}")
    return "\n".join(lines)


def judged(results: Path, studies: Iterable[str], *, since: float) -> list[str]:
    """The verdicts that a run which began at `since` reached, a line each, and where its report lies."""
    lines = []
    for study in studies:
        path = results / study / "verdict.json"
        if path.is_file() and path.stat().st_mtime >= since:
            found = json.loads(path.read_text())
            lines.append(f"{study}: {found['verdict']} ({found['reason']})")
    report = results / "report" / "index.html"
    if report.is_file() and report.stat().st_mtime >= since:
        lines.append(f"report: {report.as_posix()}")
    return lines
