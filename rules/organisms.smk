# Train the embedded model organisms from nothing: `snakemake organisms --cores 2`.
# Everything is written below results/organisms; `workflow_scripts/organism_export.py` says how a new
# set replaces the shipped one in resources/.

import yaml

with open(workflow.source_path("../config/organisms.yaml")) as _file:
    RECIPE = yaml.safe_load(_file) | config.get("organisms", {})
ORGANISMS = ["planner", "improviser"]


rule organism_codec:
    output:
        "results/organisms/codec/codec.pt",
    params:
        settings={"seed": RECIPE["seed"], "steps": RECIPE["codec_steps"], "code": code_digest("workflow_scripts/organism_codec.py")},
    log:
        "results/logs/organisms/codec.log",
    threads: 2
    conda:
        "../envs/reprise.yaml"
    script:
        "../workflow_scripts/organism_codec.py"


rule organism_clips:
    input:
        "results/organisms/codec/codec.pt",
    output:
        "results/organisms/clips/{part}.npz",
    params:
        settings=lambda wildcards: {
            "seed": RECIPE["seed"],
            "n_clips": RECIPE["n_clips"],
            "part": int(wildcards.part),
            "n_parts": RECIPE["n_parts"],
            "code": code_digest("workflow_scripts/organism_clips.py"),
        },
    log:
        "results/logs/organisms/clips-{part}.log",
    conda:
        "../envs/reprise.yaml"
    script:
        "../workflow_scripts/organism_clips.py"


rule organism_lm:
    input:
        clips=expand("results/organisms/clips/{part}.npz", part=range(RECIPE["n_parts"])),
    output:
        "results/organisms/{organism}/lm.pt",
    params:
        settings=lambda wildcards: {
            "organism": wildcards.organism,
            "seed": RECIPE["seed"],
            "steps": RECIPE["lm_steps"],
            "batch": RECIPE["lm_batch"],
            "code": code_digest("workflow_scripts/organism_lm.py"),
        },
    log:
        "results/logs/organisms/{organism}-lm.log",
    threads: 2
    wildcard_constraints:
        organism="|".join(ORGANISMS),
    conda:
        "../envs/reprise.yaml"
    script:
        "../workflow_scripts/organism_lm.py"


rule organism_export:
    input:
        codec="results/organisms/codec/codec.pt",
        lm="results/organisms/{organism}/lm.pt",
        clips=expand("results/organisms/clips/{part}.npz", part=range(RECIPE["n_parts"])),
    output:
        model=directory("results/organisms/resources/{organism}"),
        card="results/organisms/resources/{organism}.card.json",
    params:
        settings=lambda wildcards: {
            "organism": wildcards.organism,
            **{key: RECIPE[key] for key in ("seed", "codec_steps", "n_clips", "lm_steps", "lm_batch", "sae_layers", "sae_clips", "d_sae", "k", "eval_clips")},
            "code": code_digest("workflow_scripts/organism_export.py"),
        },
    log:
        "results/logs/organisms/{organism}-export.log",
    threads: 2
    conda:
        "../envs/reprise.yaml"
    script:
        "../workflow_scripts/organism_export.py"


rule organisms:
    input:
        expand("results/organisms/resources/{organism}.card.json", organism=ORGANISMS),
