# Computed from audio only, without a horizon: what the baseline can hear, and the events of the target.


rule descriptors:
    input:
        model=lambda wildcards: model_record(wildcards.study),
        audio=lambda wildcards: store("audio", wildcards.study, wildcards.batch),
    output:
        store=directory("results/{study}/descriptors/{batch}"),
        manifest="results/{study}/descriptors/{batch}.manifest.json",
    log:
        "results/logs/{study}/descriptors/{batch}.log",
    benchmark:
        "results/benchmarks/{study}/descriptors/{batch}.tsv"
    conda:
        "../envs/reprise.yaml"
    resources:
        mem_mb=mem_mb("descriptors"),
        runtime=runtime("descriptors"),
    params:
        settings=settings(
            "descriptors",
            "descriptors",
            target=target("descriptors"),
            known=known,
        ),
    script:
        "../workflow_scripts/descriptors.py"


rule events:
    # The first result that matters to a verdict. The study's declaration is written before it.
    input:
        declared="results/{study}/declared.json",
        audio=lambda wildcards: store("audio", wildcards.study, wildcards.batch),
    output:
        events="results/{study}/events/{batch}.parquet",
        clips="results/{study}/events/{batch}.clips.parquet",
    log:
        "results/logs/{study}/events/{batch}.log",
    benchmark:
        "results/benchmarks/{study}/events/{batch}.tsv"
    conda:
        "../envs/reprise.yaml"
    resources:
        mem_mb=mem_mb("events"),
        runtime=runtime("events"),
    params:
        settings=settings(
            "events",
            "events",
            target=target("events"),
            groups=lambda wildcards: groups(wildcards.study, wildcards.batch),
        ),
    script:
        "../workflow_scripts/events.py"
