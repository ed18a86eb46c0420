"""docs/staleness.md is true: what it says of each change is what a dry run on a finished study schedules."""

import json
import os
import re
import shutil
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from queue import Queue

import numpy as np
import pytest
import yaml
from safetensors.numpy import save_file

from reprise.config.schema import Study
from tests.workflow.conftest import ROOT, corpus_of, digests, jobs, snakemake, tiny_config, write_config

PAGE = (ROOT / "docs" / "staleness.md").read_text()
# Fields of which a study on prompts with published SAEs and the built-in target makes nothing. What they make stale is
# tested where they are used.
REVIEW = {"format": "reprise review 1", "study": "tiny", "reviewer": "Ann"}
ELSEWHERE = {"source", "recordings", "sae_training", "target"}


def rows(heading: str) -> tuple[list[str], list[list[str]]]:
    """(column names, rows of cells) of the table under a heading."""
    part = PAGE.split(f"## {heading}\n", 1)[1].split("\n## ")[0]
    lines = [line for line in part.splitlines() if line.startswith("|")]
    cells = [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]
    return cells[0][1:], [cells[1 + i] for i in range(1, len(cells) - 1)]


def expected(columns: list[str], cells: list[str]) -> dict[str, int]:
    return {column: int(cell) for column, cell in zip(columns, cells, strict=True) if cell}


def scheduled(output: str) -> dict[str, int]:
    """How many jobs of each of the table's columns a dry run schedules: both kinds of activations are one."""
    counted: dict[str, int] = {}
    for rule, n in jobs(output).items():
        name = "activations" if rule.startswith("activations_") else rule
        counted[name] = counted.get(name, 0) + n
    return counted


def with_settings(settings: str) -> dict:
    """The tiny study's configuration with `a.b: value; c: value` set; a value `-` removes."""
    config = tiny_config()
    for assignment in settings.split("; "):
        path, value = assignment.split(": ", 1)
        *groups, field = path.split(".")
        own = groups[:1] == ["model"] or field in ("saes", "layers")
        at = config if groups[:1] == ["report"] else config["studies"]["tiny"] if own else config["defaults"]
        for group in groups:
            at = at.setdefault(group, {})
        if value == "-":
            del at[field]
        else:
            at[field] = yaml.safe_load(value.replace("resources/", f"{ROOT}/resources/"))
    return config


@pytest.fixture(scope="module")
def copies(finished, tmp_path_factory):
    """Directories of the finished study for dry runs, two at a time."""
    free: Queue[Path] = Queue()
    for _ in range(2):
        folder = tmp_path_factory.mktemp("stale") / "study"
        shutil.copytree(finished, folder, symlinks=True)
        shutil.copy(folder / "prompts.tsv", folder / "same.tsv")
        save_file({"direction": np.ones(128, np.float32)}, folder / "mine.safetensors")
        (folder / "mine.json").write_text('{"layer": 2}')
        (folder / "ann.json").write_text(json.dumps(REVIEW | {"decisions": []}))
        free.put(folder)
    return free


@pytest.fixture(scope="module")
def dry_runs(copies):
    """What every row of the tables of settings and files would run."""

    def run(change: Callable[[Path], object]) -> dict[str, int]:
        study = copies.get()
        try:
            undo = change(study)
            return scheduled(snakemake(study, "--dry-run", "--cores", "2"))
        finally:
            if callable(undo):
                undo()
            write_config(study, tiny_config())
            copies.put(study)

    with ThreadPoolExecutor(2) as pool:
        found: dict[str, Future] = {}
        for row in rows("Settings")[1]:
            settings = row[0].strip("`")
            found[row[0]] = pool.submit(run, lambda study, s=settings: write_config(study, with_settings(s)))
        for row in rows("Prompts, files and places")[1]:
            found[row[0]] = pool.submit(run, FILES[row[0]])
        yield found


def changed_prompts(change: Callable[[list[str]], list[str]]) -> Callable[[Path], Callable]:
    def apply(study: Path) -> Callable:
        path = study / "prompts.tsv"
        before = path.read_text()
        path.write_text("\n".join(change(before.splitlines())) + "\n")
        return lambda: path.write_text(before)

    return apply


