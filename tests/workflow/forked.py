"""Snakemake in a process forked from one that has imported it already: tests ask for hundreds of dry runs.

This module imports nothing of Reprise, for a run imports what lies beside its own Snakefile.
"""

import multiprocessing
import os
import sys
import tempfile
from pathlib import Path

CONTEXT = multiprocessing.get_context("forkserver")
CONTEXT.set_forkserver_preload(["snakemake.cli"])


def snakemake(arguments: list[str], directory: Path) -> tuple[int, str]:
    """(exit status, stdout and stderr) of `snakemake` with these arguments, run in `directory`."""
    with tempfile.TemporaryDirectory() as folder:
        said = Path(folder) / "said"
        process = CONTEXT.Process(target=_run, args=(arguments, directory, dict(os.environ), said))
        process.start()
        process.join()
        assert process.exitcode is not None
        return process.exitcode, said.read_text()


def _run(arguments: list[str], directory: Path, environment: dict[str, str], said: Path) -> None:
    from snakemake.cli import main

    os.environ.clear()
    os.environ.update(environment)
    os.chdir(directory)
    with said.open("w") as file:
        for stream in (sys.stdout, sys.stderr):
            os.dup2(file.fileno(), stream.fileno())
        main(arguments)
