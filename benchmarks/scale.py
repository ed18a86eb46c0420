"""How long a study of 10,000 prompts would take on 1, 8 and 64 cards, and how much disk. Simulated, not run.

The model has musicgen-small's size, clips last 30 s, and there are four seeds, five layers with SAEs of 32,768
features, and five horizons. Jobs, and what each waits for, come from a dry run. The edits of candidates, which exist
only after candidates are found, are added: as many as the settings allow.

Seconds of a job that runs the model: from `gpu.json` if a card was measured, otherwise the estimates that jobs ask a
cluster with (reprise/workflow/resources.py). Seconds of other jobs: measured here on one core for a clip, or for few
clips and many more (a line through both). Those of `candidates` and `label` are estimates too, and all others, such as
the report, count as none. Each card comes with `CORES_A_CARD` cores. A job starts as soon as it can, and the one with
the longest chain of jobs behind it first.
"""

import heapq
import json
import re
import tempfile
import time
from collections import defaultdict
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from benchmarks.planning import HORIZONS, LAYERS, N_SEEDS, prepare, snakemake
from benchmarks.processes import in_fresh_process
from reprise.config.schema import Study
from reprise.config.validation import validate
from reprise.workflow.doctor import SaeSize, stores_bytes
from reprise.workflow.resources import edited_candidates, expected

HERE = Path(__file__).parent
N_PROMPTS, N_CARDS, CORES_A_CARD, N_SWAPS = 10_000, (1, 8, 64), 16, 999
FACTS = {"n_layers": 24, "d_model": 1024, "n_codebooks": 4, "codebook_size": 2048}
FACTS |= {"frame_rate_hz": 50, "sample_rate_hz": 32_000}
SAE = SaeSize(d_sae=32_768, k=100)
DURATION_S, RATE_HZ, N_TIMES, N_COMPONENTS = 30.0, 32_000, 20, 128
FEW, MORE = 100, 400
ON_CARD = ("identify_model", "generate", "activations", "measure_sae", "ablate", "effects", "heads", "map")

# Rules that cost what another stage does.
STAGE_OF = {"find_deciding_heads": "heads"}


class Job(NamedTuple):
    """A job: its stage, its seconds, whether it needs a card, and the jobs that it waits for."""

    stage: str
    seconds: float
    on_card: bool
    after: tuple[int, ...]


def read_graph(dot: str) -> dict[int, tuple[str, tuple[int, ...]]]:
    """Jobs from Snakemake's graph: by number, the rule and the jobs that it waits for."""
    rules = {int(job): rule for job, rule in re.findall(r'^\s*(\d+)\[label = "([a-z_]+)', dot, re.MULTILINE)}
    after: dict[int, list[int]] = {job: [] for job in rules}
    for before, job in re.findall(r"^\s*(\d+) -> (\d+)", dot, re.MULTILINE):
        after[int(job)].append(int(before))
    return {job: (rule, tuple(after[job])) for job, rule in rules.items()}


def with_edits(graph: Mapping[int, tuple[str, tuple[int, ...]]], n: int) -> dict[int, tuple[str, tuple[int, ...]]]:
    """The graph with the edits of `n` candidates, and with heads and map of the one that passes."""
    full = dict(graph)
    (candidates,) = (job for job, (rule, _) in graph.items() if rule == "candidates")
    (verdict,) = (job for job, (rule, _) in graph.items() if rule == "verdict")
    (report,) = (job for job, (rule, _) in graph.items() if rule == "report")

    def add(stage: str, *after: int) -> int:
        full[len(full)] = (stage, after)
        return len(full) - 1

    edited = []
    for _ in range(n):
        ablate = add("ablate", candidates)
        edited.append(add("effects", ablate))
    full[verdict] = (full[verdict][0], (*full[verdict][1], *edited))
    last = (add("heads", verdict), add("map", verdict))
    full[report] = (full[report][0], (*full[report][1], *last))
    return full


