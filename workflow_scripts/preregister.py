"""Save what the study declares, together with its earlier declarations."""

import json
from pathlib import Path

from reprise.storage.files import write_json
from reprise.verdict.preregistration import Thresholds, declare, known_results, preregistration, summary
from reprise.workflow.job import log, start

settings = start(snakemake)
output = Path(snakemake.output[0])
study = output.parent
# Snakemake removes an output before its rule runs again. So earlier declarations are kept in a folder next to it.
kept = study / "preregistrations"
history = [json.loads(path.read_text()) for path in sorted(kept.glob("*.json"))]
declared = preregistration(Thresholds(**settings["verdict"], alpha=settings["probes"]["alpha"]), settings["declared"])
if output.name == "preregistration.json" or not history:
    results = study.parents[len(Path(settings["study"]).parts) - 1]
    known = known_results(study, results / "benchmarks" / settings["study"])
    history = declare(history, declared, known=known)
for number, entry in enumerate(history):
    file = kept / f"{number:03d}.json"
    if not file.exists():
        write_json(file, entry)
        log.info("declared %s; known: %s; changed: %s", entry["digest"], entry["known"], ", ".join(entry["changed"]))
if output.name == "preregistration.json":
    write_json(output, {**declared, "declarations": summary(history)})
else:
    # The results depend on the first declaration, even if the current one differs.
    write_json(output, history[0])
