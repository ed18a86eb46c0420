# One page about all studies, from their results only. It has no study wildcard.


rule report:
    input:
        models=list(dict.fromkeys(map(model_record, STUDIES))),
        cards=[card for study in STUDIES for card in model_card(study)],
        verdicts=expand("results/{study}/verdict.json", study=STUDIES),
        certificates=[
            certificate(study, layer)
            for study in STUDIES
            for layer in STUDIES[study].sae_layers
        ],
        probes=[path for study in STUDIES for path in probe_results(study)],
        events=[path for study in STUDIES for path in events_tables(study)],
        clip_summaries=[
            path for study in STUDIES for path in clip_summary_tables(study)
        ],
        reviews=[path for study in STUDIES for path in reviews_table(study)],
        review_summaries=[path for study in STUDIES for path in reviews_summary(study)],
        labels=[
            labels_table(study, horizon)
            for study in STUDIES
            for horizon in horizons(study)
        ],
        audio=[
            path for (study, *_) in CORPORA.values() for path in stores("audio", study)
        ],
        recordings=[path for study in STUDIES for path in recordings_files(study)],
        candidates=expand("results/{study}/candidates.parquet", study=STUDIES),
        seeds=[path for study in STUDIES for path in seed_tables(study)],
        effects=lambda wildcards: of_candidates("{candidate}.parquet"),
        matched=lambda wildcards: of_candidates("{candidate}.matched.parquet"),
        sufficiency=lambda wildcards: of_candidates("{candidate}.sufficiency.parquet"),
        heads=lambda wildcards: of_candidates("{candidate}.parquet", "heads"),
        deciding=expand("results/{study}/deciding_heads.parquet", study=STUDIES),
        maps=lambda wildcards: [path for study in STUDIES for path in maps(study)],
        players=lambda wildcards: of_candidates("{candidate}.audio.manifest.json"),
    output:
        "results/report/index.html",
    log:
        "results/logs/report.log",
    conda:
        "../envs/reprise.yaml"
    params:
        settings=lambda wildcards: report_settings(),
    script:
        "../workflow_scripts/report.py"
