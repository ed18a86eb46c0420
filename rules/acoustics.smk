# From audio alone: what the baseline can hear, and where the motif comes back. No horizon in either.


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
            motif=lambda wildcards: motif(wildcards.study),
        ),
    script:
        "../workflow_scripts/descriptors.py"


rule events:
    input:
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
            groups=lambda wildcards: groups(wildcards.study, wildcards.batch),
        ),
    script:
        "../workflow_scripts/events.py"


def motif(study):
    """What the baseline is told of the motif: where it is, or how long one would be."""
    events = STUDIES[study].events.model_dump(mode="json")
    told = {"kind": events["motif"], "duration_s": events["motif_duration_s"]}
    if events["motif"] == "discovered":
        return told | {"min_gap_s": events["min_gap_s"]}
    return told | {"start_s": events["motif_start_s"]}


def groups(study, batch):
    """The group of each prompt of a batch, where groups are used."""
    if "group" not in STUDIES[study].events.others:
        return {}
    inside = {clip.prompt_id for clip in clips(study) if clip.batch == batch}
    return {p.prompt_id: p.group for p in prompts(study) if p.prompt_id in inside}
