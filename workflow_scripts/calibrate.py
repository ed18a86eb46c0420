"""Count the verdicts of all calibration runs for each organism, and save the numbers of each run."""

import json
from pathlib import Path

import pandas as pd

from reprise.organisms.truth import GROUND_TRUTH
from reprise.storage.files import write_json
from reprise.verdict.calibration import parse_run
from reprise.verdict.confusion import confusion, shares
from reprise.workflow.job import log, start

start(snakemake)
truth = {name: known["verdict"] for name, known in GROUND_TRUTH.items()}
rows = []
for path in snakemake.input.verdicts:
    record = json.loads(Path(path).read_text())
    organism, run = parse_run(record["study"])
    row = {"organism": organism, "run": run, "truth": truth[organism], "verdict": record["verdict"]}
    for gate in record["gates"]:
        row |= {f"{gate['name']}_{part}": gate[part] for part in ("value", "low", "high", "outcome")}
    rows.append(row | {"reason": record["reason"]})
counts = confusion(pd.DataFrame(rows))
log.info("\n%s", shares(counts, truth).to_string(index=False))
for path, value in (
    (snakemake.output.counts, counts),
    (snakemake.output.runs, rows),
    # The committed copies. They are not outputs of the rule, or every fresh checkout would run the calibration.
    ("benchmarks/calibration.json", counts),
    ("benchmarks/calibration_runs.json", rows),
):
    write_json(Path(path), value)
