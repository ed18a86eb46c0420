# Does a representation say more about the future than the baseline does? And which features?


rule baseline:
    # One fit for each horizon: its probes are all compared with it.
    input:
        declared="results/{study}/declared.json",
        labels="results/{study}/labels/{horizon}.parquet",
        local=lambda wildcards: local_labels(wildcards.study, wildcards.horizon),
        descriptors=lambda wildcards: stores("descriptors", wildcards.study),
    output:
        "results/{study}/baselines/{horizon}.parquet",
    log:
        "results/logs/{study}/baseline/{horizon}.log",
    benchmark:
        "results/benchmarks/{study}/baseline/{horizon}.tsv"
    conda:
        "../envs/reprise.yaml"
    resources:
        mem_mb=mem_mb("baseline"),
        runtime=runtime("baseline"),
    params:
        settings=settings(
            "baseline",
            n_folds=lambda wildcards: STUDIES[wildcards.study].probes.n_folds,
        ),
    script:
        "../workflow_scripts/baseline.py"


rule probe:
    input:
        declared="results/{study}/declared.json",
        baseline="results/{study}/baselines/{horizon}.parquet",
        labels="results/{study}/labels/{horizon}.parquet",
        local=lambda wildcards: local_labels(wildcards.study, wildcards.horizon),
        descriptors=lambda wildcards: stores("descriptors", wildcards.study),
        representation=lambda wildcards: representation_stores(
            wildcards.study, wildcards.probe
        ),
        certificate=lambda wildcards: certificate_of(wildcards.study, wildcards.probe),
    output:
        record="results/{study}/probes/{horizon}/{probe}.json",
        predictions="results/{study}/probes/{horizon}/{probe}.parquet",
    log:
        "results/logs/{study}/probe/{horizon}-{probe}.log",
    benchmark:
        "results/benchmarks/{study}/probe/{horizon}-{probe}.tsv"
    wildcard_constraints:
        probe=probe_pattern(),
    conda:
        "../envs/reprise.yaml"
    resources:
        mem_mb=mem_mb("probe"),
        runtime=runtime("probe"),
    params:
        settings=settings(
            "probe",
            # Which others are probed, and what becomes of a p-value, changes no probe.
            probes=lambda wildcards: {
                key: getattr(STUDIES[wildcards.study].probes, key)
                for key in ("n_folds", "n_swaps", "n_bootstrap")
            },
            versions=lambda wildcards: versions(of_probe(wildcards.probe)[0].name),
        ),
    script:
        "../workflow_scripts/probe.py"


rule screen:
    input:
        declared="results/{study}/declared.json",
        labels="results/{study}/labels/{horizon}.parquet",
        local=lambda wildcards: local_labels(wildcards.study, wildcards.horizon),
        latents=lambda wildcards: stores(
            "latents", wildcards.study, f"layer{wildcards.layer}"
        ),
        certificate=lambda wildcards: certificate(wildcards.study, wildcards.layer),
    output:
        "results/{study}/screens/{horizon}/layer{layer}.parquet",
    log:
        "results/logs/{study}/screen/{horizon}-layer{layer}.log",
    benchmark:
        "results/benchmarks/{study}/screen/{horizon}-layer{layer}.tsv"
    # What ends in an ablation is the longest way to a verdict: it goes before the probes.
    priority: 1
    conda:
        "../envs/reprise.yaml"
    resources:
        mem_mb=mem_mb("screen"),
        runtime=runtime("screen"),
    params:
        settings=settings(
            "screen",
            # How many are tried, and at which rate of false discoveries, is decided over all screens.
            screen=lambda wildcards: {
                key: getattr(STUDIES[wildcards.study].screen, key)
                for key in ("min_active", "max_active", "confirm_fraction")
            },
        ),
    script:
        "../workflow_scripts/screen.py"
