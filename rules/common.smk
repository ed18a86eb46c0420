# Helpers that build paths and settings. They have no side effects, because the Snakefile is parsed again for every job
# and dry run.

import hashlib
import re
import sys
from functools import cache
from importlib.util import find_spec
from pathlib import Path

import yaml

# The project's folder. If another workflow uses this one as a module, `workflow.basedir` is that workflow's folder.
BASE = Path(workflow.current_basedir.get_path_or_uri(secret_free=True)).parent
# The prefix that such a workflow puts before every path of a rule (`prefix`).
PREFIX = workflow.modifier.path_modifier.prefix or ""
sys.path.insert(0, str(BASE))

from snakemake.exceptions import WorkflowError
from snakemake.settings.types import DeploymentMethod
from snakemake_interface_executor_plugins.settings import ExecMode

from reprise.verdict.calibration import (
    calibration_settings,
    draw,
    run_names,
    run_settings,
)
from reprise.config.clips import assign_batches, clips_table, count_clips, study_tracks
from reprise.config.horizons import horizon_name, parse_horizon_name
from reprise.config.prompts import read_prompts
from reprise.config.renamed import with_new_names
from reprise.config.reading import check_command_line, read_yaml, told_by
from reprise.config.validation import validate
from reprise.config.errors import ConfigError
from reprise.config.corpora import corpus_name
from reprise.checkpoints.hub import model_folder, model_place, sae_folder, sae_place
from reprise.workflow.provenance import code_digest, fingerprint
from reprise.workflow.resources import EDIT_THREADS, MAP_CLIPS, job_needs
from reprise.review.files import read_reviews
from reprise.probing.representations import (
    of_probe,
    probe_names,
    probe_pattern,
    reads_random_weights,
    sources_of,
    versions,
)
from reprise.probing.representations import find as find_representation
from reprise.saes.formats.registry import format_versions, sae_files
from reprise.checkpoints.weights import needed_files
from reprise.models.families.registry import family_identity, family_of
from reprise.targets.registry import code_of, target_of
from reprise.targets.target import compared_with


def refused(error):
    """A ConfigError as Snakemake's own error, which it shows without a traceback."""
    return WorkflowError(f"the configuration has problems, nothing was run:\n{error}")


try:
    # Snakemake has already read these files, but silently takes the last of two equal keys.
    check_command_line(sys.argv[1:])
    SOURCE = (
        told_by(
            {str(path): read_yaml(path) for path in workflow.configfiles},
            workflow.config_settings.config,
        )
        if workflow.modifier.is_main_snakefile()
        # A module gets a part of another workflow's configuration.
        else told_by({"the module's config": config}, {})
    )
except ConfigError as error:
    raise refused(error) from None

with open(workflow.source_path("../config/calibration.yaml")) as _file:
    _shipped = yaml.safe_load(_file)
try:
    CALIBRATION = calibration_settings(
        _shipped, config.get("calibration"), source=SOURCE(("calibration",))
    )
except ConfigError as error:
    raise refused(error) from None
CALIBRATION_RUN = r"calibration/[a-z_]+-\d+"
CALIBRATION_RUNS = run_names(CALIBRATION)


class Studies(dict):
    """The configuration's studies by name.

    The runs of a calibration are not listed, but found by name: there are many of them, and the Snakefile is parsed
    again for every job.
    """

    def __missing__(self, name):
        return calibration_study(name)


@cache
def calibration_study(name):
    fields = run_settings(CALIBRATION, name)
    raw = {"studies": {name.rpartition("/")[2]: fields}}
    (study,) = validate(
        raw, source="config/calibration.yaml", check_files=False
    ).studies.values()
    return study


@cache
def prompts(study):
    """The prompts of a study. A calibration run draws some of them."""
    listed = read_prompts(STUDIES[study].prompts)
    return (
        draw(listed, CALIBRATION["prompts_per_run"], study)
        if study in CALIBRATION_RUNS
        else listed
    )


@cache
def tracks(study):
    """The recordings of a study, by batch. Only the job that reads a recording knows how many clips it gives."""
    listed = study_tracks(STUDIES[study])
    batch = assign_batches(
        [track.track_id for track in listed], STUDIES[study].generation.n_batches
    )
    by_batch = {name: [] for name in sorted(set(batch.values()))}
    for track in listed:
        by_batch[batch[track.track_id]].append(track)
    return by_batch


