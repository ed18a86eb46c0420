"""Generation on a processor, against the `generate` of transformers and of audiocraft.

Models of the planner's and of musicgen-small's size, with random weights, guidance and prompts of 16 words, in
float32. Runs of the three take turns, in one process each time for a size and a batch. Tokens are those of the
libraries: tests compare them (tests/unit/models), and `tokens` of benchmarks/gpu.py on a card.
"""

from statistics import median
from typing import Any

import torch

from benchmarks.gpu import (
    N_WORDS,
    RATE_HZ,
    SIZES,
    TINY,
    audiocraft_lm,
    build,
    timed_audiocraft,
    timed_ours,
    timed_transformers,
)
from benchmarks.processes import in_fresh_process
from benchmarks.records import record

MODELS = {"planner": TINY, "musicgen_small": SIZES["small"]}
BATCH_SIZES, N_ROUNDS, THREADS = (8, 64), 3, 2
# A step costs more, the later it is. The planner's clips have 400 frames; a step of the other takes a second.
N_FRAMES = {"planner": 400, "musicgen_small": 24}


def measure(name: str, rows: int) -> dict[str, float]:
    """Median seconds of a generation, by library."""
    size, n_frames = MODELS[name], N_FRAMES[name]
    model = build(size, device="cpu", dtype=torch.float32)
    lm = audiocraft_lm(size, device="cpu", dtype=torch.float32)
    taken: dict[str, list[float]] = {"ours": [], "transformers": [], "audiocraft": []}
    for _ in range(N_ROUNDS):
        taken["ours"].append(timed_ours(model, rows, n_frames))
        taken["transformers"].append(timed_transformers(model, rows, n_frames))
        taken["audiocraft"].append(timed_audiocraft(lm, rows, n_frames))
    return {library: median(seconds) for library, seconds in taken.items()}


def run() -> list[dict[str, Any]]:
    """Records for `results.json`."""
    records = []
    for name in MODELS:
        for rows in BATCH_SIZES:
            taken = in_fresh_process("generation", f"measure({name!r}, {rows})", threads=THREADS)
            for other in ("transformers", "audiocraft"):
                records.append(
                    record(
                        f"generate_cpu_{name}_{rows}_{other}",
                        taken["ours"],
                        taken[other],
                        taken[other] / taken["ours"],
                        "s",
                        N_ROUNDS,
                        f"{rows} clips of {N_FRAMES[name] / RATE_HZ:g} s from a model of {name.replace('_', '-')}'s "
                        f"size, with guidance and prompts of {N_WORDS} words, against {other}'s generate (ratio: "
                        f"times faster; {THREADS} threads)",
                    )
                )
    return records
