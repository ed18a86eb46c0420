# How often is a verdict wrong? The study is repeated on organisms whose answer is known.
# Its runs are studies that no configuration lists: see `Studies` in common.smk.


rule calibrate:
    input:
        verdicts=[f"results/{run}/verdict.json" for run in CALIBRATION_RUNS],
    # The script also rewrites benchmarks/calibration.json and calibration_runs.json, which are under version control.
    # They are not outputs: after a checkout they would look out of date, and the report would run the calibration.
    output:
        counts="results/calibration/confusion.json",
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
