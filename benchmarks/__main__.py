"""Run every benchmark, rewrite `results.json` and `demo.json`, and the README's tables from them.

python -m benchmarks            all
python -m benchmarks workflow   only benchmarks/workflow.py; the other records stay
python -m benchmarks readme     only the README, from what is committed
"""

import json
import os
import platform
import sys
from pathlib import Path
from typing import Any

from benchmarks import workflow
from benchmarks.readme import rewrite_readme

HERE = Path(__file__).parent
RESULTS, DEMO = HERE / "results.json", HERE / "demo.json"


def machine() -> str:
    """The machine in words: processor and cores."""
    cpu = next(
        (
            line.split(":")[1].strip()
            for line in Path("/proc/cpuinfo").read_text().splitlines()
            if "model name" in line
        ),
        platform.processor(),
    )
    return f"{os.cpu_count()} cores, {cpu}"


def save(records: list[dict[str, Any]]) -> None:
    """Put records into `results.json`, in place of those of the same name."""
    known = {r["name"]: r for r in json.loads(RESULTS.read_text())} if RESULTS.exists() else {}
    known |= {r["name"]: r | {"machine": machine()} for r in records}
    RESULTS.write_text(json.dumps(sorted(known.values(), key=lambda r: r["name"]), indent=2) + "\n")


def main(wanted: list[str]) -> None:
    if not wanted or "workflow" in wanted:
        records, demo = workflow.run()
        save(records)
        DEMO.write_text(json.dumps(demo, indent=2, sort_keys=True) + "\n")
    rewrite_readme(HERE.parent / "README.md", json.loads(RESULTS.read_text()), json.loads(DEMO.read_text()))


main(sys.argv[1:])
