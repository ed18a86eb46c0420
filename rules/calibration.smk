# How often is a verdict wrong? The study again and again on organisms whose answer is known.
# Its runs are studies that no configuration lists: see `Studies` in common.smk.


rule calibrate:
    input:
        verdicts=[f"results/{run}/verdict.json" for run in CALIBRATION_RUNS],
    # It also rewrites benchmarks/calibration.json and calibration_runs.json, which the project keeps. They are no
    # outputs: what a checkout brings would look out of date by its dates, and the report would run all this.
    output:
        counts="results/calibration/confusion.json",
        runs="results/calibration/runs.json",
    log:
        "results/logs/calibration.log",
    conda:
        "../envs/reprise.yaml"
    params:
        settings={"code": code_digest("workflow_scripts/calibrate.py")},
    script:
        "../workflow_scripts/calibrate.py"


rule calibration:
    input:
        "results/calibration/confusion.json",
