# Prompts to clips: tokens and audio.


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
            clip_s=lambda wildcards: STUDIES[wildcards.study].generation.duration_s,
            layers=lambda wildcards: list(STUDIES[wildcards.study].layers),
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
    output:
        tokens=directory("results/{study}/tokens/{batch}"),
        tokens_manifest="results/{study}/tokens/{batch}.manifest.json",
        audio=directory("results/{study}/audio/{batch}"),
        audio_manifest="results/{study}/audio/{batch}.manifest.json",
    log:
        "results/logs/{study}/generate/{batch}.log",
    benchmark:
        "results/benchmarks/{study}/generate/{batch}.tsv"
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
                for clip in clips(wildcards.study)
                if clip.batch == wildcards.batch
            ],
        ),
    script:
        "../workflow_scripts/generate.py"