def simulate(jobs: Mapping[int, Job], *, n_cards: int, n_cores: int) -> float:
    """Seconds until the last job has ended. A job needs one core, and a card if it says so.

    Raises ValueError if jobs wait for each other, or there is no card for a job that needs one.
    """
    before: dict[int, list[int]] = {job: [] for job in jobs}
    for job, of in jobs.items():
        for other in of.after:
            before[other].append(job)
    waits = {job: len(of.after) for job, of in jobs.items()}
    # The longest chain from the start of each job to the end, from the last jobs back.
    behind: dict[int, float] = {}
    order = [job for job, n in waits.items() if n == 0]
    left = dict(waits)
    for job in order:
        for later in before[job]:
            left[later] -= 1
            order += [later] if left[later] == 0 else []
    if len(order) < len(jobs):
        raise ValueError("jobs: some wait for each other")
    for job in reversed(order):
        behind[job] = jobs[job].seconds + max((behind[later] for later in before[job]), default=0.0)
    if n_cards == 0 and any(of.on_card for of in jobs.values()):
        raise ValueError("jobs: some need a card, and there is none")
    ready: dict[bool, list[tuple[float, int]]] = {True: [], False: []}
    for job, n in waits.items():
        if n == 0:
            heapq.heappush(ready[jobs[job].on_card], (-behind[job], job))
    running: list[tuple[float, int]] = []
    now, cards, cores = 0.0, n_cards, n_cores
    while running or any(ready.values()):
        # Jobs on cards first: nothing else can use a card.
        for on_card in (True, False):
            while ready[on_card] and cores and (cards or not on_card):
                _, job = heapq.heappop(ready[on_card])
                cores, cards = cores - 1, cards - on_card
                heapq.heappush(running, (now + jobs[job].seconds, job))
        now, job = heapq.heappop(running)
        cores, cards = cores + 1, cards + jobs[job].on_card
        for later in before[job]:
            waits[later] -= 1
            if waits[later] == 0:
                heapq.heappush(ready[jobs[later].on_card], (-behind[later], later))
    return now


def large_study() -> Study:
    """The study whose jobs are simulated."""
    fields = {
        "model": {"name": "facebook/musicgen-small", "dtype": "float16", "device": "cuda"},
        "seeds": list(range(N_SEEDS)),
        "generation": {
            "duration_s": DURATION_S,
            "cfg_coef": 3.0,
            "top_k": 250,
            "batch_size": 32,
            "n_batches": N_PROMPTS * N_SEEDS // 250,
        },
        "saes": {layer: f"sae/layer{layer}" for layer in LAYERS},
        "horizons": HORIZONS,
        "events": {"motif_start_s": 0, "motif_duration_s": 5},
        "probes": {"n_swaps": N_SWAPS},
    }
    (study,) = validate({"studies": {"large": fields}}, check_files=False).studies.values()
    return study


def clip_seconds() -> dict[str, float]:
    """Seconds that descriptors and events take for a clip of 30 s with a motif that returns, on one core."""
    from reprise.audio.descriptors import causal_descriptors
    from reprise.audio.synth import Note, render
    from reprise.targets.recurrence.target import TARGET

    rng = np.random.default_rng(0)
    notes = [Note(0.25 * i, 0.25, int(60 + rng.integers(24))) for i in range(round(DURATION_S * 4))]
    audio = render(notes, timbre="piano", duration_s=DURATION_S, sample_rate_hz=RATE_HZ)
    settings = large_study().events.model_dump(mode="json")

    def descriptors() -> None:
        causal_descriptors(audio, RATE_HZ, frame_rate_hz=50, context_s=3.0)
        TARGET.so_far(audio, RATE_HZ, TARGET.known(settings), frame_rate_hz=50)

    def events() -> None:
        TARGET.find(audio, RATE_HZ, settings, seed=[0])

    return {"descriptors": shortest(descriptors), "events": shortest(events)}


