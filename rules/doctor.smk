# Is everything there that the studies need? It looks and prints, and makes nothing.


rule doctor:
    log:
        "results/logs/doctor.log",
    localrule: True
    conda:
        "../envs/reprise.yaml"
    params:
        settings={
            "config": config,
            "source": CONFIG_SOURCE,
        },
    script:
        "../workflow_scripts/doctor.py"
