# Helpers that build paths and settings. Nothing here has side effects: the Snakefile is parsed again for every
# job and dry run.

import hashlib
import re
import sys
from functools import cache
from importlib.util import find_spec

import yaml

sys.path.insert(0, workflow.basedir)

from snakemake.exceptions import WorkflowError
from snakemake.settings.types import DeploymentMethod

from reprise.calibration import (
    calibration_settings,
    draw,
    run_names,
    run_settings,
)
from reprise.config import (
    assign_batches,
    clips_table,
    count_clips,
    horizon_name,
    parse_horizon_name,
    read_prompts,
    read_yaml,
    study_tracks,
    validate,
)
from reprise.config_error import ConfigError
from reprise.corpora import corpus_name
from reprise.hub import MODEL_FILES, model_folder, model_place, sae_place
from reprise.provenance import code_digest, fingerprint
from reprise.resources import job_needs
from reprise.review_files import read_reviews
from reprise.sae_forms import SAE_FORMS, SCALER_FILE, sae_form
from reprise.variants import read_facts
from reprise.weights import needed_files

CONFIG_SOURCE = ", ".join(map(str, workflow.configfiles)) or "config"


def refused(error):
    """What Snakemake shows of a ConfigError."""
    return WorkflowError(f"the configuration has problems, nothing was run:\n{error}")


with open(workflow.source_path("../config/calibration.yaml")) as _file:
    _shipped = yaml.safe_load(_file)
try:
    CALIBRATION = calibration_settings(
        _shipped, config.get("calibration"), source=CONFIG_SOURCE
    )
except ConfigError as error:
    raise refused(error) from None
CALIBRATION_RUN = r"calibration/[a-z]+-\d+"
CALIBRATION_RUNS = run_names(CALIBRATION["organisms"], CALIBRATION["runs"])


class Studies(dict):
    """The configuration's studies by name. A calibration's runs are not listed among them, but found by name: they
    are many, and the Snakefile is parsed again for every job."""

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
    """The prompts of a study; a calibration run draws its own."""
    listed = read_prompts(STUDIES[study].prompts)
    return (
        draw(listed, CALIBRATION["prompts_per_run"], study)
        if study in CALIBRATION_RUNS
        else listed
    )


@cache
def tracks(study):
    """The recordings of a study, by batch. How many clips one gives is known only to the job that reads it."""
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
    """Every clip of a study that plays prompts."""
    asked = STUDIES[study]
    return clips_table(
        prompts(study),
        seeds=asked.seeds,
        n_batches=asked.generation.n_batches,
        duration_s=asked.generation.duration_s,
    )


# The doctor says what is missing, so the Snakefile must be read although something is; what is asked for Snakemake
# itself learns only afterwards.
_CHECK_FILES = "doctor" not in sys.argv


def batches(study):
    if STUDIES[study].source != "prompts":
        return list(tracks(study))
    return sorted({clip.batch for clip in clips(study)})


try:
    for _file in workflow.configfiles:
        # Snakemake has read them already, but takes the last of two equal keys without a word.
        read_yaml(_file)
    try:
        STUDIES = Studies(
            validate(config, source=CONFIG_SOURCE, check_files=_CHECK_FILES).studies
        )
    except ConfigError:
        # Where fields are wrong even the doctor can say no more than what is wrong with fields and files.
        validate(config, source=CONFIG_SOURCE)
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
        f"studies.{_training[0]}.saes: asks for an SAE to be trained, and SAELens, which trains it, is not installed; "
        "nothing was run. Install it with: pip install -r envs/requirements-train.txt -c envs/constraints.txt"
    )


def corpus(study):
    """The name of a study's corpus: by what it is asked for, so that studies share. A run of a calibration has one of
    its own, since such studies are found by name only."""
    return study if study in CALIBRATION_RUNS else corpus_name(STUDIES[study])


