# One teacher-forced pass over generated tokens captures all hooks at once. Which hooks depends on the study, and
# outputs cannot depend on wildcards, so each study has a rule of its own; another one where the same model with
# random weights is probed. The runs of a calibration have the same hooks, and one rule.

_SHARING = {study: (study, study) for study in STUDIES} | {
    "calibration": (CALIBRATION_RUNS[0], CALIBRATION_RUN)
}

for _named, (_study, _pattern) in _SHARING.items():
    for _stage, _hooks in (
        ("activations", hooks(_study)),
        ("activations_random", random_hooks(_study)),
    ):
        if not _hooks:
            continue

        rule:
            name:
                f"{_stage}_{_named}"
            input:
                model="results/{study}/model.json",
                tokens="results/{study}/tokens/{batch}.manifest.json",
            output:
                stores=[
                    directory(f"results/{{study}}/activations/{hook}/{{batch}}")
                    for hook in _hooks
                ],
                manifests=[
                    f"results/{{study}}/activations/{hook}/{{batch}}.manifest.json"
                    for hook in _hooks
                ],
            log:
                f"results/logs/{{study}}/{_stage}/{{batch}}.log",
            benchmark:
                f"results/benchmarks/{{study}}/{_stage}/{{batch}}.tsv"
            wildcard_constraints:
                study=_pattern,
            conda:
                "../envs/reprise.yaml"
            resources:
                device=device,
            params:
                settings=settings(
                    "activations",
                    "model",
                    rows=lambda wildcards: STUDIES[wildcards.study].generation.rows,
                    hooks=_hooks,
                    random_weights=_stage == "activations_random",
                ),
            script:
                "../workflow_scripts/activations.py"
