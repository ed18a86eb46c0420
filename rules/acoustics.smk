# From audio alone: what the baseline can hear, and where the motif comes back. No horizon in either.


rule descriptors:
    input:
        model="results/{study}/model.json",
        audio="results/{study}/audio/{batch}.manifest.json",
    output:
        store=directory("results/{study}/descriptors/{batch}"),
        manifest="results/{study}/descriptors/{batch}.manifest.json",
    log:
        "results/logs/{study}/descriptors/{batch}.log",
    benchmark:
        "results/benchmarks/{study}/descriptors/{batch}.tsv"
    conda:
        "../envs/reprise.yaml"
    params:
        settings=settings(
            "descriptors",
            "descriptors",
            motif=lambda wildcards: motif(wildcards.study),
        ),
    script:
        "../workflow_scripts/descriptors.py"


rule events:
    input:
        audio="results/{study}/audio/{batch}.manifest.json",
    output:
        "results/{study}/events/{batch}.parquet",
    log:
        "results/logs/{study}/events/{batch}.log",
    benchmark:
        "results/benchmarks/{study}/events/{batch}.tsv"
    conda:
        "../envs/reprise.yaml"
    params:
        settings=settings("events", "events"),
    script:
        "../workflow_scripts/events.py"


def motif(study):
    events = STUDIES[study].events
    return {"start_s": events.motif_start_s, "duration_s": events.motif_duration_s}