# A corpus is asked of any of its studies: whatever makes its clips, they have in common.
CORPORA = {}
for _study in STUDIES:
    CORPORA.setdefault(corpus(_study), []).append(_study)


def studies_of(corpus):
    """The studies that share a corpus."""
    return CORPORA.get(corpus, [corpus])


def asked(wildcards):
    """What the study asks for that a job works for, or any of those that share what it makes."""
    return STUDIES[wildcards.get("study") or studies_of(wildcards.corpus)[0]]


wildcard_constraints:
    study="|".join([*STUDIES, CALIBRATION_RUN]),
    corpus="|".join([*map(re.escape, CORPORA), CALIBRATION_RUN]),
    batch=r"b\d+",
    hook=r"embedding|(random-)?layer\d+",
    layer=r"\d+",
    horizon=r"h[0-9.]+-[0-9.]+",


def settings(script, *groups, **extra):
    """A rule's `params.settings`: the leaf settings of `groups` (study fields), `extra` (values, or functions of the
    wildcards), and the digest of the code the script uses, as one dict of plain builtins. What studies share says
    nothing of which study asked for it."""
    code = code_digest(f"workflow_scripts/{script}.py")

    def of(wildcards):
        fields = asked(wildcards).model_dump(mode="json")
        # Where a model runs never changes what it computes.
        fields["model"].pop("device")
        made = {
            key: value(wildcards) if callable(value) else value
            for key, value in extra.items()
        }
        return {
            **({"study": wildcards.study} if "study" in wildcards.keys() else {}),
            **{group: fields[group] for group in groups},
            **made,
            "code": code,
        }

    return of


def of_source(*sources):
    """Pattern of the corpora whose clips come from one of these sources; those of a calibration play prompts."""
    names = [
        re.escape(corpus)
        for corpus, studies in CORPORA.items()
        if STUDIES[studies[0]].source in sources
    ]
    return "|".join(names + [CALIBRATION_RUN] * ("prompts" in sources) or ["(?!)"])


def template_digest(name):
    """Digest of a page's template and of the files that it includes, all in reprise/."""
    text = Path(workflow.basedir, "reprise", name).read_text(encoding="utf-8")
    included = re.findall(r"{% include '([^']+)' %}", text)
    parts = [text, *map(template_digest, included)]
    return hashlib.sha256("\0".join(parts).encode()).hexdigest()[:12]


def fingerprints(files):
    """What large files hold, by name."""
    return {file.name: fingerprint(file) for file in files}


def organism_card(folder):
    """The card of an organism: beside it where it is shipped, or what its training ends with."""
    parts = Path(folder).parts
    if parts[:3] == ("results", "organisms", "resources"):
        return f"results/organisms/resources/{parts[3]}.card.json"
    return f"{folder}/card.json"


def sae_of(study, layer):
    """Where the SAE of a layer lies: the directory that the study names, or the one it is trained into."""
    if layer in STUDIES[study].trained_layers:
        return f"results/{study}/saes/layer{layer}"
    return STUDIES[study].saes[layer]


def horizons(study):
    return [horizon_name(a, b) for a, b in STUDIES[study].horizons.values()]


def hooks(study):
    """Everything that is dumped: the input embedding and the layers with an SAE."""
    return ["embedding", *(f"layer{layer}" for layer in STUDIES[study].layers)]


def random_hooks(study):
    """What is dumped of the model with random weights, where it is probed."""
    probed = "random_model" in STUDIES[study].probes.representations
    return [f"random-layer{layer}" for layer in STUDIES[study].layers] if probed else []


def folder_of(kind, study):
    """Where one kind of store lies: with the corpus, or with the study."""
    shared = kind in ("tokens", "audio", "openings", "activations")
    return (
        f"results/corpora/{corpus(study)}/{kind}"
        if shared
        else f"results/{study}/{kind}"
    )


