# Prompts to clips, or recordings' openings to clips: tokens and audio.


rule identify_model:
    # A small file that stands for the weights. The params hold the content digests of the weights. As inputs, Snakemake
    # would compare their dates, which are new in a fresh checkout.
    input:
        card=lambda wildcards: trained_model(study_config(wildcards).model),
    output:
        "results/corpora/{corpus}/model.json",
    log:
        "results/logs/corpora/{corpus}/identify_model.log",
    conda:
        "../envs/reprise.yaml"
    resources:
        mem_mb=mem_mb("identify_model"),
        runtime=runtime("identify_model"),
    params:
        settings=settings(
            "identify_model",
            "model",
            files=lambda wildcards: fingerprints(
                given_model(study_config(wildcards).model)
            ),
        ),
    script:
        "../workflow_scripts/identify_model.py"


rule point_to_clips:
    # No rule depends on this file. It is for people, and for `reprise.open_study`.
    output:
        "results/{study}/clips.json",
    log:
        "results/logs/{study}/point_to_clips.log",
    localrule: True
    conda:
        "../envs/reprise.yaml"
    params:
        settings=settings(
            "point_to_clips",
            corpus=lambda wildcards: (
                "../" * (wildcards.study.count("/") + 1)
                + f"corpora/{corpus(wildcards.study)}"
            ),
            batches=lambda wildcards: batches(wildcards.study),
            hooks=lambda wildcards: hooks(wildcards.study),
            sae_hooks=lambda wildcards: [
                f"layer{layer}" for layer in STUDIES[wildcards.study].sae_layers
            ],
        ),
    script:
        "../workflow_scripts/point_to_clips.py"


rule generate:
    input:
        model="results/corpora/{corpus}/model.json",
        openings=lambda wildcards: openings(wildcards),
    output:
        tokens=directory("results/corpora/{corpus}/tokens/{batch}"),
        tokens_manifest="results/corpora/{corpus}/tokens/{batch}.manifest.json",
        audio=directory("results/corpora/{corpus}/audio/{batch}"),
        audio_manifest="results/corpora/{corpus}/audio/{batch}.manifest.json",
    log:
        "results/logs/corpora/{corpus}/generate/{batch}.log",
    benchmark:
        "results/benchmarks/corpora/{corpus}/generate/{batch}.tsv"
    wildcard_constraints:
        corpus=of_source("prompts", "continuation"),
    conda:
        "../envs/reprise.yaml"
    resources:
        device=device,
        gpu=gpu,
        mem_mb=mem_mb("generate"),
        runtime=runtime("generate"),
    params:
        settings=settings(
            "generate",
            "model",
            generation=lambda wildcards: {
                key: value
                for key, value in study_config(wildcards)
                .generation.model_dump(mode="json")
                .items()
                if key != "n_batches"
            },
            clips=lambda wildcards: [
                [clip.clip_id, clip.prompt_id, clip.prompt, clip.seed]
                for clip in prompted_clips(wildcards)
                if clip.batch == wildcards.batch
            ],
            seeds=lambda wildcards: list(study_config(wildcards).seeds),
        ),
    script:
        "../workflow_scripts/generate.py"
