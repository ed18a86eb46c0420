"""Look at everything that the studies need before they are run, and print it as a table; fails where they would."""

import sys

from rich.console import Console
from rich.table import Column, Table

from reprise.config.clips import count_clips, study_tracks
from reprise.config.corpora import corpus_name
from reprise.config.errors import ConfigError
from reprise.config.prompts import read_prompts
from reprise.config.validation import validate
from reprise.review.files import read_reviews
from reprise.workflow.doctor import (
    Finding,
    known_digest,
    look_at_device,
    look_at_disk,
    look_at_model,
    look_at_recordings,
    look_at_sae,
    stores_bytes,
)
from reprise.workflow.job import log, progress, start

settings = start(snakemake)
given = {"raw": settings["config"], "source": settings["source"]}
# What is wrong with the fields themselves was said when the Snakefile was read.
studies = validate(**given, check_files=False).studies
try:
    validate(**given)
    problems = []
except ConfigError as error:
    problems = list(error.problems)
for name, study in studies.items():
    try:
        read_reviews(study.review.files, study=name)
    except ConfigError as error:
        problems += [problem for problem in error.problems if problem not in problems]

findings: dict[str, list[Finding]] = {}
needed = {}
corpora = {name: corpus_name(study) for name, study in studies.items()}
for name, study in studies.items():
    model, facts = look_at_model(study)
    digest, saes = known_digest(corpora[name]), {}
    for layer in progress(study.layers, total=len(study.layers), what=f"SAEs of {name}"):
        saes[layer] = look_at_sae(study, layer, facts, model_digest=digest)
    try:
        n_units = (
            len(read_prompts(study.prompts))
            if study.source == "prompts"
            else sum(not track.same_as for track in study_tracks(study))
        )
    except ConfigError:
        n_units = 0
    n_clips, told = count_clips(study, n_units)
    g = study.generation
    found = f"{told} = {n_clips} clips of {g.duration_s:g} s"
    found += f" in {g.n_batches} batches; layers {', '.join(map(str, study.layers))}; horizons "
    found += ", ".join(f"{role} {a:g}-{b:g} s" for role, (a, b) in study.horizons.items())
    needed[name] = stores_bytes(study, facts, [sae for _, sae in saes.values()], n_clips=n_clips)
    config = Finding("config", n_clips > 0, found)
    recordings = [look_at_recordings(study)] if study.source != "prompts" and n_units else []
    lines = [config, *recordings, model, *(finding for finding, _ in saes.values())]
    findings[name] = [*lines, look_at_device(study, facts)]
by_study, disk = look_at_disk(needed, corpora)
for name, line in zip(findings, by_study, strict=True):
    findings[name].append(line)
findings["all"] = [disk]

table = Table("study", "", "looked at", Column("found", overflow="fold"))
for name, lines in findings.items():
    for i, finding in enumerate(lines):
        mark = "[green]ok[/]" if finding.passed else "[red]fails[/]"
        table.add_row("" if i else name, mark, finding.what, finding.found, end_section=i == len(lines) - 1)
console = Console()
console.print(table)
# What the configuration's own check finds it says with the field; the rest is found here alone.
said = "\n".join(problems)
for name, lines in findings.items():
    for finding in lines:
        problems += [f"{name}: {text}" for text in finding.remedy.splitlines() if text not in said]
for problem in problems:
    console.print(f"- {problem}", markup=False, highlight=False, soft_wrap=True)
log.info("%d problems", len(problems))
if problems:
    sys.exit(1)
console.print("Nothing is missing.")
