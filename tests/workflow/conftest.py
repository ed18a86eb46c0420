"""A tiny study on the shipped planner, run once for all workflow tests."""

import hashlib
import os
import runpy
import shutil
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from types import SimpleNamespace

import pytest
import yaml
from filelock import FileLock

from reprise.config.corpora import corpus_name
from reprise.config.validation import load_config
from tests.places import ROOT
from tests.workflow import forked

# Python reads it when it starts, so a forked process would not notice another value.
PATH_AT_START = os.environ.get("PYTHONPATH")


def snakemake(directory: Path, *arguments: str, check: bool = True) -> str:
    """Run Snakemake on the project's Snakefile in `directory`; returns stdout and stderr together."""
    asked = ["--snakefile", ROOT / "Snakefile", "--directory", directory]
    asked += ["--configfile", directory / "config.yaml", *arguments]
    asked = list(map(str, asked))
    # A forked process does not run what is registered for its exit, as a real run must.
    if "--dry-run" in arguments and os.environ.get("PYTHONPATH") == PATH_AT_START:
        code, output = forked.snakemake(asked, directory)
    else:
        command = [sys.executable, "-m", "snakemake", *asked]
        done = subprocess.run(command, capture_output=True, text=True, cwd=directory)
        code, output = done.returncode, done.stdout + done.stderr
    assert code == 0 or not check, output
    return output


class Named(dict):
    """What Snakemake gives a script under a name, as an attribute, or by its number."""

    __getattr__ = dict.__getitem__

    def __missing__(self, key: object) -> object:
        if isinstance(key, int):
            return list(self.values())[key]
        raise KeyError(key)


def run_script(
    rule: str,
    log: Path,
    inputs: Mapping,
    outputs: Mapping,
    wildcards: Mapping | None = None,
    params: Mapping | None = None,
    **settings: object,
) -> None:
    """One job of a rule as Snakemake runs it, but in this process, which has imported everything already."""
    job = SimpleNamespace(
        params=SimpleNamespace(settings=settings, **(params or {})),
        input=Named(inputs),
        output=Named(outputs),
        resources=Named(device="cpu"),
        log=[str(log)],
        threads=1,
        rule=rule,
        wildcards=Named(wildcards or {}),
    )
    runpy.run_path(str(ROOT / "workflow_scripts" / f"{rule}.py"), init_globals={"snakemake": job})


def jobs(output: str) -> dict[str, int]:
    """How many jobs of each rule a dry run's last table lists; empty when there is nothing to do."""
    if "Job stats:" not in output:
        assert "Nothing to be done" in output, output
        return {}
    table = output.rsplit("Job stats:", 1)[1].split("\n\n")[0].splitlines()
    rows = [line.split() for line in table if line.strip() and not line.startswith(("job ", "---"))]
    return {name: int(count) for name, count in rows if name not in ("all", "total")}


def tiny_config() -> dict:
    planner = ROOT / "resources" / "planner"
    return {
        "studies": {"tiny": {"model": {"name": str(planner)}, "saes": {2: str(planner / "sae" / "layer2")}}},
        "defaults": {
            "prompts": "prompts.tsv",
            "seeds": [0, 1],
            "generation": {"n_batches": 2, "batch_size": 8},
            "horizons": {"local": [0.5, 2], "long": [4, 8]},
            "certificate": {"n_clips": 4},
            "events": {"n_surrogates": 19},
            "probes": {"n_swaps": 79, "n_bootstrap": 100, "n_folds": 2},
            "ablation": {"n_clips": 2, "doses": [1.0]},
        },
    }


def corpus_of(directory: Path, study: str = "tiny") -> Path:
    """Where the clips and activations lie that the study in `directory` uses."""
    config = load_config(directory / "config.yaml", base_dir=directory)
    return directory / "results" / "corpora" / corpus_name(config.studies[study])


def manifests(directory: Path, kind: str, study: str = "tiny") -> list[str]:
    """Manifests of all batches of one kind of store, the study's own or its corpus'."""
    folders = corpus_of(directory, study) / kind, directory / "results" / study / kind
    return sorted(str(path) for folder in folders for path in folder.glob("b*.manifest.json"))


def digests(directory: Path) -> dict[str, str]:
    """Every file that a study leaves, but logs, times and the page that tells times."""
    folders = [directory / "results" / "tiny", directory / "results" / "corpora"]
    files = [path for folder in folders for path in folder.rglob("*") if path.is_file() and "review" not in path.parts]
    return {str(f.relative_to(directory)): hashlib.sha256(f.read_bytes()).hexdigest() for f in files}


def write_config(directory: Path, config: dict) -> None:
    (directory / "config.yaml").write_text(yaml.safe_dump(config))


@pytest.fixture(scope="session")
def shared_folder(tmp_path_factory, worker_id):
    """A temporary folder that all processes of this test run share."""
    base = tmp_path_factory.getbasetemp()
    return base if worker_id == "master" else base.parent


@pytest.fixture(scope="session")
def finished(tmp_path_factory, shared_folder):
    """The directory of a finished tiny study. The study runs once; every other test process gets a copy."""
    directory, original = tmp_path_factory.mktemp("tiny"), shared_folder / "finished"
    with FileLock(original.with_suffix(".lock")):
        if not original.exists():
            prompts = (ROOT / "config" / "prompts.tsv").read_text().splitlines()
            (directory / "prompts.tsv").write_text("\n".join([prompts[0], *prompts[1:49:6]]) + "\n")
            write_config(directory, tiny_config())
            snakemake(directory, "--cores", "2")
            shutil.copytree(directory, original, symlinks=True)
        else:
            shutil.copytree(original, directory, symlinks=True, dirs_exist_ok=True)
    return directory


@pytest.fixture
def own_copy(finished, tmp_path):
    """A copy of the finished study, for a test that runs more in it: the other tests must not see what it leaves."""
    return shutil.copytree(finished, tmp_path / "study", symlinks=True)


@pytest.fixture
def planner_files(shared_folder):
    """The shipped planner's files, for one test at a time, because a test may depend on or change their modification
    times. The times are restored afterwards."""
    files = [path for path in (ROOT / "resources/planner").rglob("*") if path.is_file()]
    with FileLock(shared_folder / "planner_files.lock"):
        times = {path: path.stat() for path in files}
        yield files
        for path, when in times.items():
            os.utime(path, ns=(when.st_atime_ns, when.st_mtime_ns))


@pytest.fixture
def reconfigured(finished):
    """Call with a changed configuration to learn what would rerun; the study's own comes back afterwards."""

    def dry_run(config: dict) -> dict[str, int]:
        write_config(finished, config)
        return jobs(snakemake(finished, "--dry-run", "--cores", "2"))

    yield dry_run
    write_config(finished, tiny_config())
