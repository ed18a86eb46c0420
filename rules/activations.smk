# One teacher-forced pass over generated tokens captures all hooks at once. Which hooks depends on the study, and
# outputs cannot depend on wildcards, so each study has a rule of its own.

for _study in STUDIES:

    rule:
        name:
            f"activations_{_study}"
        input:
            model=f"results/{_study}/model.json",
            tokens=f"results/{_study}/tokens/{{batch}}.manifest.json",
        output:
            stores=[
                directory(f"results/{_study}/activations/{hook}/{{batch}}")
                for hook in hooks(_study)
            ],
            manifests=[
                f"results/{_study}/activations/{hook}/{{batch}}.manifest.json"
                for hook in hooks(_study)
            ],
        log:
            f"results/logs/{_study}/activations/{{batch}}.log",
        benchmark:
            f"results/benchmarks/{_study}/activations/{{batch}}.tsv"
        conda:
            "../envs/reprise.yaml"
        resources:
            device=STUDIES[_study].model.device,
        params:
            settings=settings(
                "activations",
                "model",
                study=_study,
                rows=STUDIES[_study].generation.rows,
                hooks=hooks(_study),
            ),
        script:
            "../workflow_scripts/activations.py"
