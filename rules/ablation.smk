# Declarations, candidates, continuations under edits, and the effects of the edits. Candidates are a checkpoint: which
# features are ablated is known only then.


rule declare_initial:
    # This runs before the first result that matters to the verdict, including events and certificates. A later
    # declaration reruns none of these results. They depend on this first one, which is made once and never becomes
    # stale. (If they had the later one as an `ancient` input, Snakemake would miss that a probe is stale for another
    # reason whenever that declaration is due.)
    output:
        "results/{study}/declared.json",
    log:
        "results/logs/{study}/declare.log",
    localrule: True
    conda:
        "../envs/reprise.yaml"
    params:
        settings=untracked(declaration),
    script:
        "../workflow_scripts/preregister.py"


rule declare_current:
    # A new declaration never reruns a probe or an edit, but it is visible in the report. Its priority makes it run
    # before the other jobs that are ready.
    input:
        "results/{study}/declared.json",
    output:
        "results/{study}/preregistration.json",
    log:
        "results/logs/{study}/preregister.log",
    priority: 2
    localrule: True
    conda:
        "../envs/reprise.yaml"
    params:
        settings=declaration,
    script:
        "../workflow_scripts/preregister.py"


rule fit_das:
    input:
        model=lambda wildcards: model_record(wildcards.study),
        declared="results/{study}/declared.json",
        tokens=lambda wildcards: stores("tokens", wildcards.study),
        events=lambda wildcards: events_tables(wildcards.study),
        clip_summaries=lambda wildcards: clip_summary_tables(wildcards.study),
        reviews=lambda wildcards: reviews_table(wildcards.study),
        activations=lambda wildcards: stores(
            "activations", wildcards.study, f"layer{wildcards.layer}"
        ),
    output:
        "results/{study}/das/layer{layer}.json",
    log:
        "results/logs/{study}/das/layer{layer}.log",
    benchmark:
        "results/benchmarks/{study}/das/layer{layer}.tsv"
    priority: 1
    conda:
        "../envs/reprise.yaml"
    resources:
        device=device,
        gpu=gpu,
        mem_mb=mem_mb("fit_das"),
        runtime=runtime("fit_das"),
    params:
        settings=settings(
            "fit_das",
            "model",
            layer=lambda wildcards: int(wildcards.layer),
            of_clips=of_clips,
            das_rank=lambda wildcards: STUDIES[wildcards.study].candidates.das_rank,
            n_controls=lambda wildcards: STUDIES[wildcards.study].ablation.n_controls,
        ),
    script:
        "../workflow_scripts/fit_das.py"


checkpoint candidates:
    input:
        declared="results/{study}/declared.json",
        screens=lambda wildcards: screens(wildcards.study),
        tokens=lambda wildcards: stores("tokens", wildcards.study),
        labels=lambda wildcards: [
            labels_table(wildcards.study, h) for h in horizons(wildcards.study)
        ],
        events=lambda wildcards: events_tables(wildcards.study),
        clip_summaries=lambda wildcards: clip_summary_tables(wildcards.study),
        reviews=lambda wildcards: reviews_table(wildcards.study),
        descriptors=lambda wildcards: stores("descriptors", wildcards.study),
        activations=lambda wildcards: [
            m
            for hook in hooks(wildcards.study)[1:]
            for m in stores("activations", wildcards.study, hook)
        ],
        latents=lambda wildcards: [
            m
            for layer in STUDIES[wildcards.study].sae_layers
            for m in stores("latents", wildcards.study, f"layer{layer}")
        ],
        das=lambda wildcards: das_fits(wildcards.study),
    output:
        folder=directory("results/{study}/candidates"),
        table="results/{study}/candidates.parquet",
        layers="results/{study}/candidates.layers.json",
    log:
        "results/logs/{study}/candidates.log",
    benchmark:
        "results/benchmarks/{study}/candidates.tsv"
    priority: 1
    conda:
        "../envs/reprise.yaml"
    resources:
        mem_mb=mem_mb("candidates"),
        runtime=runtime("candidates"),
    params:
        settings=settings(
            "candidates",
            "ablation",
            candidates=lambda wildcards: STUDIES[
                wildcards.study
            ].candidates.model_dump(
                mode="json", include={"kinds", "directions", "max_edited"}
            ),
            screen=lambda wildcards: {
                key: getattr(STUDIES[wildcards.study].screen, key)
                for key in ("fdr", "max_tried")
            },
            layers=lambda wildcards: list(STUDIES[wildcards.study].hook_layers),
            directions=lambda wildcards: direction_files(wildcards.study),
            alpha=lambda wildcards: STUDIES[wildcards.study].probes.alpha,
            horizons=lambda wildcards: horizons_by_role(wildcards.study),
            longer_roles=lambda wildcards: list(STUDIES[wildcards.study].longer_roles),
            of_clips=of_clips,
            saes=lambda wildcards: {
                layer: sae_to_read(wildcards.study, layer)
                for layer in STUDIES[wildcards.study].sae_layers
            },
            versions=lambda wildcards: sae_versions(
                wildcards.study, *STUDIES[wildcards.study].sae_layers
            ),
        ),
    script:
        "../workflow_scripts/candidates.py"


