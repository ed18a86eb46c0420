# How often is a verdict wrong? The study is repeated on organisms whose answer is known.
# Its runs are studies that no configuration lists: see `Studies` in common.smk.


rule plain_methods:
    # What methods without safeguards find in a run.
    input:
        model=lambda wildcards: model_record(wildcards.study),
        tokens=lambda wildcards: stores("tokens", wildcards.study),
        events=lambda wildcards: events_tables(wildcards.study),
        clip_summaries=lambda wildcards: clip_summary_tables(wildcards.study),
        reviews=lambda wildcards: reviews_table(wildcards.study),
        activations=lambda wildcards: [
            m
            for layer in STUDIES[wildcards.study].sae_layers
            for m in stores("activations", wildcards.study, f"layer{layer}")
        ],
        latents=lambda wildcards: [
            m
            for layer in STUDIES[wildcards.study].sae_layers
            for m in stores("latents", wildcards.study, f"layer{layer}")
        ],
    output:
        "results/{study}/plain_methods.json",
    log:
        "results/logs/{study}/plain_methods.log",
    benchmark:
        "results/benchmarks/{study}/plain_methods.tsv"
    wildcard_constraints:
        study=CALIBRATION_RUN,
    conda:
        "../envs/reprise.yaml"
    threads: EDIT_THREADS
    resources:
        device=device,
        gpu=gpu,
        mem_mb=mem_mb("ablate"),
        runtime=runtime("ablate"),
    params:
        settings=settings(
            "plain_methods",
            *("model", "ablation", "events"),
            target=target("effects"),
            event_s=extent("heard_for_s"),
            of_clips=of_clips,
            sampling=lambda wildcards: sampling(wildcards.study),
            saes=lambda wildcards: {
                layer: sae_to_read(wildcards.study, layer)
                for layer in STUDIES[wildcards.study].sae_layers
            },
            versions=lambda wildcards: sae_versions(
                wildcards.study, *STUDIES[wildcards.study].sae_layers
            ),
        ),
    script:
        "../workflow_scripts/plain_methods.py"


rule calibrate:
    input:
        verdicts=[f"results/{run}/verdict.json" for run in CALIBRATION_RUNS],
        plain=[f"results/{run}/plain_methods.json" for run in CALIBRATION_RUNS],
        probes=lambda wildcards: [
            path for run in CALIBRATION_RUNS for path in long_probes(run, ".json")
        ],
    # The script also rewrites the files of the same names in benchmarks/, which are under version control. They are
    # not outputs: after a checkout they would look out of date, and the report would run the calibration.
    output:
        counts="results/calibration/confusion.json",
        methods="results/calibration/methods.json",
        runs="results/calibration/runs.json",
    log:
        "results/logs/calibration.log",
    conda:
        "../envs/reprise.yaml"
    params:
        settings=lambda wildcards: {
            "code": code_digest("workflow_scripts/calibrate.py")
        },
    script:
        "../workflow_scripts/calibrate.py"


rule calibration:
    input:
        "results/calibration/confusion.json",
