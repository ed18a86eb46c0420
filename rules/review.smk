# A person listens and decides: a page to review events, and the import of the decisions. Without review files nothing
# depends on these rules. A changed review file reruns import_reviews, the labels and everything after them.


rule review_page:
    input:
        events=lambda wildcards: events_tables(wildcards.study),
        audio=lambda wildcards: stores("audio", wildcards.study),
    output:
        "results/{study}/review/index.html",
    log:
        "results/logs/{study}/review_page.log",
    conda:
        "../envs/reprise.yaml"
    params:
        settings=settings(
            "review_page",
            "events",
            target=target("review_page"),
            review=lambda wildcards: STUDIES[wildcards.study].review.model_dump(
                mode="json", exclude={"files"}
            ),
            template=template_digest("review.html.j2"),
        ),
    script:
        "../workflow_scripts/review_page.py"


rule import_reviews:
    input:
        files=lambda wildcards: list(STUDIES[wildcards.study].review.files),
        events=lambda wildcards: events_tables(wildcards.study),
        audio=lambda wildcards: stores("audio", wildcards.study),
    output:
        table="results/{study}/reviews.parquet",
        summary="results/{study}/reviews.json",
    log:
        "results/logs/{study}/import_reviews.log",
    conda:
        "../envs/reprise.yaml"
    params:
        settings=settings("import_reviews"),
    script:
        "../workflow_scripts/import_reviews.py"


rule review:
    input:
        expand("results/{study}/review/index.html", study=STUDIES),