def store(kind, study, batch, hook=None):
    """Manifest of one batch of one kind of store."""
    return "/".join(
        [folder_of(kind, study), *([hook] if hook else []), f"{batch}.manifest.json"]
    )


def stores(kind, study, hook=None):
    """Manifests of all batches of one kind of store."""
    return [store(kind, study, batch, hook) for batch in batches(study)]


def model_record(study):
    """What was found out about the model of a study."""
    return f"results/corpora/{corpus(study)}/model.json"


def store_folders(study):
    """The stores themselves. Consumers take the manifests; asking for the folders too notices one that was deleted."""
    kinds = ["tokens", "audio", "descriptors"]
    kinds += ["openings"] if STUDIES[study].source == "continuation" else []
    manifests = [manifest for kind in kinds for manifest in stores(kind, study)]
    for hook in hooks(study) + random_hooks(study):
        manifests += stores("activations", study, hook)
    for layer in STUDIES[study].layers:
        manifests += stores("codes", study, f"layer{layer}")
    trained = [sae_of(study, layer) for layer in STUDIES[study].trained_layers]
    return trained + [path.removesuffix(".manifest.json") for path in manifests]


def certificate(study, layer):
    return f"results/{study}/certificates/layer{layer}.json"


def labels_table(study, horizon):
    return f"results/{study}/labels/{horizon}.parquet"


def events_tables(study):
    return [f"results/{study}/events/{batch}.parquet" for batch in batches(study)]


def reviews_table(study):
    """The reviews that overrule a study's events; none where the configuration names no review file."""
    return [f"results/{study}/reviews.parquet"] if STUDIES[study].review.files else []


def reviews_summary(study):
    return [f"results/{study}/reviews.json"] if STUDIES[study].review.files else []


def reviewed_only(wildcards):
    return STUDIES[wildcards.study].labels.reviewed_only


def heard_tables(study):
    """What became of each clip: where its motif ended, or why it has no events."""
    return [f"results/{study}/events/{batch}.clips.parquet" for batch in batches(study)]


def probe_results(study):
    """Results of every probe of a study: representation x layer (the embedding once) x horizon."""
    study_settings = STUDIES[study]
    names = []
    for representation in study_settings.probes.representations:
        if representation == "embedding":
            names.append("embedding")
        else:
            names += [
                f"{representation}-layer{layer}" for layer in study_settings.layers
            ]
    return [
        f"results/{study}/probes/{horizon}/{name}.json"
        for horizon in horizons(study)
        for name in names
    ]


@cache
def model_facts(name, backend):
    """What a model's files say of its size; nothing where they are not there (yet)."""
    try:
        return read_facts(model_folder(name, backend=backend), backend=backend)
    except (OSError, ValueError):
        return {}


def takes(stage, wildcards):
    """What a job of a stage takes (`reprise/resources.py`)."""
    study = asked(wildcards)
    name = wildcards.get("study") or studies_of(wildcards.corpus)[0]
    units = (
        prompts(name) if study.source == "prompts" else sum(tracks(name).values(), [])
    )
    return job_needs(
        stage,
        study,
        model_facts(study.model.name, study.model.backend),
        n_clips=count_clips(study, len(units))[0],
        on_gpu=gpu(wildcards) > 0,
    )


def mem_mb(stage):
    """A rule's `mem_mb`: what a job of the stage takes, and more of it at each further attempt."""
    return lambda wildcards, attempt: attempt * takes(stage, wildcards).mem_mb


def runtime(stage):
    """A rule's `runtime` in minutes, in the same way."""
    return lambda wildcards, attempt: attempt * takes(stage, wildcards).minutes


def gpu(wildcards):
    """A rule's `gpu`: how many its job takes. `auto` means what this machine has."""
    wanted = device(wildcards)
    return int(
        wanted == "cuda" or (wanted == "auto" and Path("/dev/nvidiactl").exists())
    )


def device(wildcards):
    return asked(wildcards).model.device