def removed(*parts: str, of_corpus: bool = False) -> Callable[[Path], Callable]:
    def apply(study: Path) -> Callable:
        folder = corpus_of(study) if of_corpus else study / "results/tiny"
        path, aside = folder.joinpath(*parts), study / "aside"
        shutil.move(path, aside)
        return lambda: shutil.move(aside, path)

    return apply


def touch_all(study: Path) -> None:
    # test_touching_every_file_reruns_nothing does the same with the model's files, which other tests use too.
    for path in [*study.rglob("*.yaml"), *study.rglob("*.tsv"), *study.rglob("*.json"), *study.rglob("*.parquet")]:
        os.utime(path)


def altered(study: Path) -> Callable:
    path = next(p for p in sorted((corpus_of(study) / "tokens/b00").rglob("c/**/*")) if p.is_file())
    before, when = path.read_bytes(), path.stat()
    path.write_bytes(bytes(before[:-1]) + bytes([before[-1] ^ 1]))

    def undo() -> None:
        path.write_bytes(before)
        os.utime(path, ns=(when.st_atime_ns, when.st_mtime_ns))

    return undo


def without_chunk(study: Path) -> Callable:
    path = next(p for p in sorted((corpus_of(study) / "tokens/b00").rglob("c/**/*")) if p.is_file())
    before = path.read_bytes()
    path.unlink()
    return lambda: path.write_bytes(before)


def renamed() -> dict:
    config = tiny_config()
    config["studies"] = {"other": config["studies"]["tiny"]}
    return config


FILES: dict[str, Callable[[Path], object]] = {
    "nothing, in a copy of the directory": lambda study: None,
    "the study is renamed": lambda study: write_config(study, renamed()),
    "a prompt is added at the end": changed_prompts(lambda lines: [*lines, "new\tpiano in c, heath theme"]),
    "a prompt's text is edited": changed_prompts(lambda lines: [*lines[:-1], lines[-1] + ", slowly"]),
    "a prompt is deleted": changed_prompts(lambda lines: lines[:-1]),
    "prompts change their order": changed_prompts(lambda lines: [lines[0], *reversed(lines[1:])]),
    "every file gets another date": touch_all,
    "a store is deleted: tokens": removed("tokens", "b00", of_corpus=True),
    "a store is deleted: activations of a layer": removed("activations", "layer2", "b00", of_corpus=True),
    "a store is deleted: latents": removed("latents", "layer2", "b00"),
    "a store is deleted: descriptors": removed("descriptors", "b00"),
    "the labels of a horizon are deleted": removed("labels", "h4-8.parquet"),
    "a file inside a store is deleted": without_chunk,
    "a file inside a store is altered": altered,
}


@pytest.mark.parametrize("row", rows("Settings")[1], ids=lambda row: row[0])
def test_a_setting_reruns_what_the_page_says(dry_runs, row):
    assert dry_runs[row[0]].result() == expected(rows("Settings")[0], row[1:])


@pytest.mark.parametrize("row", rows("Prompts, files and places")[1], ids=lambda row: row[0])
def test_a_file_reruns_what_the_page_says(dry_runs, row):
    assert dry_runs[row[0]].result() == expected(rows("Prompts, files and places")[0], row[1:])


def test_the_page_has_every_setting():
    said = {path for row in rows("Settings")[1] for path in re.findall(r"([\w.]+): ", row[0])}
    fields = Study.model_json_schema()
    wanted = set()
    for name, field in fields["properties"].items():
        reference = next((part["$ref"] for part in [field, *field.get("allOf", [])] if "$ref" in part), None)
        inside = fields["$defs"][reference.rsplit("/", 1)[1]].get("properties") if reference else None
        wanted |= {f"{name}.{inner}" for inner in inside} if inside else {name}
    # Another backend has other files: the model's name changes with it.
    wanted = {path for path in wanted if path.partition(".")[0] not in ELSEWHERE} - {"model.backend"}
    covered = {path for path in wanted if path in said or any(s.startswith(f"{path}.") for s in said)}
    assert wanted - covered == set()


