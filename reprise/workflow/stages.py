"""The time and memory of the jobs of each stage.

They come from the benchmark files that Snakemake writes to `results/benchmarks/<study>/` and
`results/benchmarks/corpora/<corpus>/`.

Degenerate input: without benchmark files the tables are empty.
"""

import json
from collections.abc import Iterable, Sequence
from pathlib import Path

import pandas as pd

# In the order in which they run.
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
    "das",
    "candidates",
    "ablate",
    "effects",
    "heads",
    "deciding_heads",
    "map",
    "power",
)


def read_jobs(folders: Sequence[Path]) -> pd.DataFrame:
    """One row per job: `stage`, `seconds` of wall time, `peak_mb`, and when it `ended` (seconds since the epoch)."""
    rows = []
    for folder in folders:
        for path in sorted(folder.rglob("*.tsv")):
            table = pd.read_csv(path, sep="\t", na_values="-")
            stage = path.relative_to(folder).parts[0].removesuffix(".tsv")
            rows.append((stage, table["s"].sum(), table["max_rss"].max(), path.stat().st_mtime))
    return pd.DataFrame(rows, columns=["stage", "seconds", "peak_mb", "ended"])


def by_stage(jobs: pd.DataFrame) -> pd.DataFrame:
    """One row per stage, in their order: number of `jobs`, their total `seconds`, and the largest `peak_mb`."""
    found = jobs.groupby("stage").agg(jobs=("stage", "size"), seconds=("seconds", "sum"), peak_mb=("peak_mb", "max"))
    return found.reindex([stage for stage in STAGES if stage in found.index]).reset_index()


def run_summary(jobs: pd.DataFrame, *, since: float) -> str:
    """How many jobs a run that began at `since` (seconds since the epoch) computed and reused, one line per stage."""
    lines = [f"{'stage':<20}{'computed':>10}{'reused':>10}{'time':>12}"]
    for stage in STAGES:
        of_stage = jobs[jobs["stage"] == stage]
        if len(of_stage):
            new = of_stage[of_stage["ended"] >= since]
            spent = f"{new['seconds'].sum():.0f} s" if len(new) else "-"
            lines.append(f"{stage:<20}{len(new):>10}{len(of_stage) - len(new):>10}{spent:>12}")
    return "\n".join(lines)


def judged(results: Path, studies: Iterable[str], *, since: float) -> list[str]:
    """The verdicts and the report of a run, as lines of text.

    Parameters
    ----------
    results
        The results folder.
    studies
        Names of the studies.
    since
        When the run began, in seconds since the epoch.

    Returns
    -------
    list of str
        One line for each verdict that the run reached, and one with the report's path if the run wrote it.
    """
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