rule ablate:
    input:
        model=lambda wildcards: model_record(wildcards.study),
        candidate="results/{study}/candidates/{candidate}.json",
        declared="results/{study}/declared.json",
        tokens=lambda wildcards: stores("tokens", wildcards.study),
        certificate=lambda wildcards: [
            certificate(wildcards.study, layer)
            for layer in candidate_sae(wildcards.candidate)
        ],
        donated=lambda wildcards: donated(wildcards.study, wildcards.candidate),
    output:
        tokens=directory("results/{study}/ablations/{candidate}"),
        manifest="results/{study}/ablations/{candidate}.manifest.json",
    log:
        "results/logs/{study}/ablate/{candidate}.log",
    benchmark:
        "results/benchmarks/{study}/ablate/{candidate}.tsv"
    priority: 1
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
            "ablate",
            "model",
            "source",
            "ablation",
            sampling=lambda wildcards: sampling(wildcards.study),
            sae=lambda wildcards: [
                sae_to_read(wildcards.study, layer)
                for layer in candidate_sae(wildcards.candidate)
            ],
            versions=lambda wildcards: sae_versions(
                wildcards.study, *candidate_sae(wildcards.candidate)
            ),
        ),
    script:
        "../workflow_scripts/ablate.py"


rule effects:
    input:
        model=lambda wildcards: model_record(wildcards.study),
        ablation="results/{study}/ablations/{candidate}.manifest.json",
    output:
        effects="results/{study}/effects/{candidate}.parquet",
        players=directory("results/{study}/effects/{candidate}.audio"),
        players_manifest="results/{study}/effects/{candidate}.audio.manifest.json",
    log:
        "results/logs/{study}/effects/{candidate}.log",
    benchmark:
        "results/benchmarks/{study}/effects/{candidate}.tsv"
    priority: 1
    conda:
        "../envs/reprise.yaml"
    threads: EDIT_THREADS
    resources:
        device=device,
        gpu=gpu,
        mem_mb=mem_mb("effects"),
        runtime=runtime("effects"),
    params:
        settings=settings(
            "effects",
            "model",
            "source",
            "ablation",
            "events",
            target=target("effects"),
            event_s=extent("heard_for_s"),
            batch_size=lambda wildcards: STUDIES[
                wildcards.study
            ].generation.batch_size,
        ),
    script:
        "../workflow_scripts/effects.py"