FROM_PROBES = {"probe": 10, "candidates": 1, "estimate_power": 1, "verdict": 1, "report": 1}


@pytest.mark.parametrize(
    ("module", "before", "after", "stale"),
    [
        # What does nothing, or nothing to a study.
        ("reprise/storage/files.py", "import hashlib", "# A comment.\nimport hashlib\n\nUNUSED = 1", {}),
        ("reprise/models/forward.py", '"""', '"""Another text.\n\n', {}),
        ("reprise/workflow/doctor.py", '"""\n\n', '"""\n\nX = 1\n', {}),
        # A constant of what labels alone run, although probes use the module as well.
        (
            "reprise/targets/labels.py",
            "_TOLERANCE_S = 1e-6",
            "_TOLERANCE_S = 1e-5",
            {"label": 2, "baseline": 2, "screen": 2, **FROM_PROBES},
        ),
        # A detector is found by the name of the study's target, and what it does is followed all the same.
        (
            "reprise/targets/recurrence/detection.py",
            "latest_s = match.onset_s - 0.5 *",
            "latest_s = match.onset_s - 0.4 *",
            {"events": 2, "label": 2, "baseline": 2, "screen": 2, "find_deciding_heads": 1, **FROM_PROBES},
        ),
        ("reprise/targets/recurrence/view.py", '"match too weak"', '"too weak"', {"report": 1}),
        ("reprise/probing/residual.py", "COPY_FRACTION = 1e-3", "COPY_FRACTION = 1e-2", FROM_PROBES),
        ("reprise/probing/folds.py", "N_INNER_FOLDS = 3", "N_INNER_FOLDS = 4", {"baseline": 2, **FROM_PROBES}),
    ],
)
def test_an_edited_module_reruns_the_scripts_that_use_it_and_what_follows(
    finished, tmp_path, module, before, after, stale
):
    checkout = tmp_path / "checkout"
    shutil.copytree(ROOT, checkout, ignore=shutil.ignore_patterns(".*", "results", "__pycache__"))
    # A checkout has dates of its own, and the organism lies elsewhere.
    for path in checkout.rglob("*"):
        os.utime(path)
    run = ["--snakefile", checkout / "Snakefile", "--dry-run", "--cores", "2"]
    assert scheduled(snakemake(finished, *map(str, run))) == {}
    text = (checkout / module).read_text()
    assert before in text
    (checkout / module).write_text(text.replace(before, after, 1))
    assert scheduled(snakemake(finished, *map(str, run))) == stale


@pytest.mark.parametrize(
    "how", [["--cores", "1"], ["--profile", str(ROOT / "profiles" / "slurm")]], ids=["cores", "slurm"]
)
def test_how_it_runs_is_no_reason_to_run_again(finished, how):
    assert scheduled(snakemake(finished, "--dry-run", *map(str, how))) == {}


def test_a_horizon_comes_and_goes_and_leaves_the_others_as_they_are(finished, tmp_path):
    study = tmp_path / "study"
    shutil.copytree(finished, study, symlinks=True)
    before = digests(study)
    write_config(study, with_settings("horizons.medium: [2, 4]"))
    said = snakemake(study, "--cores", "2")
    assert not scheduled(said).keys() & {"generate", "activations", "encode", "descriptors", "events"}
    between = digests(study)
    judged = {path for path in before if before[path] != between[path]}
    assert all(path.startswith(("results/tiny/verdict", "results/tiny/preregistration")) for path in judged)
    assert {path.split("/")[2] for path in between.keys() - before.keys()} <= {
        *("labels", "baselines", "probes", "screens", "preregistrations"),
    }
    write_config(study, tiny_config())
    assert scheduled(snakemake(study, "--dry-run", "--cores", "2")) == {
        **{"candidates": 1, "declare_current": 1, "verdict": 1, "report": 1},
    }


