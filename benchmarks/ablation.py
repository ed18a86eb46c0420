"""The cost of an ablation suite: every condition of one candidate of the shipped planner, against audiocraft by hand.

Ours: `condition_table` and `run_conditions`, as in the workflow. All kinds of edits, the shipped doses and both
windows are run, in batches of `ROWS` continuations of any clips and conditions.

By hand, as in a notebook: a forward hook applies the same edit to the layer, and audiocraft's own generation
(`LMModel.generate`) continues the clip's prefix. This is measured twice: with one call per condition and clip, and
with one call per condition for `N_CLIPS` clips, as many as a study continues. The prefix is given as tokens, so no
codec runs on either side.

Differences: audiocraft reads the prefix in one pass. Ours reads it step by step, once for each clip, so that an
unedited continuation equals its clip exactly. audiocraft always computes the unconditional branch too. Ours only does
so with guidance, and here there is none. The cost of a call does not depend on the dose, so by hand only `DOSE` is
run. It does not depend on the edited feature and directions either, so these are fixed and not found by a study.

Unit: wall seconds on `THREADS` threads, which is what the workflow gives such a job, in interleaved rounds.
"""

import time
from contextlib import ExitStack
from pathlib import Path
from statistics import median
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
import torch

import reprise.models.audiocraft_setup  # noqa: F401
from audiocraft.modules.conditioners import ConditioningAttributes
from benchmarks.processes import in_fresh_process
from benchmarks.records import record
from reprise.identity import seed_from
from reprise.interventions.conditions import WINDOWS, condition_table
from reprise.interventions.edits import Edits, edit_function, row_edits
from reprise.interventions.run import run_conditions
from reprise.interventions.subspace import of_latents
from reprise.models.adapter import Model
from reprise.models.generation import Sampling, generate_clips
from reprise.models.loading import load_model
from reprise.saes.loading import load_sae
from reprise.saes.sae import Sae

ROOT = Path(__file__).parents[1]
LAYER = 2
SUBSPACES = {
    "target": of_latents("feature", [78]),
    "matched_feature0": of_latents("matched", [5]),
    "local_feature": of_latents("local", [9]),
}
NAMES = {name.rstrip("0"): [name] for name in SUBSPACES}
N_CLIPS = 24
# The shipped settings.
ROWS, SAMPLING, DURATION_S = 64, Sampling(temperature=0.9, top_k=100, cfg_coef=1.0), 16.0
DOSES, DOSE, PREFIX_S, TARGET_S = (0.25, 0.5, 1.0, 2.0), 1.0, 8.0, (9.5, 12.5)
N_CALLS_TOGETHER = 4
N_ROUNDS, THREADS = 3, 2


class Bench(NamedTuple):
    """The planner and its SAE, `N_CLIPS` clips, and their tokens `[codebook, frame]` and noise keys by clip_id."""

    model: Model
    sae: Sae
    clips: pd.DataFrame
    baseline: dict[str, np.ndarray]
    noise_keys: dict[str, tuple[int, ...]]


def set_up() -> Bench:
    """Load the shipped model and SAE, and generate the clips."""
    model = load_model(str(ROOT / "resources" / "planner"))
    sae = load_sae(ROOT / "resources" / "planner" / "sae" / f"layer{LAYER}")
    clips = pd.read_csv(ROOT / "config" / "prompts.tsv", sep="\t").head(N_CLIPS)
    clips = clips.assign(clip_id=clips["prompt_id"], seed=0, target_start_s=TARGET_S[0], target_stop_s=TARGET_S[1])
    keys = {c.clip_id: seed_from("generate", c.prompt, c.seed) for c in clips.itertuples()}
    n_frames = round(DURATION_S * model.frame_rate_hz)
    made = generate_clips(
        model, clips["prompt"].tolist(), list(keys.values()), n_frames=n_frames, sampling=SAMPLING, batch_size=ROWS
    )
    tokens = np.concatenate(list(made)).astype(np.uint16)
    return Bench(model, sae, clips, dict(zip(clips["clip_id"], tokens, strict=True)), keys)


def conditions(bench: Bench, n_clips: int) -> pd.DataFrame:
    """The condition table of the first `n_clips` clips."""
    return condition_table(
        NAMES,
        bench.clips.head(n_clips),
        DOSES,
        WINDOWS,
        layer=LAYER,
        reference="zero",
        second_reference="zero",
        prefix_s=PREFIX_S,
        frame_rate_hz=bench.model.frame_rate_hz,
    )


def some_conditions(table: pd.DataFrame) -> list[pd.DataFrame]:
    """The rows of each condition at `DOSE`, and of those without a dose."""
    chosen = table[(table["dose"] == DOSE) | (table["window"] == "none")]
    return [rows for _, rows in chosen.groupby("condition", sort=False)]