rule attribute_heads:
    input:
        model=lambda wildcards: model_record(wildcards.study),
        candidate="results/{study}/candidates/{candidate}.json",
        ablation="results/{study}/ablations/{candidate}.manifest.json",
        effects="results/{study}/effects/{candidate}.parquet",
        certificate=lambda wildcards: [
            certificate(wildcards.study, layer)
            for layer in candidate_sae(wildcards.candidate)
        ],
        donated=lambda wildcards: donated(wildcards.study, wildcards.candidate),
    output:
        "results/{study}/heads/{candidate}.parquet",
    log:
        "results/logs/{study}/heads/{candidate}.log",
    benchmark:
        "results/benchmarks/{study}/heads/{candidate}.tsv"
    conda:
        "../envs/reprise.yaml"
    threads: EDIT_THREADS
    resources:
        device=device,
        gpu=gpu,
        mem_mb=mem_mb("heads"),
        runtime=runtime("heads"),
    params:
        settings=settings(
            "heads",
            "model",
            sae=lambda wildcards: [
                sae_to_read(wildcards.study, layer)
                for layer in candidate_sae(wildcards.candidate)
            ],
            versions=lambda wildcards: sae_versions(
                wildcards.study, *candidate_sae(wildcards.candidate)
            ),
        ),
    script:
        "../workflow_scripts/heads.py"


rule find_deciding_heads:
    # Of a study, not of a candidate: which heads decide an event, whatever the verdict.
    input:
        model=lambda wildcards: model_record(wildcards.study),
        tokens=lambda wildcards: stores("tokens", wildcards.study),
        events=lambda wildcards: events_tables(wildcards.study),
        clip_summaries=lambda wildcards: clip_summary_tables(wildcards.study),
        reviews=lambda wildcards: reviews_table(wildcards.study),
        activations=lambda wildcards: stores(
            "activations", wildcards.study, hooks(wildcards.study)[1]
        ),
    output:
        "results/{study}/deciding_heads.parquet",
    log:
        "results/logs/{study}/deciding_heads.log",
    benchmark:
        "results/benchmarks/{study}/deciding_heads.tsv"
    conda:
        "../envs/reprise.yaml"
    threads: EDIT_THREADS
    resources:
        device=device,
        gpu=gpu,
        mem_mb=mem_mb("heads"),
        runtime=runtime("heads"),
    params:
        settings=settings(
            "deciding_heads",
            "model",
            of_clips=of_clips,
            n_clips=lambda wildcards: STUDIES[wildcards.study].ablation.n_clips,
        ),
    script:
        "../workflow_scripts/deciding_heads.py"


rule match_damage:
    # The best of several candidates decides, so the width of their intervals depends on their number.
    input:
        effects="results/{study}/effects/{candidate}.parquet",
        candidates="results/{study}/candidates.parquet",
    output:
        matched="results/{study}/effects/{candidate}.matched.parquet",
        sufficiency="results/{study}/effects/{candidate}.sufficiency.parquet",
    log:
        "results/logs/{study}/match_damage/{candidate}.log",
    localrule: True
    conda:
        "../envs/reprise.yaml"
    params:
        settings=settings("match_damage"),
    script:
        "../workflow_scripts/match_damage.py"


rule estimate_power:
    # Would a larger study decide? Simulated from the predictions of this study's probes.
    input:
        probes=lambda wildcards: long_probes(wildcards.study, ".json"),
        predictions=lambda wildcards: long_probes(wildcards.study, ".parquet"),
    output:
        record="results/{study}/power.json",
        table="results/{study}/power.tsv",
        page="results/{study}/power.html",
    log:
        "results/logs/{study}/power.log",
    benchmark:
        "results/benchmarks/{study}/power.tsv"
    conda:
        "../envs/reprise.yaml"
    resources:
        mem_mb=mem_mb("power"),
        runtime=runtime("power"),
    params:
        settings=settings(
            "power",
            # The gates that read edits are not simulated.
            verdict=lambda wildcards: {
                key: getattr(STUDIES[wildcards.study].verdict, key)
                for key in (
                    "min_positive_clips",
                    "min_negative_clips",
                    "min_positive_prompts",
                    "min_gain_auroc",
                    "max_missed_gain_auroc",
                    "min_learned_gain_auroc",
                )
            },
            alpha=lambda wildcards: STUDIES[wildcards.study].probes.alpha,
            units=lambda wildcards: (
                "prompts" if STUDIES[wildcards.study].source == "prompts" else "tracks"
            ),
        ),
    script:
        "../workflow_scripts/power.py"


