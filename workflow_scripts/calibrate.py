"""Count what each method answers in all calibration runs of each organism, and save the numbers of each run."""

import json
import math
from pathlib import Path

import pandas as pd

from reprise.organisms.truth import GROUND_TRUTH
from reprise.storage.files import read_records, write_json
from reprise.verdict.calibration import parse_run
from reprise.verdict.confusion import confusion, shares
from reprise.verdict.evidence import is_evidence
from reprise.verdict.methods import PLAIN_EDITS, answers
from reprise.workflow.job import log, start

start(snakemake)
probes = read_records(snakemake.input.probes)
probes = probes[is_evidence(probes["representation"])]
truth = {name: known["verdict"] for name, known in GROUND_TRUTH.items()}
rows = []
for path, plain_path in zip(snakemake.input.verdicts, snakemake.input.plain, strict=True):
    record, plain = (json.loads(Path(p).read_text()) for p in (path, plain_path))
    aurocs = probes.loc[probes["study"] == record["study"], "auroc_R"]
    organism, run = parse_run(record["study"])
    row = {"organism": organism, "run": run, "truth": truth[organism], "verdict": record["verdict"]}
    for gate in record["gates"]:
        row |= {f"{gate['name']}_{part}": gate[part] for part in ("value", "low", "high", "outcome")}
    effects = {name: plain.get(name, {}).get("effect") for name in PLAIN_EDITS}
    effects = {name: math.nan if effect is None else effect for name, effect in effects.items()}
    row["answers"] = answers(
        record, aurocs.dropna().tolist(), effects, kinds=record["declared"]["candidates"]["kinds"]
    )
    rows.append(row | {"reason": record["reason"], "plain": plain})
counts = confusion(pd.DataFrame(rows))
methods = {
    method: confusion(pd.DataFrame([row | {"verdict": row["answers"][method]} for row in rows]))
    for method in rows[0]["answers"]
}
log.info("\n%s", shares(counts, truth).to_string(index=False))
for path, value in (
    (snakemake.output.counts, counts),
    (snakemake.output.methods, methods),
    (snakemake.output.runs, rows),
    # The committed copies. They are not outputs of the rule, or every fresh checkout would run the calibration.
    ("benchmarks/calibration.json", counts),
    ("benchmarks/calibration_methods.json", methods),
    ("benchmarks/calibration_runs.json", rows),
):
    write_json(Path(path), value)
