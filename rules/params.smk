# Helpers for the params and resources of rules, without side effects.

import json
from shutil import which

from reprise.config.schema import ReportSettings


def settings(script, *groups, **extra):
    """A rule's `params.settings`: the leaf settings of `groups` (study fields), `extra` (values, or functions of the
    wildcards), and the digest of the code the script uses, as one dict of plain builtins. Settings of outputs that
    studies share do not name the study. `versions` of what other packages add are there only if there are any.
    """

    def of(wildcards):
        fields = study_config(wildcards).model_dump(mode="json")
        # The device of a model never changes a result.
        fields["model"].pop("device")
        # The code of a family from outside this package cannot be followed.
        fields["model"] |= family_identity(fields["model"]["backend"])
        made = {
            key: value(wildcards) if callable(value) else value
            for key, value in extra.items()
        }
        if not made.get("versions"):
            made.pop("versions", None)
        return {
            **({"study": wildcards.study} if "study" in wildcards.keys() else {}),
            **{group: fields[group] for group in groups},
            **made,
            "code": code_digest(f"workflow_scripts/{script}.py"),
        }

    return of


def untracked(settings_of):
    """Settings of a job that never make it stale: Snakemake does not compare params from functions that take more
    arguments than the wildcards."""
    return lambda wildcards, threads: settings_of(wildcards)


def template_digest(name):
    """Digest of a page's template and of the templates that it includes, all in reprise/report/templates/."""
    text = Path(BASE, "reprise/report/templates", name).read_text(encoding="utf-8")
    included = re.findall(r"{% include '([^']+)' %}", text)
    parts = [text, *map(template_digest, included)]
    return hashlib.sha256("\0".join(parts).encode()).hexdigest()[:12]


def fingerprints(files):
    """Fingerprints of large files, by name."""
    return {file.name: fingerprint(file) for file in files}


def direction_files(study):
    """Fingerprints of the directions that a study names, tensors and descriptions."""
    named = map(Path, STUDIES[study].candidates.directions)
    return fingerprints(
        file.with_suffix(end) for file in named for end in (".safetensors", ".json")
    )


def how_trained(**seed):
    """The settings of a training. How many others there are is not part of them."""
    return settings(
        "train_sae",
        sae_training=lambda wildcards: STUDIES[wildcards.study].sae_training.model_dump(
            mode="json", exclude={"n_seeds"}
        ),
        layer=lambda wildcards: int(wildcards.layer),
        n_measured=lambda wildcards: STUDIES[wildcards.study].certificate.n_clips,
        **seed,
    )


def sae_versions(study, *layers):
    """The versions of formats of SAEs that other packages add, by format; an SAE trained here is of a built-in one."""
    given = [layer for layer in layers if not trained_sae(study, layer)]
    found = [format_versions(sae_folder(sae_of(study, int(layer)))) for layer in given]
    return {name: version for each in found for name, version in each.items()}


def reviewed_only(wildcards):
    return STUDIES[wildcards.study].labels.reviewed_only


def of_clips(wildcards):
    """What decides which clips candidates are fitted on, and at which times."""
    study = STUDIES[wildcards.study]
    return {
        "confirm_fraction": study.screen.confirm_fraction,
        "prefix_s": study.ablation.prefix_s,
        "return_window_s": list(study.ablation.return_window_s),
        "context_s": study.descriptors.context_s,
        "earliest_s": extent("earliest_s")(wildcards),
        "reference_s": extent("reference_s")(wildcards),
        "reviewed_only": reviewed_only(wildcards),
    }


def prompted_clips(wildcards):
    prompted = study_config(wildcards).source == "prompts"
    return clips(study_of(wildcards)) if prompted else []


def where_cut(recordings):
    return {
        "folder": recordings.folder,
        "max_clips_per_track": recordings.max_clips_per_track,
    }


def identities(wildcards):
    """The identity of each recording of a batch. Licences and tags are not part of it; only the report uses them."""
    return [
        [track.track_id, track.path, track.sha256, track.prompt, track.same_as]
        for track in tracks(study_of(wildcards))[wildcards.batch]
    ]


def event_settings(study):
    return STUDIES[study].events.model_dump(mode="json")


def target(stage):
    """The study's target in the settings of a stage."""

    def of(wildcards):
        name = STUDIES[wildcards.study].target
        return {"name": name, **code_of(name, stage)}

    return of


def known(wildcards):
    """The settings of the target that are known to the baseline, for the stage that does not use all of `events`."""
    found = target_of(STUDIES[wildcards.study].target)
    return found.known(event_settings(wildcards.study))


def extent(field):
    """How much time the target needs, a part of its `Extent`: `earliest_s`, `reference_s` or `heard_for_s`."""

    def of(wildcards):
        study = STUDIES[wildcards.study]
        return getattr(
            target_of(study.target).extent(event_settings(wildcards.study)), field
        )

    return of