@cache
def clips(study):
    """All clips of a study whose clips come from prompts."""
    study_config = STUDIES[study]
    return clips_table(
        prompts(study),
        seeds=study_config.seeds,
        n_batches=study_config.generation.n_batches,
        duration_s=study_config.generation.duration_s,
    )


# The doctor reports missing files, so the Snakefile must also parse if files are missing. Snakemake itself learns the
# target only later, so it is read from the command line.
_CHECK_FILES = "doctor" not in sys.argv


def batches(study):
    if STUDIES[study].source != "prompts":
        return list(tracks(study))
    return sorted({clip.batch for clip in clips(study)})


# Shown once, by the run itself and not by each of its jobs.
if workflow.exec_mode == ExecMode.DEFAULT:
    for _warning in with_new_names(config)[1]:
        logger.warning(f"{_warning}.")

try:
    try:
        STUDIES = Studies(
            validate(config, source=SOURCE, check_files=_CHECK_FILES).studies
        )
    except ConfigError:
        # If fields are wrong, the doctor cannot check more than fields and files.
        validate(config, source=SOURCE)
        raise
    for _study in STUDIES if _CHECK_FILES else ():
        batches(_study)
        read_reviews(STUDIES[_study].review.files, study=_study)
except ConfigError as error:
    raise refused(error) from None


_training = [study for study in STUDIES if STUDIES[study].trained_layers]
_own_environments = (
    DeploymentMethod.CONDA in workflow.deployment_settings.deployment_method
)
if (
    _CHECK_FILES
    and _training
    and not _own_environments
    and find_spec("sae_lens") is None
):
    raise WorkflowError(
        f"studies.{_training[0]}.saes: an SAE is to be trained, but SAELens, which trains it, is not installed; "
        "nothing was run. Install it with: pip install '.[train]' -c envs/constraints.txt"
    )
for _study in STUDIES if _CHECK_FILES and not _own_environments else ():
    _backend = STUDIES[_study].model.backend
    if find_spec(family_of(_backend).library) is None:
        raise WorkflowError(
            f"studies.{_study}.model.backend: got {_backend}, which is not installed; nothing was run. "
            "Valid: the backend that is installed. To install this one: make install"
        )


def corpus(study):
    """The name of a study's corpus. It depends only on the settings of its clips, so that studies can share a corpus.

    A run of a calibration has its own corpus, because such studies are found by name only.
    """
    return study if study in CALIBRATION_RUNS else corpus_name(STUDIES[study])


# The studies of a corpus share all settings that make its clips, so any of them can stand for the corpus.
CORPORA = {}
for _study in STUDIES:
    CORPORA.setdefault(corpus(_study), []).append(_study)


def studies_of(corpus):
    """The studies that share a corpus."""
    return CORPORA.get(corpus, [corpus])


def study_of(wildcards):
    """The study of a job, or the first of the studies that share its output."""
    return wildcards.get("study") or studies_of(wildcards.corpus)[0]


def study_config(wildcards):
    """The configuration of that study."""
    return STUDIES[study_of(wildcards)]


wildcard_constraints:
    study="|".join([*STUDIES, CALIBRATION_RUN]),
    corpus="|".join([*map(re.escape, CORPORA), CALIBRATION_RUN]),
    batch=r"b\d+",
    hook=r"embedding|(random-)?layer\d+",
    layer=r"\d+",
    seed=r"\d+",
    horizon=r"h[0-9.]+-[0-9.]+",


def of_source(*sources):
    """Pattern of the corpora whose clips come from one of these sources. Those of a calibration come from prompts."""
    names = [
        re.escape(corpus)
        for corpus, studies in CORPORA.items()
        if STUDIES[studies[0]].source in sources
    ]
    return "|".join(names + [CALIBRATION_RUN] * ("prompts" in sources) or ["(?!)"])


def say_what_was_done():
    """Log one line per stage when a run ends: what it computed, what was already done, how long it took."""
    from reprise.workflow.stages import judged, read_jobs, run_summary

    names = list(dict.fromkeys([f"corpora/{corpus(s)}" for s in STUDIES] + [*STUDIES]))
    jobs = read_jobs([Path("results/benchmarks", name) for name in names])
    if (jobs["ended"] >= _began).any():
        logger.info(run_summary(jobs, since=_began))
    for line in judged(Path("results"), STUDIES, since=_began):
        logger.info(line)