def test_an_added_layer_leaves_the_others_as_they_are(finished, tmp_path):
    study = tmp_path / "study"
    shutil.copytree(finished, study, symlinks=True)
    before = digests(study)
    write_config(study, with_settings("saes: {2: resources/planner/sae/layer2, 4: resources/planner/sae/layer4}"))
    snakemake(study, "--cores", "2", "activations")
    after = digests(study)
    assert [path for path in before if before[path] != after[path]] == []
    then = scheduled(snakemake(study, "--dry-run", "--cores", "2"))
    # Of the new layer alone: its certificate and latents, four representations at two horizons.
    assert (then["measure_sae"], then["certify_sae"], then["encode"]) == (1, 1, 2), then
    assert (then["probe"], then["screen"]) == (8, 2) and "baseline" not in then, then
    assert not then.keys() & {"generate", "activations", "descriptors", "events", "label"}


def test_a_deleted_store_that_is_made_by_itself_stales_nothing(finished, tmp_path):
    study = tmp_path / "study"
    shutil.copytree(finished, study, symlinks=True)
    before = digests(study)
    shutil.rmtree(corpus_of(study) / "activations/layer2/b00")
    snakemake(study, "--cores", "2", "activations")
    assert digests(study) == before
    assert scheduled(snakemake(study, "--dry-run", "--cores", "2")) == {}


@pytest.mark.parametrize(
    "pair",
    [
        ("probes.n_swaps: 49", "verdict.min_effect: 0.3"),
        ("certificate.max_fvu: 0.4", "probes.n_folds: 3"),
        ("labels.step_s: 0.25", "report.title: Another"),
    ],
)
def test_changes_made_together_rerun_what_each_reruns(finished, pair):
    columns, cells = rows("Settings")
    of_page = {row[0]: expected(columns, row[1:]) for row in cells}
    first, second = (of_page[f"`{change}`"] for change in pair)
    write_config(finished, with_settings("; ".join(pair)))
    try:
        found = scheduled(snakemake(finished, "--dry-run", "--cores", "2"))
    finally:
        write_config(finished, tiny_config())
    assert found == {rule: max(first.get(rule, 0), second.get(rule, 0)) for rule in first | second}


def test_studies_share_what_they_ask_for_alike(finished, tmp_path):
    """A second study with another horizon and another SAE, in a configuration of its own, generates nothing."""
    study = tmp_path / "study"
    shutil.copytree(finished, study, symlinks=True)
    config = with_settings("horizons.long: [4, 7]; saes: {2: resources/improviser/sae/layer2}")
    config["studies"] = {"second": config["studies"]["tiny"]}
    write_config(study, config)
    then = scheduled(snakemake(study, "--dry-run", "--cores", "2"))
    assert not then.keys() & {"identify_model", "generate", "activations"}, then
    assert then["measure_sae"] == 1 and then["encode"] == 2 and then["label"] == 2
    # Both in one configuration share as well, and the layers of both are captured in one pass.
    config = tiny_config()
    config["studies"]["second"] = {**config["studies"]["tiny"], "seeds": [5, 6]}
    config["studies"]["third"] = {**config["studies"]["second"], "horizons": {"local": [0.5, 2], "long": [4, 7]}}
    write_config(study, config)
    then = scheduled(snakemake(study, "--dry-run", "--cores", "2"))
    assert (then["generate"], then["activations"], then["identify_model"]) == (2, 4, 1), then


@pytest.mark.slow
def test_studies_that_share_have_one_report(finished, tmp_path):
    study = tmp_path / "study"
    shutil.copytree(finished, study, symlinks=True)
    config = tiny_config()
    config["studies"]["second"] = {
        **config["studies"]["tiny"],
        "horizons": {"local": [0.5, 2], "long": [4, 7]},
        "probes": {**config["defaults"]["probes"], "representations": ["sae", "random_model"]},
    }
    write_config(study, config)
    said = snakemake(study, "--cores", "2")
    assert not scheduled(said).keys() & {"identify_model", "generate", "activations"}
    page = (study / "results/report/index.html").read_text()
    assert 'id="tiny"' in page and 'id="second"' in page
    assert "Nothing to be done" in snakemake(study, "--dry-run", "--cores", "2")
