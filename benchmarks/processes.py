"""Measure in a new process, with a given number of threads. So no other measurement has loaded or warmed anything."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any


def in_fresh_process(module: str, call: str, *, threads: int) -> Any:
    """Call a function of `benchmarks.<module>` in a new process, and return its result (through JSON).

    call: the call as code, such as `run(3)`. threads: number of threads of numeric libraries.
    """
    code = f"import json; from benchmarks import {module}; print(json.dumps({module}.{call}))"
    limits = {f"{name}_NUM_THREADS": str(threads) for name in ("OMP", "OPENBLAS", "MKL", "NUMBA")}
    done = subprocess.run(
        [sys.executable, "-c", code],
        check=True,
        stdout=subprocess.PIPE,
        text=True,
        cwd=Path(__file__).parents[1],
        env=os.environ | limits,
    )
    return json.loads(done.stdout.splitlines()[-1])


def peak_memory_mb() -> float:
    """This process's peak resident memory in MB.

    It does not come from getrusage, where a process starts with the peak of its parent.
    """
    status = dict(line.split(":", 1) for line in Path("/proc/self/status").read_text().splitlines())
    return int(status["VmHWM"].split()[0]) / 1024
