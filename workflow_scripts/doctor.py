"""Check everything that the studies need before they run, and print a table. Fails if a study would fail."""

import sys

from reprise.workflow.examination import examine, show
from reprise.workflow.job import log, start

settings = start(snakemake)
findings, problems = examine(settings["config"], settings["source"])
show(findings, problems)
log.info("%d problems", len(problems))
if problems:
    sys.exit(1)