def probe_seconds(n_clips: int) -> dict[str, float]:
    """Seconds of a baseline and of a probe of `n_clips` clips of musicgen-small's width, on one core."""
    from reprise.probing.probes import Question, fit_question, probe

    rng = np.random.default_rng(1)
    shape = (n_clips, N_TIMES)
    hidden = rng.standard_normal((n_clips, 1))
    y = (hidden + rng.standard_normal(shape) > 1).astype(np.int8)
    x = rng.standard_normal((*shape, 40)).astype(np.float32)
    prompts = np.arange(n_clips) // N_SEEDS
    names = [f"column{i}" for i in range(x.shape[-1])]
    question = Question(y, np.ones(shape, bool), prompts, [f"c{i}" for i in range(n_clips)], x, names)
    r = rng.standard_normal((*shape, FACTS["d_model"])).astype(np.float32)
    r[..., 0] += hidden
    began = time.perf_counter()
    baseline = fit_question(question, seed=0)
    fitted = time.perf_counter()
    probe(question, r, seed=0, baseline=baseline, n_swaps=N_SWAPS)
    return {"baseline": fitted - began, "probe": time.perf_counter() - fitted}


def shortest(work: Callable[[], Any], n: int = 3) -> float:
    """The shortest of a few runs, in seconds."""
    taken = []
    for _ in range(n):
        began = time.perf_counter()
        work()
        taken.append(time.perf_counter() - began)
    return min(taken)


def stage_seconds(study: Study, gpu: Mapping[str, Any], n_clips: int) -> dict[str, float]:
    """Seconds of a job of each stage."""
    per_clip = in_fresh_process("scale", "clip_seconds()", threads=1)
    few, more = (in_fresh_process("scale", f"probe_seconds({n})", threads=1) for n in (FEW, MORE))
    line = {name: (more[name] - few[name]) / (MORE - FEW) for name in few}
    records = {record["name"]: record for record in json.loads((HERE / "results.json").read_text())}
    of_batch = n_clips / study.generation.n_batches
    screened = n_clips * N_TIMES / 100_000 * records["feature_screen"]["ours"] / 1e3 * SAE.d_sae
    encoded = of_batch * DURATION_S * FACTS["frame_rate_hz"] * records["sae_encode_store"]["ours"] / 2004
    found = {name: seconds * of_batch for name, seconds in per_clip.items()}
    found |= {name: few[name] + line[name] * (n_clips - FEW) for name in few}
    found |= {"screen": screened, "encode": encoded}
    for stage in ON_CARD:
        found[stage] = expected(stage, study, FACTS, n_clips=n_clips, on_gpu=True)[1]
    if speeds := gpu.get("generation", {}).get("small", {}).get("ours"):
        # Seconds of music per second.
        found["generate"] = of_batch * DURATION_S / speeds[str(study.generation.batch_size)]
    for stage in ("candidates", "label"):
        found[stage] = expected(stage, study, FACTS, n_clips=n_clips, on_gpu=False)[1]
    return found


def run() -> dict[str, Any]:
    """The content of `scale.json`."""
    gpu_path, study, n_clips = HERE / "gpu.json", large_study(), N_PROMPTS * N_SEEDS
    gpu = json.loads(gpu_path.read_text()) if gpu_path.is_file() else {}
    seconds = stage_seconds(study, gpu, n_clips)
    with tempfile.TemporaryDirectory() as folder:
        prepare(Path(folder), N_PROMPTS)
        began = time.monotonic()
        dot = snakemake(Path(folder), "--dag")
        planned_s = time.monotonic() - began
    graph = with_edits(read_graph(dot), edited_candidates(study))
    jobs = {}
    for number, (rule, after) in graph.items():
        stage = "activations" if rule.startswith("activations") else STAGE_OF.get(rule, rule)
        jobs[number] = Job(stage, seconds.get(stage, 0.0), stage in ON_CARD, after)
    total: dict[str, float] = defaultdict(float)
    for job in jobs.values():
        total[job.stage] += job.seconds / 3600
    return {
        "n_clips": n_clips,
        "n_jobs": len(jobs),
        "planned_s": round(planned_s, 1),
        "card": gpu.get("card", "estimated"),
        "cores_a_card": CORES_A_CARD,
        "job_minutes": {stage: round(s / 60, 2) for stage, s in sorted(seconds.items())},
        "total_hours": {stage: round(hours, 1) for stage, hours in sorted(total.items()) if hours >= 0.05},
        "disk_gb": {
            name: round(size / 1e9) for name, size in stores_bytes(study, FACTS, [SAE] * 5, n_clips=n_clips).items()
        },
        "hours": {str(n): round(simulate(jobs, n_cards=n, n_cores=n * CORES_A_CARD) / 3600, 1) for n in N_CARDS},
    }