rule map_effect:
    # Only for a candidate that passes: see `maps` in rules/paths.smk.
    input:
        model=lambda wildcards: model_record(wildcards.study),
        candidate="results/{study}/candidates/{candidate}.json",
        layers="results/{study}/candidates.layers.json",
        ablation="results/{study}/ablations/{candidate}.manifest.json",
        certificate=lambda wildcards: [
            certificate(wildcards.study, layer)
            for layer in candidate_sae(wildcards.candidate)
        ],
        donated=lambda wildcards: donated_to_map(wildcards.study, wildcards.candidate),
    output:
        "results/{study}/maps/{candidate}.parquet",
    log:
        "results/logs/{study}/map/{candidate}.log",
    benchmark:
        "results/benchmarks/{study}/map/{candidate}.tsv"
    conda:
        "../envs/reprise.yaml"
    threads: EDIT_THREADS
    resources:
        device=device,
        gpu=gpu,
        mem_mb=mem_mb("map"),
        runtime=runtime("map"),
    params:
        settings=settings(
            "map_effect",
            "model",
            "ablation",
            "events",
            target=target("effects"),
            event_s=extent("heard_for_s"),
            sampling=lambda wildcards: sampling(wildcards.study),
            n_map_clips=MAP_CLIPS,
            map_step_s=lambda wildcards: STUDIES[
                wildcards.study
            ].candidates.map_step_s,
            sae=lambda wildcards: [
                sae_to_read(wildcards.study, layer)
                for layer in candidate_sae(wildcards.candidate)
            ],
            versions=lambda wildcards: sae_versions(
                wildcards.study, *candidate_sae(wildcards.candidate)
            ),
        ),
    script:
        "../workflow_scripts/map_effect.py"


checkpoint verdict:
    # A candidate that passes gets a map, so it must be known which one does.
    input:
        declared="results/{study}/declared.json",
        predictions=lambda wildcards: long_probes(wildcards.study, ".parquet"),
        power="results/{study}/power.json",
        clip_summaries=lambda wildcards: clip_summary_tables(wildcards.study),
        model=lambda wildcards: model_record(wildcards.study),
        preregistration="results/{study}/preregistration.json",
        probes=lambda wildcards: probe_results(wildcards.study),
        events=lambda wildcards: events_tables(wildcards.study),
        reviews=lambda wildcards: reviews_table(wildcards.study),
        review_summary=lambda wildcards: reviews_summary(wildcards.study),
        candidates="results/{study}/candidates.parquet",
        effects=lambda wildcards: [
            f"results/{wildcards.study}/effects/{c}.matched.parquet"
            for c in chosen_candidates(wildcards.study)
        ],
        sufficiency=lambda wildcards: [
            f"results/{wildcards.study}/effects/{c}.sufficiency.parquet"
            for c in chosen_candidates(wildcards.study)
        ],
    output:
        verdict="results/{study}/verdict.json",
    log:
        "results/logs/{study}/verdict.log",
    localrule: True
    conda:
        "../envs/reprise.yaml"
    resources:
        mem_mb=mem_mb("verdict"),
        runtime=runtime("verdict"),
    params:
        settings=settings(
            "verdict",
            "verdict",
            "probes",
            "seeds",
            horizons_by_role=lambda wildcards: horizons_by_role(wildcards.study),
            longer_roles=lambda wildcards: list(STUDIES[wildcards.study].longer_roles),
            reviewed_only=reviewed_only,
            second_target=lambda wildcards: (
                STUDIES[wildcards.study].ablation.second_target != "none"
            ),
            # The preregistration must say this. The script compares them.
            declared=lambda wildcards: declared(wildcards.study),
        ),
    script:
        "../workflow_scripts/verdict.py"
