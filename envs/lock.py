"""Write what is pinned: `constraints.txt`, for every Python that pyproject.toml allows, and from it the pins of the
two conda environments.

    python envs/lock.py             newer versions of nothing but what pyproject.toml now asks for
    python envs/lock.py --upgrade   the newest versions of everything

Needs uv (https://docs.astral.sh/uv). Run the tests after it: it only resolves, it tries nothing.
"""

import re
import subprocess
import sys
import tomllib
from pathlib import Path

ENVS = Path(__file__).resolve().parent
CONSTRAINTS = ENVS / "constraints.txt"
# Of which of pyproject.toml's dependencies each conda environment consists; "" are those of the package itself.
CONDA = {"reprise.yaml": ("", "audiocraft", "slurm", "notebook"), "train_sae.yaml": ("", "train")}
HEADER = """\
# Every version that the project was tested with, for all Pythons that it runs on. Made by `python envs/lock.py`. On a
# GPU machine pip adds the CUDA packages that torch asks for.
"""


def normal(name: str) -> str:
    """A distribution's name as packaging tools compare it."""
    return re.sub(r"[-_.]+", "-", name).lower()


def names(extra: str) -> list[str]:
    """The distributions that an extra of the package asks for; those of the package itself for ""."""
    project = tomllib.loads((ENVS.parent / "pyproject.toml").read_text())["project"]
    asked = project["optional-dependencies"][extra] if extra else project["dependencies"]
    return [match[0] for line in asked if (match := re.match(r"[\w.-]+", line))]


def pins(path: Path) -> dict[str, str]:
    """Version by normal name; where Pythons differ, that of the newest."""
    lines = [line.partition(";")[0].strip() for line in path.read_text().splitlines()]
    return {normal(line.partition("==")[0]): line.partition("==")[2] for line in lines if "==" in line}


def conda_text(name: str) -> str:
    """A conda environment with the pins that `constraints.txt` has now."""
    known = pins(CONSTRAINTS)
    wanted = sorted({normal(package) for extra in CONDA[name] for package in names(extra)})
    before, head, _ = (ENVS / name).read_text().partition("  - pip:\n")
    return before + head + "".join(f"      - {package}=={known[package]}\n" for package in wanted)


def main(arguments: list[str]) -> None:
    """Resolve and write."""
    command = ["uv", "pip", "compile", "pyproject.toml", "--all-extras", "--universal", "--python-version", "3.11"]
    command += ["--no-annotate", "--no-header", "--output-file", CONSTRAINTS, *arguments]
    subprocess.run(list(map(str, command)), check=True, cwd=ENVS.parent)
    # A build of torch for the processor alone is a matter of where one installs from.
    text = re.sub(r"\+cpu\b", "", CONSTRAINTS.read_text())
    CONSTRAINTS.write_text(HEADER + text)
    for name in CONDA:
        (ENVS / name).write_text(conda_text(name))


if __name__ == "__main__":
    main(sys.argv[1:])
