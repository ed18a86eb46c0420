"""What the README and the docs say is there: links, anchors, commands, paths, settings, and examples that run."""

import re
import shlex
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest
import yaml

from reprise.config.schema import Config, Study
from reprise.config.validation import validate
from reprise.targets.registry import BUILT_IN, target_of
from tests import plugins
from tests.places import ROOT

PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").rglob("*.md"))]
IDS = [path.relative_to(ROOT).as_posix() for path in PAGES]
# Folders whose files a page may name; what is computed, fetched or the reader's own is not there.
FOLDERS = "benchmarks|config|docs|envs|profiles|reprise|resources|rules|tests|workflow_scripts"
NOT_THERE = ("resources/external/", "benchmarks/calibration", "config/my-", "config/NAME", "config/wrong-layer.yaml")
ONE_VALUE = {"--cores", "--configfile", "--profile", "--logger", "--slurm-status-command"}
SEVERAL_VALUES = {"--config", "--resources"}


class Fence(NamedTuple):
    """A fenced block: its language, its text, and whether a line `<!-- test -->` stands before it."""

    language: str
    text: str
    tested: bool


def fences(page: str) -> list[Fence]:
    found = re.finditer(r"(<!-- test -->\n)?^```(\w*)\n(.*?)^```$", page, re.MULTILINE | re.DOTALL)
    return [Fence(match[2], match[3], bool(match[1])) for match in found]


def prose(page: str) -> str:
    """A page without its fenced blocks and comments."""
    return re.sub(r"^```.*?^```$|<!--.*?-->", "", page, flags=re.MULTILINE | re.DOTALL)


def code(page: str) -> list[str]:
    """What a page shows as code: inline, and the lines of fenced blocks of no language."""
    lines = [line for fence in fences(page) if fence.language in ("", "bash") for line in fence.text.splitlines()]
    return re.findall(r"`([^`\n]+)`", prose(page)) + lines


def links(page: str) -> list[str]:
    """Targets of a page's links and pictures."""
    return re.findall(r"\]\(([^)\s]+)\)", re.sub(r"`[^`\n]*`", "", prose(page)))


def anchors(page: str) -> set[str]:
    """Anchors of a page's headings, as GitHub and mkdocs make them."""
    titles = re.findall(r"^#+ (.+)$", re.sub(r"^```.*?^```$", "", page, flags=re.MULTILINE | re.DOTALL), re.MULTILINE)
    return {re.sub(r"[\s-]+", "-", re.sub(r"[^\w\s-]", "", title.lower()).strip()) for title in titles}


@pytest.mark.parametrize("path", PAGES, ids=IDS)
def test_links_lead_somewhere(path: Path) -> None:
    page, broken = path.read_text(encoding="utf-8"), []
    for link in links(page):
        if re.match(r"https?://|mailto:", link):
            continue
        file, _, anchor = link.partition("#")
        target = (path.parent / file).resolve() if file else path
        if not target.exists() or (anchor and anchor not in anchors(target.read_text(encoding="utf-8"))):
            broken.append(link)
    assert not broken


def test_every_page_is_in_the_navigation_once() -> None:
    def listed(node: object) -> Iterator[str]:
        if isinstance(node, str):
            yield node
        elif isinstance(node, dict):
            for inner in node.values():
                yield from listed(inner)
        elif isinstance(node, list):
            for inner in node:
                yield from listed(inner)

    nav = list(listed(yaml.safe_load((ROOT / "mkdocs.yml").read_text(encoding="utf-8"))["nav"]))
    assert sorted(nav) == sorted(p.relative_to(ROOT / "docs").as_posix() for p in (ROOT / "docs").rglob("*.md"))


EXAMPLES = [
    (name, fence.text)
    for name, path in zip(IDS, PAGES, strict=True)
    for fence in fences(path.read_text(encoding="utf-8"))
    if fence.language == "yaml"
]


