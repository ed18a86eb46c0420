"""The lock files agree with each other and with what is installed."""

import ast
import re
import sys
from collections.abc import Iterable
from importlib.metadata import packages_distributions, requires, version
from pathlib import Path

import pytest
import yaml
from packaging.requirements import Requirement

from reprise.workflow.provenance import code_files
from tests.places import ROOT

ENVS = ROOT / "envs"


def pins(name: str) -> dict[str, str]:
    lines = (ENVS / name).read_text().splitlines()
    return dict(line.split("==") for line in lines if line and not line.startswith("#"))


def normal(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


def pip_of(name: str) -> dict[str, str]:
    """What a conda environment has pip install."""
    asked = yaml.safe_load((ENVS / name).read_text())["dependencies"]
    (pip,) = [d["pip"] for d in asked if isinstance(d, dict)]
    return dict(line.split("==") for line in pip)


def test_conda_pins_what_pip_does():
    assert pip_of("reprise.yaml") == pins("requirements.txt")


def test_conda_installs_the_rest_after_that():
    text = (ENVS / "reprise.post-deploy.sh").read_text()
    assert dict(re.findall(r"([\w-]+)==(\S+)", text)) == pins("requirements-nodeps.txt")


def test_conda_trains_saes_with_the_same_pins():
    pinned = pip_of("train_sae.yaml")
    assert pinned.items() <= {**pins("requirements.txt"), **pins("requirements-train.txt")}.items()
    assert pins("requirements-train.txt").items() <= pinned.items()


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


@pytest.mark.parametrize("name", ["requirements.txt", "requirements-train.txt", "requirements-test.txt"])
def test_constraints_hold_every_pin(name):
    constraints = {normal(k): v for k, v in pins("constraints.txt").items()}
    for package, pinned in pins(name).items():
        assert constraints[normal(package)] == pinned


@pytest.mark.parametrize("name", ["requirements.txt", "requirements-nodeps.txt", "requirements-train.txt"])
def test_what_is_installed_is_what_is_pinned(name):
    for package, pinned in pins(name).items():
        assert version(package).split("+")[0] == pinned, package
