"""`doctor`: check everything that the studies of a configuration need, before they run, and show it as one table.

The single checks are in reprise/workflow/doctor.py.
"""

from collections.abc import Mapping, Sequence
from typing import Any

from rich.console import Console
from rich.table import Column, Table

from reprise.config.clips import count_clips, study_tracks
from reprise.config.corpora import corpus_name
from reprise.config.errors import ConfigError
from reprise.config.prompts import read_prompts
from reprise.config.reading import Source
from reprise.config.schema import Study
from reprise.config.validation import validate
from reprise.review.files import read_reviews
from reprise.workflow.doctor import (
    Finding,
    known_digest,
    look_at_ablations,
    look_at_device,
    look_at_disk,
    look_at_model,
    look_at_recordings,
    look_at_sae,
    stores_bytes,
)
from reprise.workflow.job import progress


def examine(raw: Any, source: str | Source) -> tuple[dict[str, list[Finding]], list[str]]:
    """Run all checks.

    Parameters
    ----------
    raw
        A configuration as YAML gives it.
    source
        The file's name for messages, or a function that gives it for a field (see reprise/config/reading.py).

    Returns
    -------
    findings : dict
        The findings by study, and under "all" those that concern all studies.
    problems : list of str
        All problems, one line each.

    Raises
    ------
    ConfigError
        If the values of fields are invalid.
    """
    studies = validate(raw, source=source, check_files=False).studies
    problems = _file_problems(raw, source, studies)
    corpora = {name: corpus_name(study) for name, study in studies.items()}
    findings, needed = {}, {}
    for name, study in studies.items():
        findings[name], needed[name] = _look_at(name, study, corpora[name])
    by_study, disk = look_at_disk(needed, corpora)
    for name, line in zip(studies, by_study, strict=True):
        findings[name].append(line)
    findings["all"] = [disk]
    # Problems that validation also found are already listed, with their field. Add only the others.
    said = "\n".join(problems)
    for name, lines in findings.items():
        for finding in lines:
            problems += [f"{name}: {text}" for text in finding.remedy.splitlines() if text not in said]
    return findings, problems


def show(findings: Mapping[str, Sequence[Finding]], problems: Sequence[str]) -> None:
    """Print the table, and the problems below it."""
    table = Table("study", "", "looked at", Column("found", overflow="fold"))
    for name, lines in findings.items():
        for i, finding in enumerate(lines):
            mark = "[green]ok[/]" if finding.passed else "[red]fails[/]"
            table.add_row("" if i else name, mark, finding.what, finding.found, end_section=i == len(lines) - 1)
    console = Console()
    console.print(table)
    for problem in problems:
        console.print(f"- {problem}", markup=False, highlight=False, soft_wrap=True)
    if not problems:
        console.print("Nothing is missing.")


def _file_problems(raw: Any, source: str | Source, studies: Mapping[str, Study]) -> list[str]:
    problems: list[str] = []
    try:
        validate(raw, source=source)
    except ConfigError as error:
        problems = list(error.problems)
    for name, study in studies.items():
        try:
            read_reviews(study.review.files, study=name)
        except ConfigError as error:
            problems += [problem for problem in error.problems if problem not in problems]
    return problems


def _look_at(name: str, study: Study, corpus: str) -> tuple[list[Finding], dict[str, float]]:
    """The findings of one study, and the bytes of its stores."""
    model, facts = look_at_model(study)
    digest, saes = known_digest(corpus), {}
    for layer in progress(study.sae_layers, total=len(study.sae_layers), what=f"SAEs of {name}"):
        saes[layer] = look_at_sae(study, layer, facts, model_digest=digest)
    try:
        n_units = (
            len(read_prompts(study.prompts))
            if study.source == "prompts"
            else sum(not track.same_as for track in study_tracks(study))
        )
    except ConfigError:
        n_units = 0
    n_clips, product = count_clips(study, n_units)
    g = study.generation
    found = f"{product} = {n_clips} clips of {g.duration_s:g} s"
    found += f" in {g.n_batches} batches; layers {', '.join(map(str, study.hook_layers))}; horizons "
    found += ", ".join(f"{role} {a:g}-{b:g} s" for role, (a, b) in study.horizons.items())
    config = Finding("config", n_clips > 0, found)
    recordings = [look_at_recordings(study)] if study.source != "prompts" and n_units else []
    lines = [config, *recordings, model, *(finding for finding, _ in saes.values()), look_at_device(study, facts)]
    lines.append(look_at_ablations(study, n_clips=n_clips))
    return lines, stores_bytes(study, facts, [sae for _, sae in saes.values()], n_clips=n_clips)
