"""Run benchmarks, write the JSON files of this folder, and write the tables in the README and the docs from them.

python -m benchmarks            all
python -m benchmarks workflow   only benchmarks/workflow.py; the other records stay
python -m benchmarks planning   only benchmarks/planning.py
python -m benchmarks labels     only benchmarks/labels.py; --sections tunes,speed for some sections; --bps-dir FOLDER
                                (or REPRISE_BPS_DIR) for the sonatas, which otherwise stay unchanged; --soundfont FILE
                                (or REPRISE_SOUNDFONT) to play them with a sampled piano too
python -m benchmarks sections   only benchmarks/sections.py: starts of sections, planted and in tunes
python -m benchmarks releases   only benchmarks/releases.py: releases of a tension, planted
python -m benchmarks discovery  only benchmarks/discovery.py: repeated passages, planted, and in movements of --bps-dir
python -m benchmarks screen     only benchmarks/screen.py
python -m benchmarks ablation   only benchmarks/ablation.py
python -m benchmarks generation only benchmarks/generation.py
python -m benchmarks capture    only benchmarks/capture.py
python -m benchmarks true_size  only benchmarks/true_size.py
python -m benchmarks organisms  only benchmarks/organisms.py: are the shipped organisms what they were built to be?
python -m benchmarks scale      only benchmarks/scale.py: a study of 10,000 prompts on 1, 8 and 64 cards, simulated
python -m benchmarks statistics only benchmarks/statistics.py: simulated rates of errors and coverage
python -m benchmarks seeds      only benchmarks/seeds.py: the demo at four sets of seeds, and the measured power
python -m benchmarks candidates only benchmarks/candidates.py: candidates of every kind on models with known answers;
                                --counts 10,10,200 for fewer studies with own SAEs, studies without, and null fits;
                                studies that are in candidates.json are not run again: delete it to begin anew
python -m benchmarks calibration only benchmarks/calibration.py; it goes on after the runs in calibration_runs.json
python -m benchmarks tables     only the tables in the README and in docs/, from the committed JSON files
"""

import argparse
import json
import os
import platform
import sys
from pathlib import Path
from typing import Any

from benchmarks import (
    ablation,
    calibration,
    candidates,
    capture,
    discovery,
    generation,
    labels,
    organisms,
    planning,
    releases,
    scale,
    screen,
    sections,
    seeds,
    statistics,
    true_size,
    workflow,
)
from benchmarks.tables import rewrite_pages
from reprise.verdict.calibration_runs import counted

HERE = Path(__file__).parent
RESULTS, DEMO, LABELS, TARGETS, TRUE_SIZE, SEEDS, STATISTICS, CANDIDATES, SCALE, ORGANISMS = (
    HERE / f"{name}.json"
    for name in (
        *("results", "demo", "labels", "targets", "true_size", "seeds", "statistics", "candidates", "scale"),
        "organisms",
    )
)


def machine() -> str:
    """The machine as text: processor and cores."""
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
    """Put records into `results.json`. They replace records of the same name."""
    known = {r["name"]: r for r in json.loads(RESULTS.read_text())} if RESULTS.exists() else {}
    known |= {r["name"]: r | {"machine": machine()} for r in records}
    RESULTS.write_text(json.dumps(sorted(known.values(), key=lambda r: r["name"]), indent=2) + "\n")


def options(arguments: list[str]) -> argparse.Namespace:
    """Parse the command line."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description="Run benchmarks; all by default.")
    parser.add_argument(
        "wanted",
        nargs="*",
        help="workflow, planning, labels, sections, releases, discovery, screen, ablation, generation, capture, "
        "true_size, organisms, scale, seeds, statistics, candidates, calibration, tables",
    )
    parser.add_argument("--sections", default=",".join(labels.SECTIONS), help="of labels.json, with commas")
    parser.add_argument("--counts", default="10,10,200", help="of candidates.json, with commas")
    parser.add_argument("--bps-dir", type=Path, default=os.environ.get("REPRISE_BPS_DIR"), help="BPS-Motif data set")
    parser.add_argument("--soundfont", type=Path, default=os.environ.get("REPRISE_SOUNDFONT"), help="an .sf2 file")
    return parser.parse_args(arguments)


def read(path: Path) -> dict[str, Any]:
    """A committed JSON object, or {} if the file does not exist yet."""
    return json.loads(path.read_text()) if path.exists() else {}


def write(path: Path, content: dict[str, Any]) -> None:
    """Write a JSON object to be committed."""
    path.write_text(json.dumps(content, indent=2, sort_keys=True) + "\n")


def main(asked: argparse.Namespace) -> None:
    if not asked.wanted or "workflow" in asked.wanted:
        records, demo = workflow.run()
        save(records)
        write(DEMO, demo)
    bps_dir, soundfont = (Path(path) if path else None for path in (asked.bps_dir, asked.soundfont))
    if not asked.wanted or "labels" in asked.wanted:
        for section in asked.sections.split(","):
            records, measured = labels.run(bps_dir=bps_dir, soundfont=soundfont, sections=[section])
            save(records)
            write(LABELS, read(LABELS) | measured)
    if not asked.wanted or "sections" in asked.wanted:
        write(TARGETS, read(TARGETS) | {"section": sections.run()})
    if not asked.wanted or "releases" in asked.wanted:
        write(TARGETS, read(TARGETS) | {"tension": releases.run()})
    if not asked.wanted or "discovery" in asked.wanted:
        known = read(TARGETS)
        write(TARGETS, known | {"recurrence": known.get("recurrence", {}) | discovery.run(bps_dir)})
    for benchmark in (planning, screen, ablation, generation, capture):
        name = benchmark.__name__.removeprefix("benchmarks.")
        if not asked.wanted or name in asked.wanted:
            save(benchmark.run())
    if not asked.wanted or "true_size" in asked.wanted:
        write(TRUE_SIZE, true_size.run())
    if not asked.wanted or "statistics" in asked.wanted:
        write(STATISTICS, statistics.run())
    if not asked.wanted or "organisms" in asked.wanted:
        write(ORGANISMS, organisms.run())
    if not asked.wanted or "scale" in asked.wanted:
        write(SCALE, scale.run())
    if not asked.wanted or "seeds" in asked.wanted:
        write(SEEDS, seeds.run())
    if not asked.wanted or "candidates" in asked.wanted:
        n_own_sae, n_no_sae, n_null = map(int, asked.counts.split(","))
        # It takes hours, so it goes on where it stopped: studies that are in the file are not run again.
        known = read(CANDIDATES)
        for measured in candidates.run(known, n_own_sae=n_own_sae, n_no_sae=n_no_sae, n_null=n_null):
            write(CANDIDATES, measured)
    # Hours, so only where it is asked for.
    if "calibration" in asked.wanted:
        runs = HERE / "calibration_runs.json"
        for records in calibration.run(json.loads(runs.read_text()) if runs.exists() else []):
            runs.write_text(json.dumps(records, indent=2, sort_keys=True) + "\n")
            counts, methods = counted(records)
            write(HERE / "calibration.json", counts)
            write(HERE / "calibration_methods.json", methods)
    rewrite_pages(HERE.parent)


main(options(sys.argv[1:]))
