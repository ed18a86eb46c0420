# Recordings to clips: verified, cut and encoded. A set may have many thousands of files, so they are not inputs. Their
# checksums in the params identify their content. If the model continues the clips, only openings are encoded.


rule encode_recordings:
    input:
        model="results/corpora/{corpus}/model.json",
    output:
        tokens=directory("results/corpora/{corpus}/tokens/{batch}"),
        tokens_manifest="results/corpora/{corpus}/tokens/{batch}.manifest.json",
        audio=directory("results/corpora/{corpus}/audio/{batch}"),
        audio_manifest="results/corpora/{corpus}/audio/{batch}.manifest.json",
    log:
        "results/logs/corpora/{corpus}/encode_recordings/{batch}.log",
    benchmark:
        "results/benchmarks/corpora/{corpus}/encode_recordings/{batch}.tsv"
    wildcard_constraints:
        corpus=of_source("audio"),
    conda:
        "../envs/reprise.yaml"
    resources:
        device=device,
        gpu=gpu,
        mem_mb=mem_mb("encode_recordings"),
        runtime=runtime("encode_recordings"),
    params:
        settings=settings(
            "encode_recordings",
            "model",
            recordings=lambda wildcards: where_cut(study_config(wildcards).recordings),
            tracks=lambda wildcards: identities(wildcards),
            clip_s=lambda wildcards: study_config(wildcards).generation.duration_s,
            encoded_s=lambda wildcards: study_config(wildcards).generation.duration_s,
        ),
    script:
        "../workflow_scripts/encode_recordings.py"


rule encode_openings:
    input:
        model="results/corpora/{corpus}/model.json",
    output:
        tokens=directory("results/corpora/{corpus}/openings/{batch}"),
        tokens_manifest="results/corpora/{corpus}/openings/{batch}.manifest.json",
    log:
        "results/logs/corpora/{corpus}/encode_openings/{batch}.log",
    benchmark:
        "results/benchmarks/corpora/{corpus}/encode_openings/{batch}.tsv"
    wildcard_constraints:
        corpus=of_source("continuation"),
    conda:
        "../envs/reprise.yaml"
    resources:
        device=device,
        gpu=gpu,
        mem_mb=mem_mb("encode_recordings"),
        runtime=runtime("encode_recordings"),
    params:
        settings=settings(
            "encode_recordings",
            "model",
            recordings=lambda wildcards: where_cut(study_config(wildcards).recordings),
            tracks=lambda wildcards: identities(wildcards),
            clip_s=lambda wildcards: study_config(wildcards).generation.duration_s,
            encoded_s=lambda wildcards: study_config(
                wildcards
            ).recordings.continue_from_s,
        ),
    script:
        "../workflow_scripts/encode_recordings.py"
