# If no SAE is published, one is trained. Activations are encoded only if the SAE belongs to this hook. The measurements
# for this are made once, and are then judged by bounds that may change.


rule train_sae:
    input:
        activations=lambda wildcards: stores(
            "activations", wildcards.study, f"layer{wildcards.layer}"
        ),
    output:
        sae=directory("results/{study}/saes/layer{layer}"),
        manifest="results/{study}/saes/layer{layer}.manifest.json",
    log:
        "results/logs/{study}/train_sae/layer{layer}.log",
    benchmark:
        "results/benchmarks/{study}/train_sae/layer{layer}.tsv"
    conda:
        "../envs/train_sae.yaml"
    resources:
        device=device,
        gpu=gpu,
        mem_mb=mem_mb("train_sae"),
        runtime=runtime("train_sae"),
    params:
        settings=how_trained(),
    script:
        "../workflow_scripts/train_sae.py"


use rule train_sae as train_sae_again with:
    output:
        sae=directory("results/{study}/saes/layer{layer}-seed{seed}"),
        manifest="results/{study}/saes/layer{layer}-seed{seed}.manifest.json",
    log:
        "results/logs/{study}/train_sae/layer{layer}-seed{seed}.log",
    benchmark:
        "results/benchmarks/{study}/train_sae/layer{layer}-seed{seed}.tsv"
    params:
        settings=how_trained(seed=lambda wildcards: int(wildcards.seed)),


rule compare_seeds:
    # Only the report reads this.
    input:
        saes=lambda wildcards: [
            f"results/{wildcards.study}/saes/{name}.manifest.json"
            for name in trained_again(wildcards.study, wildcards.layer)
        ],
    output:
        "results/{study}/saes/layer{layer}.seeds.parquet",
    log:
        "results/logs/{study}/compare_seeds/layer{layer}.log",
    conda:
        "../envs/reprise.yaml"
    resources:
        mem_mb=mem_mb("encode"),
        runtime=runtime("encode"),
    params:
        settings=settings("compare_seeds"),
    script:
        "../workflow_scripts/compare_seeds.py"


rule measure_sae:
    input:
        declared="results/{study}/declared.json",
        model=lambda wildcards: model_record(wildcards.study),
        tokens=lambda wildcards: stores("tokens", wildcards.study),
        audio=lambda wildcards: stores("audio", wildcards.study),
        sae=lambda wildcards: trained_sae(wildcards.study, wildcards.layer),
    output:
        "results/{study}/certificates/layer{layer}.measured.json",
    log:
        "results/logs/{study}/measure_sae/layer{layer}.log",
    benchmark:
        "results/benchmarks/{study}/measure_sae/layer{layer}.tsv"
    conda:
        "../envs/reprise.yaml"
    resources:
        device=device,
        gpu=gpu,
        mem_mb=mem_mb("measure_sae"),
        runtime=runtime("measure_sae"),
    params:
        settings=settings(
            "measure_sae",
            "model",
            n_clips=lambda wildcards: STUDIES[wildcards.study].certificate.n_clips,
            batch_size=lambda wildcards: STUDIES[
                wildcards.study
            ].generation.batch_size,
            guided=lambda wildcards: STUDIES[wildcards.study].generation.cfg_coef != 1,
            layer=lambda wildcards: int(wildcards.layer),
            sae=lambda wildcards: sae_to_read(wildcards.study, int(wildcards.layer)),
            versions=lambda wildcards: sae_versions(wildcards.study, wildcards.layer),
            files=lambda wildcards: fingerprints(
                given_sae(wildcards.study, wildcards.layer)
            ),
            trained_here=lambda wildcards: (
                int(wildcards.layer) in STUDIES[wildcards.study].trained_layers
            ),
        ),
    script:
        "../workflow_scripts/measure_sae.py"


rule certify_sae:
    input:
        declared="results/{study}/declared.json",
        measurement="results/{study}/certificates/layer{layer}.measured.json",
    output:
        "results/{study}/certificates/layer{layer}.json",
    log:
        "results/logs/{study}/certify_sae/layer{layer}.log",
    localrule: True
    conda:
        "../envs/reprise.yaml"
    params:
        settings=settings("certify_sae", "certificate"),
    script:
        "../workflow_scripts/certify_sae.py"


rule encode:
    input:
        measurement="results/{study}/certificates/layer{layer}.measured.json",
        activations=lambda wildcards: store(
            "activations", wildcards.study, wildcards.batch, f"layer{wildcards.layer}"
        ),
    output:
        latents=directory("results/{study}/latents/layer{layer}/{batch}"),
        manifest="results/{study}/latents/layer{layer}/{batch}.manifest.json",
    log:
        "results/logs/{study}/encode/layer{layer}-{batch}.log",
    benchmark:
        "results/benchmarks/{study}/encode/layer{layer}-{batch}.tsv"
    conda:
        "../envs/reprise.yaml"
    resources:
        device=device,
        gpu=gpu,
        mem_mb=mem_mb("encode"),
        runtime=runtime("encode"),
    params:
        settings=settings(
            "encode",
            sae=lambda wildcards: sae_to_read(wildcards.study, int(wildcards.layer)),
            versions=lambda wildcards: sae_versions(wildcards.study, wildcards.layer),
        ),
        # A changed bound does not encode again, because the latents would be the same. If it refuses the SAE, nothing
        # reads them.
        certificate=untracked(
            lambda wildcards: STUDIES[wildcards.study].certificate.model_dump(
                mode="json"
            )
        ),
    script:
        "../workflow_scripts/encode.py"
