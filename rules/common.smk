# Helpers that build paths and settings. Nothing here has side effects: the Snakefile is parsed again for every
# job and dry run.

import hashlib
import re
import sys

sys.path.insert(0, workflow.basedir)

from snakemake.exceptions import WorkflowError

from reprise.config import (
    ConfigError,
    clips_table,
    horizon_name,
    parse_horizon_name,
    read_prompts,
    read_yaml,
    validate,
)
from reprise.provenance import code_digest

try:
    for _file in workflow.configfiles:
        # Snakemake has read them already, but takes the last of two equal keys without a word.
        read_yaml(_file)
    STUDIES = validate(
        config, source=", ".join(map(str, workflow.configfiles)) or "config"
    ).studies
    PROMPTS = {name: read_prompts(study.prompts) for name, study in STUDIES.items()}
    CLIPS = {
        name: clips_table(
            PROMPTS[name],
            seeds=study.seeds,
            n_batches=study.generation.n_batches,
            duration_s=study.generation.duration_s,
        )
        for name, study in STUDIES.items()
    }
except ConfigError as error:
    raise WorkflowError(
        f"the configuration has problems, nothing was run:\n{error}"
    ) from None


wildcard_constraints:
    study="|".join(STUDIES),
    batch=r"b\d+",
    hook=r"embedding|layer\d+",
    layer=r"\d+",
    horizon=r"h[0-9.]+-[0-9.]+",


def settings(script, *groups, study=None, **extra):
    """A rule's `params.settings`: the leaf settings of `groups` (study fields), `extra` (values, or functions of the
    wildcards), and the digest of the code the script uses, as one dict of plain builtins. `study`: for a rule that
    has no such wildcard."""
    code = code_digest(f"workflow_scripts/{script}.py")

    def of(wildcards):
        name = study or wildcards.study
        fields = STUDIES[name].model_dump(mode="json")
        # Where a model runs never changes what it computes.
        fields["model"].pop("device")
        made = {
            key: value(wildcards) if callable(value) else value
            for key, value in extra.items()
        }
        return {
            "study": name,
            **{group: fields[group] for group in groups},
            **made,
            "code": code,
        }

    return of


def template_digest(name):
    """Digest of a page's template and of the files that it includes, all in reprise/."""
    text = Path(workflow.basedir, "reprise", name).read_text(encoding="utf-8")
    included = re.findall(r"{% include '([^']+)' %}", text)
    parts = [text, *map(template_digest, included)]
    return hashlib.sha256("\0".join(parts).encode()).hexdigest()[:12]


def batches(study):
    return sorted({clip.batch for clip in CLIPS[study]})


def horizons(study):
    return [horizon_name(a, b) for a, b in STUDIES[study].horizons.values()]


def hooks(study):
    """Everything that is dumped: the input embedding and the layers with an SAE."""
    return ["embedding", *(f"layer{layer}" for layer in STUDIES[study].layers)]


def stores(kind, study, hook=None):
    """Manifests of all batches of one kind of store."""
    folder = f"results/{study}/{kind}" + (f"/{hook}" if hook else "")
    return [f"{folder}/{batch}.manifest.json" for batch in batches(study)]


def store_folders(study):
    """The stores themselves. Consumers take the manifests; asking for the folders too notices one that was deleted."""
    kinds = [
        "tokens",
        "audio",
        "descriptors",
        *(f"activations/{hook}" for hook in hooks(study)),
    ]
    kinds += [f"codes/layer{layer}" for layer in STUDIES[study].layers]
    return [
        f"results/{study}/{kind}/{batch}" for kind in kinds for batch in batches(study)
    ]


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


def device(wildcards):
    return STUDIES[wildcards.study].model.device
