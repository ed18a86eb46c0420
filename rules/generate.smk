# Prompts to clips, or recordings' openings to clips: tokens and audio.


rule identify_model:
    # A small file that stands for the weights: Snakemake compares large inputs by their dates only, and a
    # fresh checkout has new ones.
    input:
        files=lambda wildcards: model_files(wildcards.study),
    output:
        "results/{study}/model.json",
    log:
        "results/logs/{study}/identify_model.log",
    conda:
        "../envs/reprise.yaml"
    params:
        settings=settings(
            "identify_model",
            "model",
        ),
    script:
        "../workflow_scripts/identify_model.py"


def model_files(study):
    """The checkpoint files of a model in a directory; none for a hub id, whose weights each job compares by digest. Of
    one that is trained here, its card: the directory may not be there yet."""
    model = STUDIES[study].model
    if model_place(model.name):
        return []
    folder = Path(model.name)
    if folder.parts[0] == "results":
        return [organism_card(folder)]
    return [
        str(folder / file) for file in needed_files(folder, MODEL_FILES[model.backend])
    ]


rule generate:
    input:
        model="results/{study}/model.json",
        openings=lambda wildcards: openings(wildcards.study, wildcards.batch),
    output:
        tokens=directory("results/{study}/tokens/{batch}"),
        tokens_manifest="results/{study}/tokens/{batch}.manifest.json",
        audio=directory("results/{study}/audio/{batch}"),
        audio_manifest="results/{study}/audio/{batch}.manifest.json",
    log:
        "results/logs/{study}/generate/{batch}.log",
    benchmark:
        "results/benchmarks/{study}/generate/{batch}.tsv"
    wildcard_constraints:
        study=of_source("prompts", "continuation"),
    conda:
        "../envs/reprise.yaml"
    resources:
        device=device,
    params:
        settings=settings(
            "generate",
            "model",
            generation=lambda wildcards: {
                key: value
                for key, value in STUDIES[wildcards.study]
                .generation.model_dump(mode="json")
                .items()
                if key != "n_batches"
            },
            clips=lambda wildcards: [
                [clip.clip_id, clip.prompt_id, clip.prompt, clip.seed]
                for clip in prompted_clips(wildcards.study)
                if clip.batch == wildcards.batch
            ],
            seeds=lambda wildcards: list(STUDIES[wildcards.study].seeds),
        ),
    script:
        "../workflow_scripts/generate.py"


def prompted_clips(study):
    return clips(study) if STUDIES[study].source == "prompts" else []


def openings(study, batch):
    """Openings of a batch's recordings, where the model goes on from them."""
    if STUDIES[study].source != "continuation":
        return []
    return [f"results/{study}/openings/{batch}.manifest.json"]