@pytest.mark.parametrize("name, text", EXAMPLES, ids=[name for name, _ in EXAMPLES])
def test_example_configurations_are_valid(
    name: str, text: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    raw = yaml.safe_load(text)
    assert "studies" in raw, "an example is a whole configuration"
    if Path(name).name == "add-a-target.md":
        plugins.install(tmp_path, monkeypatch, page=Path(name).name)
    try:
        validate(raw, source=name, check_files=False)
    finally:
        monkeypatch.undo()
        plugins.forget()


SNIPPETS = [
    (name, fence.text)
    for name, path in zip(IDS, PAGES, strict=True)
    for fence in fences(path.read_text(encoding="utf-8"))
    if fence.language == "python" and fence.tested
]


@pytest.mark.parametrize("name, text", SNIPPETS, ids=[name for name, _ in SNIPPETS])
def test_snippets_run(name: str, text: str) -> None:
    exec(compile(text, name, "exec"), {"__name__": "snippet"})


@pytest.mark.parametrize("path", PAGES, ids=IDS)
def test_make_targets_exist(path: Path) -> None:
    known = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(encoding="utf-8"), re.MULTILINE))
    named = {
        found for text in code(path.read_text(encoding="utf-8")) for found in re.findall(r"\bmake ([a-z-]+)", text)
    }
    assert named <= known


def rules() -> set[str]:
    files = (ROOT / "Snakefile", *(ROOT / "rules").glob("*.smk"))
    return {
        name for file in files for name in re.findall(r"^(?:rule|checkpoint) (\w+):", file.read_text(), re.MULTILINE)
    }


def asked_of_snakemake(command: str) -> Iterator[str]:
    """Targets that stand before the options, and rules that are forced."""
    words = shlex.split(command, comments=True)[1:]
    while words and not words[0].startswith("-"):
        yield words.pop(0)
    while words:
        option = words.pop(0)
        values = []
        while words and not words[0].startswith("-"):
            values.append(words.pop(0))
        if option == "--forcerun":
            yield from values
        elif option not in SEVERAL_VALUES:
            yield from (f"{value} behind {option}" for value in values[option in ONE_VALUE :])


@pytest.mark.parametrize("path", PAGES, ids=IDS)
def test_snakemake_targets_exist(path: Path) -> None:
    known, unknown = rules() | {"TARGET", "RULE"}, []
    for text in code(path.read_text(encoding="utf-8")):
        for command in re.findall(r"(?:^|/| )(snakemake (?!--lint).*)", text):
            unknown += [name for name in asked_of_snakemake(command) if name not in known]
    assert not unknown


@pytest.mark.parametrize("path", PAGES, ids=IDS)
def test_paths_that_are_named_exist(path: Path) -> None:
    named = {
        found
        for text in code(path.read_text(encoding="utf-8"))
        for found in re.findall(rf"(?<![\w/.])(?:{FOLDERS})/[\w./-]*\w/?", text)
    }
    assert not {n for n in named if not n.startswith(NOT_THERE) and not (ROOT / n).exists()}


@pytest.mark.parametrize("path", PAGES, ids=IDS)
def test_settings_that_are_named_exist(path: Path) -> None:
    study = Study.model_validate({"model": {"name": "a"}, "saes": {0: "b"}})
    groups = {name: set(value) for name, value in study.model_dump().items() if isinstance(value, dict)}
    groups = {name: fields for name, fields in groups.items() if name not in ("saes", "horizons")}
    groups["events"] = {field for name in BUILT_IN for field in target_of(name).settings.model_fields}
    groups["report"] = set(Config.model_validate({"studies": {"a": study}}).report.model_dump())
    files = {"html", "json", "md", "parquet", "png", "py", "smk", "tsv", "yaml"}
    unknown = {
        f"{group}.{field}"
        for group, field in re.findall(r"`(\w+)\.(\w+)(?=[`:])", prose(path.read_text(encoding="utf-8")))
        if group in groups and field not in groups[group] | files
    }
    assert not unknown


def test_the_page_on_files_has_every_path_of_the_readme_of_results() -> None:
    def paths(file: Path) -> set[str]:
        rows = re.findall(r"^\| (`.*?) \|", file.read_text(encoding="utf-8"), re.MULTILINE)
        return {path for row in rows for path in re.findall(r"`([^`]+)`", row)}

    assert paths(ROOT / "results" / "README.md") <= paths(ROOT / "docs" / "reference" / "files.md")
