# This is the first stage that uses a horizon. A changed horizon reruns this stage and later ones, but nothing before.


rule label:
    input:
        events=lambda wildcards: events_tables(wildcards.study),
        clip_summaries=lambda wildcards: clip_summary_tables(wildcards.study),
        audio=lambda wildcards: stores("audio", wildcards.study),
        reviews=lambda wildcards: reviews_table(wildcards.study),
    output:
        "results/{study}/labels/{horizon}.parquet",
    log:
        "results/logs/{study}/label/{horizon}.log",
    benchmark:
        "results/benchmarks/{study}/label/{horizon}.tsv"
    conda:
        "../envs/reprise.yaml"
    resources:
        mem_mb=mem_mb("label"),
        runtime=runtime("label"),
    params:
        settings=settings(
            "label",
            "labels",
            horizon_s=lambda wildcards: parse_horizon_name(wildcards.horizon),
            context_s=lambda wildcards: STUDIES[wildcards.study].descriptors.context_s,
            played_from_s=lambda wildcards: played_from_s(wildcards.study),
            earliest_s=extent("earliest_s"),
        ),
    script:
        "../workflow_scripts/label.py"
