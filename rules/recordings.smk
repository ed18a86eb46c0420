# Recordings to clips: verified, cut and encoded. Files of a set may be many thousands, so they are no inputs: their
# checksums, which are in the params, say what they hold. Where the model goes on by itself only openings are encoded.


rule encode_recordings:
    input:
        model="results/{study}/model.json",
    output:
        tokens=directory("results/{study}/tokens/{batch}"),
        tokens_manifest="results/{study}/tokens/{batch}.manifest.json",
        audio=directory("results/{study}/audio/{batch}"),
        audio_manifest="results/{study}/audio/{batch}.manifest.json",
    log:
        "results/logs/{study}/encode_recordings/{batch}.log",
    benchmark:
        "results/benchmarks/{study}/encode_recordings/{batch}.tsv"
    wildcard_constraints:
        study=of_source("audio"),
    conda:
        "../envs/reprise.yaml"
    resources:
        device=device,
    params:
        settings=settings(
            "encode_recordings",
            "model",
            recordings=lambda wildcards: where_cut(wildcards.study),
            tracks=lambda wildcards: identities(wildcards.study, wildcards.batch),
            clip_s=lambda wildcards: STUDIES[wildcards.study].generation.duration_s,
            encoded_s=lambda wildcards: STUDIES[wildcards.study].generation.duration_s,
        ),
    script:
        "../workflow_scripts/encode_recordings.py"


rule encode_openings:
    input:
        model="results/{study}/model.json",
    output:
        tokens=directory("results/{study}/openings/{batch}"),
        tokens_manifest="results/{study}/openings/{batch}.manifest.json",
    log:
        "results/logs/{study}/encode_openings/{batch}.log",
    benchmark:
        "results/benchmarks/{study}/encode_openings/{batch}.tsv"
    wildcard_constraints:
        study=of_source("continuation"),
    conda:
        "../envs/reprise.yaml"
    resources:
        device=device,
    params:
        settings=settings(
            "encode_recordings",
            "model",
            recordings=lambda wildcards: where_cut(wildcards.study),
            tracks=lambda wildcards: identities(wildcards.study, wildcards.batch),
            clip_s=lambda wildcards: STUDIES[wildcards.study].generation.duration_s,
            encoded_s=lambda wildcards: STUDIES[
                wildcards.study
            ].recordings.continue_from_s,
        ),
    script:
        "../workflow_scripts/encode_recordings.py"


def where_cut(study):
    asked = STUDIES[study].recordings
    return {
        "folder": asked.folder,
        "max_clips_per_track": asked.max_clips_per_track,
    }


def identities(study, batch):
    """What makes a batch's recordings what they are. Licences and tags are the report's alone."""
    return [
        [track.track_id, track.path, track.sha256, track.prompt, track.same_as]
        for track in tracks(study)[batch]
    ]
