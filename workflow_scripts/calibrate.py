"""Count what each method answers in all calibration runs of each organism, and save the numbers of each run."""

import json
from pathlib import Path

from reprise.organisms.truth import GROUND_TRUTH
from reprise.storage.files import read_records, write_json
from reprise.verdict.calibration_runs import counted, run_record
from reprise.verdict.confusion import shares
from reprise.verdict.evidence import is_evidence
from reprise.workflow.job import log, start

start(snakemake)
probes = read_records(snakemake.input.probes)
probes = probes[is_evidence(probes["representation"])]
records = []
for path, plain_path in zip(snakemake.input.verdicts, snakemake.input.plain, strict=True):
    verdict, plain = (json.loads(Path(p).read_text()) for p in (path, plain_path))
    records.append(run_record(verdict, plain, probes.loc[probes["study"] == verdict["study"], "auroc_R"]))
counts, methods = counted(records)
truth = {name: known["verdict"] for name, known in GROUND_TRUTH.items()}
log.info("\n%s", shares(counts, truth).to_string(index=False))
for path, value in (
    (snakemake.output.counts, counts),
    (snakemake.output.methods, methods),
    (snakemake.output.runs, records),
    # The committed copies. They are not outputs of the rule, or every fresh checkout would run the calibration.
    ("benchmarks/calibration.json", counts),
    ("benchmarks/calibration_methods.json", methods),
    ("benchmarks/calibration_runs.json", records),
):
    write_json(Path(path), value)
