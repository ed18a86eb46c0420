# Does a representation say more about the future than the baseline does? And which features?


rule probe:
    input:
        labels="results/{study}/labels/{horizon}.parquet",
        descriptors=lambda wildcards: stores("descriptors", wildcards.study),
        representation=lambda wildcards: representation_stores(
            wildcards.study, wildcards.probe
        ),
    output:
        record="results/{study}/probes/{horizon}/{probe}.json",
        predictions="results/{study}/probes/{horizon}/{probe}.parquet",
    log:
        "results/logs/{study}/probe/{horizon}-{probe}.log",
    benchmark:
        "results/benchmarks/{study}/probe/{horizon}-{probe}.tsv"
    wildcard_constraints:
        probe=r"embedding|(resid|sae)-layer\d+",
    conda:
        "../envs/reprise.yaml"
    params:
        settings=settings("probe", "probes"),
    script:
        "../workflow_scripts/probe.py"


rule screen:
    input:
        labels="results/{study}/labels/{horizon}.parquet",
        codes=lambda wildcards: stores(
            "codes", wildcards.study, f"layer{wildcards.layer}"
        ),
    output:
        "results/{study}/screens/{horizon}/layer{layer}.parquet",
    log:
        "results/logs/{study}/screen/{horizon}-layer{layer}.log",
    benchmark:
        "results/benchmarks/{study}/screen/{horizon}-layer{layer}.tsv"
    conda:
        "../envs/reprise.yaml"
    params:
        settings=settings("screen", "screen"),
    script:
        "../workflow_scripts/screen.py"


def representation_stores(study, probe):
    """Manifests of what a probe reads: the input embedding, a layer's residual stream, or its SAE codes."""
    if probe == "embedding":
        return stores("activations", study, "embedding")
    kind, hook = probe.split("-")
    return stores({"resid": "activations", "sae": "codes"}[kind], study, hook)


def screens(study):
    return [
        f"results/{study}/screens/{horizon}/layer{layer}.parquet"
        for horizon in horizons(study)
        for layer in STUDIES[study].layers
    ]
