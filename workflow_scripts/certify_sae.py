"""Compare the measurement of an SAE with the study's thresholds, and write its certificate."""

import json
from pathlib import Path

from reprise.saes.certificate import judge
from reprise.saes.measurement import from_plain
from reprise.storage.files import write_json
from reprise.workflow.job import log, start

settings = start(snakemake)
measurement = from_plain(json.loads(Path(snakemake.input.measurement).read_text()))
record = judge(measurement, settings["certificate"])
log.info("certificate %s: %s", "passed" if record["passed"] else "refused", record["reason"])
write_json(Path(snakemake.output[0]), record)
