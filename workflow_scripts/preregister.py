"""Write down what the study declares, beside what it declared before."""

import json
from pathlib import Path

from reprise.job import log, start
from reprise.preregistration import Thresholds, declare, preregistration, summary
from reprise.stores import write_json

settings = start(snakemake)
output = Path(snakemake.output[0])
# Snakemake removes an output before its rule runs again; what was declared earlier is kept beside it.
kept = output.with_name("preregistrations")
history = [json.loads(path.read_text()) for path in sorted(kept.glob("*.json"))]
declared = preregistration(Thresholds(**settings["verdict"], alpha=settings["probes"]["alpha"]), settings["declared"])
made = {"effects": "*.parquet", "probes": "*/*.json"}
known = next((kind for kind, files in made.items() if any(output.with_name(kind).glob(files))), "nothing")
history = declare(history, declared, known=known)
for number, entry in enumerate(history):
    file = kept / f"{number:03d}.json"
    if not file.exists():
        write_json(file, entry)
        log.info("declared %s; known: %s; changed: %s", entry["digest"], entry["known"], ", ".join(entry["changed"]))
write_json(output, {**declared, "declarations": summary(history)})
