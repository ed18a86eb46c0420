# How often is a verdict wrong? The study again and again on organisms whose answer is known.
# Its runs are studies that no configuration lists: see `Studies` in common.smk.


rule calibrate:
    input:
        verdicts=[f"results/{run}/verdict.json" for run in CALIBRATION_RUNS],
    output:
        counts="benchmarks/calibration.json",
        runs="benchmarks/calibration_runs.json",
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
        "benchmarks/calibration.json",
