"""Measure in a process of its own: nothing loaded or warmed by another measurement, and threads as asked."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any


def in_fresh_process(module: str, call: str, *, threads: int) -> Any:
    """What a function of `benchmarks.<module>` returns, called in a process of its own on `threads` threads."""
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
    """This process's peak resident memory in MB. Not getrusage's: there a process begins with the peak of the one that
    started it."""
    status = dict(line.split(":", 1) for line in Path("/proc/self/status").read_text().splitlines())
    return int(status["VmHWM"].split()[0]) / 1024