def groups(study, batch):
    """The group of each prompt of a batch, if groups are used."""
    if "group" not in compared_with(event_settings(study)):
        return {}
    inside = {clip.prompt_id for clip in clips(study) if clip.batch == batch}
    return {p.prompt_id: p.group for p in prompts(study) if p.prompt_id in inside}


def played_from_s(study):
    """The time in seconds from which the model plays, if clips begin with a recording; otherwise 0."""
    study_config = STUDIES[study]
    return (
        study_config.recordings.continue_from_s
        if study_config.source == "continuation"
        else 0.0
    )


def declared(study):
    """The settings besides model and thresholds. They are declared with these before any result is known."""
    fields = STUDIES[study].model_dump(mode="json")
    # The layout of the review page changes no result.
    return {"review": {"files": fields["review"]["files"]}} | {
        key: fields[key]
        for key in (
            "source",
            "prompts",
            "recordings",
            "seeds",
            "generation",
            "layers",
            "saes",
            "sae_training",
            "certificate",
            "descriptors",
            "target",
            "events",
            "labels",
            "horizons",
            "probes",
            "screen",
            "candidates",
            "ablation",
        )
    }


declaration = settings(
    "preregister",
    "verdict",
    "probes",
    declared=lambda wildcards: declared(wildcards.study),
)


def sampling(study):
    generation = STUDIES[study].generation.model_dump(mode="json")
    return {
        key: generation[key]
        for key in ("temperature", "top_k", "top_p", "cfg_coef", "batch_size")
    }


def report_settings():
    """The report's title, the leaf settings of all studies (it shows them), and digests of its code and templates."""
    studies = {name: study.model_dump(mode="json") for name, study in STUDIES.items()}
    for fields in studies.values():
        # The device of a model never changes a result.
        fields["model"].pop("device")
        # The code of a family from outside this package cannot be followed.
        fields["model"] |= family_identity(fields["model"]["backend"])
    title = ReportSettings.model_validate(config.get("report") or {}).title
    template = template_digest("report.html.j2")
    code = code_digest("workflow_scripts/report.py")
    return {
        "title": title,
        "studies": studies,
        "corpora": {study: corpus(study) for study in studies},
        "targets": {
            study.target: code_of(study.target, "report") for study in STUDIES.values()
        },
        "code": code,
        "template": template,
        "calibration": calibration_counts(),
    }


def calibration_counts():
    """How often verdicts are right: counted here by `snakemake calibration`, or shipped with the project. The file is
    read here instead of being an input, so that the report never runs a calibration."""
    shipped = Path(BASE, "benchmarks", "calibration.json")
    for path in (Path(own("results/calibration/confusion.json")), shipped):
        if path.is_file():
            return json.loads(path.read_text(encoding="utf-8"))
    return {}


def recipe(script, *keys, **extra):
    """A rule's `params.settings`: recipe settings, and the digest of the code the script uses."""
    return (
        {key: RECIPE[key] for key in keys}
        | extra
        | {"code": code_digest(f"workflow_scripts/{script}.py")}
    )


def trained(organism):
    """How an organism was trained, for its model card."""
    if organism in DERIVED:
        how = RECIPE["derived"][organism]
        return {
            "n_clips": RECIPE["derived_clips"][how["clips"]],
            "lm_steps": how["steps"],
            "start": f"the shipped {how['start']}" if how.get("start") else "nothing",
        }
    return {
        key: RECIPE[key] for key in ("n_clips", "codec_steps", "base_steps", "lm_steps")
    }


@cache
def model_facts(name, backend):
    """The size of a model according to its files; empty if they do not exist (yet)."""
    try:
        return family_of(backend).facts(model_folder(name, backend=backend))
    except (OSError, ValueError):
        return {}


def job_resources(stage, wildcards):
    """The resources of a job of a stage (`reprise/workflow/resources.py`)."""
    study, name = study_config(wildcards), study_of(wildcards)
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
    """A rule's `mem_mb`: the needs of a job of the stage, multiplied by the number of the attempt."""
    return lambda wildcards, attempt: attempt * job_resources(stage, wildcards).mem_mb


def runtime(stage):
    """A rule's `runtime` in minutes, in the same way."""
    return lambda wildcards, attempt: attempt * job_resources(stage, wildcards).minutes


def gpu(wildcards):
    """A rule's `gpu`: the number of GPUs of its job. `auto` uses one if this machine has one."""
    wanted = device(wildcards)
    return int(
        wanted == "cuda" or (wanted == "auto" and which("nvidia-smi") is not None)
    )


def device(wildcards):
    return study_config(wildcards).model.device
