# Does the SAE belong to this hook? Only then are activations encoded.


rule certify_sae:
    input:
        model="results/{study}/model.json",
        tokens=lambda wildcards: stores("tokens", wildcards.study),
        sae=lambda wildcards: sae_files(wildcards.study, wildcards.layer),
    output:
        "results/{study}/certificates/layer{layer}.json",
    log:
        "results/logs/{study}/certify_sae/layer{layer}.log",
    benchmark:
        "results/benchmarks/{study}/certify_sae/layer{layer}.tsv"
    conda:
        "../envs/reprise.yaml"
    resources:
        device=device,
    params:
        settings=settings(
            "certify_sae",
            "model",
            "certificate",
            rows=lambda wildcards: STUDIES[wildcards.study].generation.rows,
            guided=lambda wildcards: STUDIES[wildcards.study].generation.cfg_coef != 1,
            layer=lambda wildcards: int(wildcards.layer),
            sae=lambda wildcards: STUDIES[wildcards.study].saes[int(wildcards.layer)],
        ),
    script:
        "../workflow_scripts/certify_sae.py"


def sae_files(study, layer):
    """The files of an SAE in a directory; none on the hub, where the commit in its name says which they are. Of one
    that is trained here, its card."""
    if sae_place(STUDIES[study].saes[int(layer)]):
        return []
    folder = Path(STUDIES[study].saes[int(layer)])
    if folder.parts[0] == "results":
        return [organism_card(folder)]
    files = [
        *SAE_FORMS[sae_form(folder) or "SAELens"],
        *([SCALER_FILE] if (folder / SCALER_FILE).is_file() else []),
    ]
    return [str(folder / file) for file in files]


rule encode:
    input:
        certificate="results/{study}/certificates/layer{layer}.json",
        activations="results/{study}/activations/layer{layer}/{batch}.manifest.json",
    output:
        codes=directory("results/{study}/codes/layer{layer}/{batch}"),
        manifest="results/{study}/codes/layer{layer}/{batch}.manifest.json",
    log:
        "results/logs/{study}/encode/layer{layer}-{batch}.log",
    benchmark:
        "results/benchmarks/{study}/encode/layer{layer}-{batch}.tsv"
    conda:
        "../envs/reprise.yaml"
    resources:
        device=device,
    params:
        settings=settings(
            "encode",
            sae=lambda wildcards: STUDIES[wildcards.study].saes[int(wildcards.layer)],
        ),
    script:
        "../workflow_scripts/encode.py"
