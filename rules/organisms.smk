# Train the embedded model organisms from nothing: `snakemake organisms --cores 2`.
# Everything is written below results/organisms; `workflow_scripts/organism_export.py` says how a new
# set replaces the shipped one in resources/.

import yaml

from reprise.organisms.recipe import ORGANISMS, recipe_of

with open(workflow.source_path("../config/organisms.yaml")) as _file:
    _shipped = yaml.safe_load(_file)
try:
    RECIPE = recipe_of(_shipped, config.get("organisms"), source=SOURCE(("organisms",)))
except ConfigError as error:
    raise refused(error) from None
# They share the shipped codec.
DERIVED = list(RECIPE["derived"])


rule organism_codec:
    output:
        "results/organisms/codec/codec.pt",
    log:
        "results/logs/organisms/codec.log",
    conda:
        "../envs/reprise.yaml"
    threads: 2
    params:
        settings=lambda wildcards: recipe("organism_codec", "seed", "codec_steps"),
    script:
        "../workflow_scripts/organism_codec.py"


rule organism_clips:
    input:
        "results/organisms/codec/codec.pt",
    output:
        "results/organisms/clips/{part}.npz",
    log:
        "results/logs/organisms/clips-{part}.log",
    conda:
        "../envs/reprise.yaml"
    params:
        settings=lambda wildcards: recipe(
            "organism_clips",
            *("seed", "n_clips", "n_parts"),
            kind="",
            part=int(wildcards.part),
        ),
    script:
        "../workflow_scripts/organism_clips.py"


rule organism_base:
    input:
        clips=expand(
            "results/organisms/clips/{part}.npz", part=range(RECIPE["n_parts"])
        ),
    output:
        "results/organisms/base/lm.pt",
    log:
        "results/logs/organisms/base-lm.log",
    conda:
        "../envs/reprise.yaml"
    threads: 2
    params:
        settings=lambda wildcards: recipe(
            "organism_lm",
            "seed",
            "lm_batch",
            steps=RECIPE["base_steps"],
            objective="base",
        ),
    script:
        "../workflow_scripts/organism_lm.py"


rule organism_lm:
    input:
        clips=expand(
            "results/organisms/clips/{part}.npz", part=range(RECIPE["n_parts"])
        ),
        base="results/organisms/base/lm.pt",
    output:
        "results/organisms/{organism}/lm.pt",
    log:
        "results/logs/organisms/{organism}-lm.log",
    wildcard_constraints:
        organism="|".join(ORGANISMS),
    conda:
        "../envs/reprise.yaml"
    # One thread each: the two models train side by side.
    threads: 1
    params:
        settings=lambda wildcards: recipe(
            "organism_lm",
            "seed",
            "lm_batch",
            steps=RECIPE["lm_steps"],
            objective=wildcards.organism,
        ),
    script:
        "../workflow_scripts/organism_lm.py"


rule organism_unpack:
    input:
        lm="resources/{shipped}/state_dict.bin",
        codec="resources/{shipped}/compression_state_dict.bin",
    output:
        codec="results/organisms/shipped/{shipped}/codec.pt",
        lm="results/organisms/shipped/{shipped}/lm.pt",
    log:
        "results/logs/organisms/{shipped}-unpack.log",
    wildcard_constraints:
        shipped="|".join(ORGANISMS),
    conda:
        "../envs/reprise.yaml"
    params:
        settings=lambda wildcards: recipe("organism_unpack"),
    script:
        "../workflow_scripts/organism_unpack.py"


rule organism_derived_clips:
    input:
        "results/organisms/shipped/improviser/codec.pt",
    output:
        "results/organisms/derived-clips/{kind}.npz",
    log:
        "results/logs/organisms/{kind}-clips.log",
    wildcard_constraints:
        kind="|".join(kind for kind in RECIPE["derived_clips"] if kind != "tunes"),
    conda:
        "../envs/reprise.yaml"
    params:
        settings=lambda wildcards: recipe(
            "organism_clips",
            "seed",
            n_clips=RECIPE["derived_clips"][wildcards.kind],
            n_parts=1,
            part=0,
            kind="" if wildcards.kind == "plain" else wildcards.kind,
        ),
    script:
        "../workflow_scripts/organism_clips.py"


rule organism_tunes:
    # Needs music21.
    input:
        "results/organisms/shipped/improviser/codec.pt",
    output:
        clips="results/organisms/derived-clips/tunes.npz",
        held_out="results/organisms/held-out-tunes.npz",
    log:
        "results/logs/organisms/tunes.log",
    conda:
        "../envs/reprise.yaml"
    params:
        settings=lambda wildcards: recipe(
            "organism_tunes",
            "seed",
            n_clips=RECIPE["derived_clips"]["tunes"],
            n_held_out=RECIPE["held_out_tunes"],
        ),
    script:
        "../workflow_scripts/organism_tunes.py"


rule organism_derived_lm:
    input:
        clips=lambda wildcards: clips_of(wildcards.derived),
        base=lambda wildcards: start_of(wildcards.derived),
    output:
        "results/organisms/{derived}/lm.pt",
    log:
        "results/logs/organisms/{derived}-lm.log",
    wildcard_constraints:
        derived="|".join(DERIVED),
    conda:
        "../envs/reprise.yaml"
    threads: 1
    params:
        settings=lambda wildcards: recipe(
            "organism_lm",
            *("seed", "lm_batch"),
            steps=RECIPE["derived"][wildcards.derived]["steps"],
            objective=wildcards.derived,
        ),
    script:
        "../workflow_scripts/organism_lm.py"


rule organism_export:
    input:
        codec=lambda wildcards: (
            "results/organisms/shipped/improviser/codec.pt"
            if wildcards.organism in DERIVED
            else "results/organisms/codec/codec.pt"
        ),
        lm="results/organisms/{organism}/lm.pt",
        clips=lambda wildcards: clips_of(wildcards.organism),
        held_out=lambda wildcards: (
            "results/organisms/held-out-tunes.npz"
            if wildcards.organism == "wild"
            else []
        ),
    output:
        model=directory("results/organisms/resources/{organism}"),
        card="results/organisms/resources/{organism}.card.json",
    log:
        "results/logs/organisms/{organism}-export.log",
    conda:
        "../envs/reprise.yaml"
    threads: 2
    params:
        settings=lambda wildcards: recipe(
            "organism_export",
            *(
                "seed",
                "lm_batch",
                "sae_layers",
                "sae_clips",
                "d_sae",
                "k",
                "eval_clips",
            ),
            # There is no cue in real music.
            sae_planned_fraction=RECIPE["sae_planned_fraction"]
            * (wildcards.organism != "wild"),
            organism=wildcards.organism,
            trained=trained(wildcards.organism),
        ),
    script:
        "../workflow_scripts/organism_export.py"


rule organisms:
    input:
        expand("results/organisms/resources/{organism}.card.json", organism=ORGANISMS),
