"""How often is a verdict right? The runs of `snakemake calibration`, a few at a time, as they are counted.

A calibration takes hours. This one goes on where it stopped: runs that are in `calibration_runs.json` are not made
again, and what a run leaves is removed once it is counted. Delete the file to begin anew, after a change that may
change a verdict.

`seconds` in a record is the wall time of its run.
"""

import json
import shutil
import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import yaml

from benchmarks.workflow import ROOT, run_snakemake
from reprise.config.horizons import horizon_name
from reprise.storage.files import read_records
from reprise.verdict.calibration import calibration_settings, run_names
from reprise.verdict.calibration_runs import run_record
from reprise.verdict.evidence import is_evidence

SETTINGS = ROOT / "config" / "calibration.yaml"


def run(known: Sequence[dict[str, Any]]) -> Iterator[list[dict[str, Any]]]:
    """Make the runs that are not in `known`, the first of every organism first, and yield all records after each."""
    shipped = yaml.safe_load(SETTINGS.read_text())
    asked = calibration_settings(shipped, None, source=str(SETTINGS))
    records = {(record["organism"], record["run"]): record for record in known}
    names = sorted(run_names(asked), key=lambda name: int(name.rpartition("-")[2]))
    long = horizon_name(*list(asked["study"]["horizons"].values())[-1])
    with tempfile.TemporaryDirectory() as temporary:
        directory = Path(temporary)
        # Organisms that are not shipped are trained once.
        trained = ROOT / "results" / "organisms"
        trained.mkdir(parents=True, exist_ok=True)
        (directory / "results").mkdir()
        for needed in ("resources", "config", "results/organisms"):
            (directory / needed).symlink_to(ROOT / needed)
        for name in names:
            organism, _, number = name.removeprefix("calibration/").rpartition("-")
            if (organism, int(number)) in records:
                continue
            began, folder = time.monotonic(), directory / "results" / name
            targets = [f"results/{name}/{wanted}.json" for wanted in ("verdict", "plain_methods")]
            run_snakemake(directory, ROOT / "config" / "config.yaml", *targets)
            verdict, plain = (json.loads((directory / target).read_text()) for target in targets)
            probes = read_records(sorted((folder / "probes" / long).glob("*.json")))
            aurocs = probes.loc[is_evidence(probes["representation"]), "auroc_R"]
            record = run_record(verdict, plain, aurocs) | {"seconds": round(time.monotonic() - began)}
            records[organism, int(number)] = record
            for done in (folder, directory / "results" / "corpora"):
                shutil.rmtree(done)
            yield [records[key] for key in sorted(records)]
