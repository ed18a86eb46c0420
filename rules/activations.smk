# One teacher-forced pass over generated tokens captures all hooks at once. Which hooks these are depends on the studies
# that share the clips. Outputs cannot depend on wildcards, so each corpus has its own rule, and a second one if the same
# model with random weights is probed. The runs of a calibration have the same hooks, and share one rule. The hooks
# appear only in the names of the outputs, so a configuration with fewer hooks makes nothing stale.

_SHARING = {
    studies[0]: (studies, re.escape(corpus)) for corpus, studies in CORPORA.items()
} | {"calibration": (CALIBRATION_RUNS[:1], CALIBRATION_RUN)}

for _named, (_studies, _pattern) in _SHARING.items():
    for _stage, _hooks_of in (
        ("activations", hooks),
        ("activations_random", random_hooks),
    ):
        _hooks = list(dict.fromkeys(h for study in _studies for h in _hooks_of(study)))
        if not _hooks:
            continue

        rule:
            name:
                f"{_stage}_{_named}"
            input:
                model="results/corpora/{corpus}/model.json",
                tokens="results/corpora/{corpus}/tokens/{batch}.manifest.json",
            output:
                stores=[
                    directory(
                        f"results/corpora/{{corpus}}/activations/{hook}/{{batch}}"
                    )
                    for hook in _hooks
                ],
                manifests=[
                    f"results/corpora/{{corpus}}/activations/{hook}/{{batch}}.manifest.json"
                    for hook in _hooks
                ],
            log:
                f"results/logs/corpora/{{corpus}}/{_stage}/{{batch}}.log",
            benchmark:
                f"results/benchmarks/corpora/{{corpus}}/{_stage}/{{batch}}.tsv"
            wildcard_constraints:
                corpus=_pattern,
            conda:
                "../envs/reprise.yaml"
            resources:
                device=device,
                gpu=gpu,
                mem_mb=mem_mb("activations"),
                runtime=runtime("activations"),
            params:
                settings=settings(
                    "activations",
                    "model",
                    batch_size=lambda wildcards: study_config(
                        wildcards
                    ).generation.batch_size,
                ),
            script:
                "../workflow_scripts/activations.py"
