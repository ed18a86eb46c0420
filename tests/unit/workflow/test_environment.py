"""The lock files agree with each other and with what is installed."""

import ast
import re
import runpy
import sys
import tomllib
from collections.abc import Iterable
from contextlib import nullcontext, suppress
from importlib.metadata import PackageNotFoundError, packages_distributions, requires, version
from pathlib import Path

import pytest
import yaml
from packaging.requirements import Requirement

from reprise.workflow.provenance import code_files
from tests.places import ROOT

ENVS = ROOT / "envs"


LOCK = runpy.run_path(str(ENVS / "lock.py"))
normal, pins, names = LOCK["normal"], LOCK["pins"], LOCK["names"]
EXTRAS = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]


def pip_of(name: str) -> dict[str, str]:
    """What a conda environment has pip install."""
    asked = yaml.safe_load((ENVS / name).read_text())["dependencies"]
    (pip,) = [d["pip"] for d in asked if isinstance(d, dict)]
    return dict(line.split("==") for line in pip)


@pytest.mark.parametrize("name", LOCK["CONDA"])
def test_conda_pins_what_pip_does(name):
    assert (ENVS / name).read_text() == LOCK["conda_text"](name), "run python envs/lock.py"
    known = pins(ENVS / "constraints.txt")
    assert pip_of(name) and all(known[package] == version for package, version in pip_of(name).items())


def test_conda_installs_the_rest_after_that():
    text = (ENVS / "reprise.post-deploy.sh").read_text()
    assert dict(re.findall(r"([\w-]+)==(\S+)", text)) == pins(ENVS / "audiocraft.txt")


def test_conda_trains_saes_with_all_that_the_code_imports():
    modules = {name for path in code_files("workflow_scripts/train_sae.py") for name in imported(path)}
    distributions = packages_distributions()
    needed = {normal(distributions[name][0]) for name in modules - sys.stdlib_module_names - {"reprise"}}
    assert needed <= with_requirements(pip_of("train_sae.yaml"))


def imported(path: Path) -> set[str]:
    nodes = list(ast.walk(ast.parse(path.read_text())))
    names = {alias.name for node in nodes if isinstance(node, ast.Import) for alias in node.names}
    names |= {node.module for node in nodes if isinstance(node, ast.ImportFrom) and node.module}
    return {name.split(".")[0] for name in names}


def with_requirements(names: Iterable[str]) -> set[str]:
    """Distributions, and all that they bring along without being asked for an extra."""
    found, todo = set(), [normal(name) for name in names]
    while todo:
        name = todo.pop()
        if name not in found:
            found.add(name)
            wanted = [Requirement(text) for text in requires(name) or []]
            todo += [normal(r.name) for r in wanted if not r.marker or r.marker.evaluate({"extra": ""})]
    return found


@pytest.mark.parametrize("extra", ["", *EXTRAS])
def test_what_is_asked_for_is_pinned_and_installed(extra):
    known = pins(ENVS / "constraints.txt")
    for package in names(extra):
        assert normal(package) in known
        with suppress(PackageNotFoundError) if extra == "docs" else nullcontext():
            assert version(package).split("+")[0] == known[normal(package)], package


def test_audiocraft_and_what_it_pulls_in_are_as_pinned():
    for package, pinned in pins(ENVS / "audiocraft.txt").items():
        assert version(package).split("+")[0] == pinned, package


def test_every_import_is_asked_for():
    """What the package imports stands in pyproject.toml, or is audiocraft's."""
    distributions = packages_distributions()
    asked = {normal(package) for extra in ["", *EXTRAS] for package in names(extra)} | pins(
        ENVS / "audiocraft.txt"
    ).keys()
    modules = {name for path in (ROOT / "reprise").rglob("*.py") for name in imported(path)}
    for name in modules - sys.stdlib_module_names - {"reprise", "snakemake", "pydantic_core"}:
        assert {normal(d) for d in distributions[name]} & asked, name
