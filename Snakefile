# Reprise: do autoregressive music models plan a musical return, or stumble into it?
#
#   snakemake --cores all                                   the embedded demo, results/report/index.html
#   snakemake --cores all --configfile config/my-study.yaml your own studies
#   snakemake certify --cores all                           stop there; also: activations, labels, probes, verdicts
#   snakemake review --cores all                            pages to review the events on
#   snakemake doctor --cores 1                              check that everything the studies need is there
#   snakemake verify --cores 1                              check that stored results are unchanged
#   snakemake calibration --cores all                       how often a verdict is wrong, on models with known answers
#   snakemake organisms --cores all                         train the embedded models again

import time

from snakemake.utils import min_version

min_version("9.0")

# A user's configuration replaces the default instead of being merged into it.
if "studies" not in config and not workflow.configfiles:

    configfile: "config/config.yaml"


include: "rules/common.smk"
include: "rules/paths.smk"
include: "rules/params.smk"
include: "rules/checks.smk"
include: "rules/generate.smk"
include: "rules/recordings.smk"
include: "rules/activations.smk"
include: "rules/sae.smk"
include: "rules/acoustics.smk"
include: "rules/review.smk"
include: "rules/labels.smk"
include: "rules/probes.smk"
include: "rules/ablation.smk"
include: "rules/report.smk"
include: "rules/organisms.smk"
include: "rules/calibration.smk"


# The number of GPUs is a limit per machine, not for all jobs on a cluster together.
resource_scopes:
    gpu="local",


onstart:
    from reprise.workflow.run_lock import OtherRunError, take_directory

    global _began
    _began = time.time()
    # These two write nothing, so they may run while a study runs.
    if not {"doctor", "verify"} & set(sys.argv):
        try:
            take_directory(Path.cwd(), tell=logger.warning)
        except OtherRunError as error:
            raise WorkflowError(f"nothing was run: {error}") from None


onsuccess:
    say_what_was_done()


onerror:
    say_what_was_done()


rule all:
    default_target: True
    input:
        "results/report/index.html",
        expand("results/{study}/verdict.json", study=STUDIES),
        expand("results/{study}/clips.json", study=STUDIES),
        ancient([path for study in STUDIES for path in store_folders(study)]),
        ancient([path for study in STUDIES for path in tables(study)]),


rule activations:
    input:
        [
            path
            for study in STUDIES
            for hook in hooks(study) + random_hooks(study)
            for manifest in stores("activations", study, hook)
            for path in (manifest, folder_of_store(manifest))
        ],


rule certify:
    input:
        [
            certificate(study, layer)
            for study in STUDIES
            for layer in STUDIES[study].sae_layers
        ],


rule labels:
    input:
        [
            labels_table(study, horizon)
            for study in STUDIES
            for horizon in horizons(study)
        ],


rule probes:
    input:
        [path for study in STUDIES for path in probe_results(study)],


rule power:
    input:
        expand("results/{study}/power.tsv", study=STUDIES),
        expand("results/{study}/power.html", study=STUDIES),


rule verdicts:
    input:
        expand("results/{study}/verdict.json", study=STUDIES),
