"""The lock files agree with each other and with what is installed."""

import re
from importlib.metadata import version
from pathlib import Path

import pytest
import yaml

ENVS = Path(__file__).parents[2] / "envs"


def pins(name: str) -> dict[str, str]:
    lines = (ENVS / name).read_text().splitlines()
    return dict(line.split("==") for line in lines if line and not line.startswith("#"))


def normal(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


def test_conda_pins_what_pip_does():
    (pip,) = [
        d["pip"] for d in yaml.safe_load((ENVS / "reprise.yaml").read_text())["dependencies"] if isinstance(d, dict)
    ]
    assert dict(line.split("==") for line in pip) == pins("requirements.txt")


def test_conda_installs_the_rest_after_that():
    text = (ENVS / "reprise.post-deploy.sh").read_text()
    assert dict(re.findall(r"([\w-]+)==(\S+)", text)) == pins("requirements-nodeps.txt")


@pytest.mark.parametrize("name", ["requirements.txt", "requirements-test.txt"])
def test_constraints_hold_every_pin(name):
    constraints = {normal(k): v for k, v in pins("constraints.txt").items()}
    for package, pinned in pins(name).items():
        assert constraints[normal(package)] == pinned


@pytest.mark.parametrize("name", ["requirements.txt", "requirements-nodeps.txt"])
def test_what_is_installed_is_what_is_pinned(name):
    for package, pinned in pins(name).items():
        assert version(package).split("+")[0] == pinned, package
