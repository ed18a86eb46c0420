# One page about all studies, from their results alone. It has no study wildcard: it takes them all.

import json

from reprise.config import ReportSettings


def report_settings():
    """The report's title, the leaf settings of all studies (it shows them), and digests of its code and templates."""
    studies = {name: study.model_dump(mode="json") for name, study in STUDIES.items()}
    for fields in studies.values():
        # Where a model runs never changes what it computes.
        fields["model"].pop("device")
    title = ReportSettings.model_validate(config.get("report") or {}).title
    template = template_digest("report.html.j2")
    code = code_digest("workflow_scripts/report.py")
    return {
        "title": title,
        "studies": studies,
        "corpora": {study: corpus(study) for study in studies},
        "code": code,
        "template": template,
        "calibration": calibration_counts(),
    }


def model_card(study):
    """The card beside a model in a directory, if there is one: it says whether the model is an organism."""
    card = Path(STUDIES[study].model.name) / "card.json"
    return [card.as_posix()] if card.is_file() else []


def recordings_files(study):
    """What says whose the recordings of a study are and under which licences."""
    asked = STUDIES[study].recordings
    named = (
        [asked.manifest, asked.checksums] if STUDIES[study].source != "prompts" else []
    )
    return [path for path in named if path]


def of_candidates(file):
    """A file of the effects of every candidate of every study; known once the candidates are."""
    return [
        f"results/{study}/effects/{file.format(candidate=candidate)}"
        for study in STUDIES
        for candidate in chosen_candidates(study)
    ]


def calibration_counts():
    """How often verdicts are right: what `snakemake calibration` counted here, or what the project ships. Read, rather
    than named as an input, so that no report asks for a calibration."""
    shipped = Path(workflow.basedir, "benchmarks", "calibration.json")
    for path in (Path("results/calibration/confusion.json"), shipped):
        if path.is_file():
            return json.loads(path.read_text(encoding="utf-8"))
    return {}


rule report:
    input:
        models=[model_record(study) for study in STUDIES],
        cards=[card for study in STUDIES for card in model_card(study)],
        verdicts=expand("results/{study}/verdict.json", study=STUDIES),
        certificates=[
            certificate(study, layer)
            for study in STUDIES
            for layer in STUDIES[study].layers
        ],
        probes=[path for study in STUDIES for path in probe_results(study)],
        events=[path for study in STUDIES for path in events_tables(study)],
        heard=[path for study in STUDIES for path in heard_tables(study)],
        reviews=[path for study in STUDIES for path in reviews_table(study)],
        review_summaries=[path for study in STUDIES for path in reviews_summary(study)],
        labels=[
            labels_table(study, horizon)
            for study in STUDIES
            for horizon in horizons(study)
        ],
        audio=[path for study in STUDIES for path in stores("audio", study)],
        recordings=[path for study in STUDIES for path in recordings_files(study)],
        candidates=expand("results/{study}/candidates.parquet", study=STUDIES),
        effects=lambda wildcards: of_candidates("{candidate}.parquet"),
        matched=lambda wildcards: of_candidates("{candidate}.matched.parquet"),
        steered=lambda wildcards: of_candidates("{candidate}.steered.parquet"),
        players=lambda wildcards: of_candidates("{candidate}.audio.manifest.json"),
    output:
        "results/report/index.html",
    log:
        "results/logs/report.log",
    conda:
        "../envs/reprise.yaml"
    params:
        settings=report_settings(),
    script:
        "../workflow_scripts/report.py"