def edits_of(bench: Bench) -> Edits:
    """What the conditions refer to."""
    return Edits(SUBSPACES, {(name, "zero"): np.zeros(1) for name in SUBSPACES}, sae=bench.sae)


def suite(bench: Bench, table: pd.DataFrame, *, rows: int = ROWS, sampling: Sampling = SAMPLING) -> np.ndarray:
    """Run ours on a condition table.

    Parameters
    ----------
    bench : Bench
        Model, SAE and clips.
    table : DataFrame
        The conditions, one row per continuation.
    rows : int
        Continuations in one batch.
    sampling : Sampling
        How tokens are sampled.

    Returns
    -------
    array `[row, codebook, frame]`
        Tokens of every row.
    """
    runs = run_conditions(
        bench.model,
        edits_of(bench),
        table,
        bench.baseline,
        bench.noise_keys,
        batch_size=rows,
        sampling=sampling,
        threads=THREADS,
    )
    return np.concatenate([tokens for _, tokens in runs])


def by_hand(bench: Bench, table: pd.DataFrame, *, sampling: Sampling = SAMPLING) -> np.ndarray:
    """Run audiocraft on the rows of one condition in one call. Parameters and result are those of `suite`."""
    lm = bench.model.lm
    edits = row_edits(table, edits_of(bench), d_model=bench.model.d_model, device=bench.model.device)
    # audiocraft's batch holds the unconditional rows too.
    edit, position = edit_function(edits, bench.sae, guided=True), 0

    def hook(_module: torch.nn.Module, _arguments: tuple, x: torch.Tensor) -> torch.Tensor:
        nonlocal position
        start, position = position, position + x.shape[1]
        return edit(edits.layer, start, x)

    n_prefix = int(table["n_prefix_frames"].iloc[0])
    prefix = np.stack([bench.baseline[c][:, :n_prefix].astype(np.int64) for c in table["clip_id"]])
    prompts = [ConditioningAttributes(text={"description": prompt}) for prompt in table["prompt"]]
    with ExitStack() as stack:
        if edits.stop.any():
            stack.callback(lm.transformer.layers[edits.layer].register_forward_hook(hook).remove)
        tokens = lm.generate(
            torch.from_numpy(prefix),
            prompts,
            max_gen_len=bench.baseline[table["clip_id"].iloc[0]].shape[1],
            temp=sampling.temperature,
            top_k=sampling.top_k,
            cfg_coef=sampling.cfg_coef,
        )
    return tokens.numpy()


def time_suites(n: int) -> dict[str, Any]:
    """Wall seconds per continuation in `n` interleaved rounds, and `n_conditions` and `n_rows` of the suite."""
    bench = set_up()
    table = conditions(bench, N_CLIPS)
    together = some_conditions(table)
    by_hand(bench, together[0].head(1))
    taken: dict[str, Any] = {"ours": [], "by_clip": [], "by_condition": []}
    for i in range(n):
        # Calls by clip: every condition in each round, each round for another clip. Calls by condition: a few
        # conditions in each round, in turn.
        single = [rows.iloc[[i % N_CLIPS]] for rows in together]
        some = [together[(i * N_CALLS_TOGETHER + j) % len(together)] for j in range(N_CALLS_TOGETHER)]
        began = time.perf_counter()
        suite(bench, table)
        taken["ours"].append((time.perf_counter() - began) / len(table))
        for name, calls in (("by_clip", single), ("by_condition", some)):
            began = time.perf_counter()
            n_made = sum(len(by_hand(bench, rows)) for rows in calls)
            taken[name].append((time.perf_counter() - began) / n_made)
    return taken | {"n_conditions": int(table["condition"].nunique()), "n_rows": len(table)}


def run() -> list[dict[str, Any]]:
    """Records for `results.json`."""
    taken = in_fresh_process("ablation", f"time_suites({N_ROUNDS})", threads=THREADS)
    ours = median(taken["ours"])
    suite = (
        f"a continuation of 8 s under an edit: {taken['n_conditions']} conditions of {N_CLIPS} clips, "
        f"{taken['n_rows']} continuations in batches of {ROWS}"
    )

    def against(name: str, of: str, what: str) -> dict[str, Any]:
        plain = median(taken[of])
        return record(
            name, ours, plain, plain / ours, "s", N_ROUNDS, f"{what} (ratio: times faster; {THREADS} threads)"
        )

    return [
        against(
            "ablation_suite",
            "by_clip",
            f"{suite}, against audiocraft's own generation with a hook, a call for each condition of each clip",
        ),
        against(
            "ablation_suite_by_condition",
            "by_condition",
            f"the same, against a call for each condition with {N_CLIPS} clips in it",
        ),
    ]
