# Is everything there that the studies need, and are their stored results unchanged? These rules check and print, and
# write no results.


rule doctor:
    log:
        "results/logs/doctor.log",
    localrule: True
    conda:
        "../envs/reprise.yaml"
    params:
        settings={
            "config": config,
            "source": SOURCE(),
        },
    script:
        "../workflow_scripts/doctor.py"


rule verify:
    log:
        "results/logs/verify.log",
    localrule: True
    conda:
        "../envs/reprise.yaml"
    params:
        settings={
            "stores": [
                own(folder) for study in STUDIES for folder in store_folders(study)
            ],
            "folders": [
                own(folder)
                for study in STUDIES
                for folder in (f"results/{study}", f"results/corpora/{corpus(study)}")
            ],
        },
    script:
        "../workflow_scripts/verify.py"
