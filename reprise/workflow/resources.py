"""Estimate the memory and time of a job, by stage, for clusters that need them when a job is submitted.

Conventions. Memory is host memory in megabytes of 1e6 bytes; time is in whole minutes. Both have a margin, because a
job that exceeds them is killed. They depend on the model, the clips of a batch and `generation.batch_size`. Each retry
gets them multiplied by the number of the attempt. The constants come from `benchmarks/true_size.json` (one CPU
thread), and a test compares them with it. The minutes on a GPU are estimates, not measurements.

Degenerate input: if the size of a model is not known beforehand (because it is trained here), the size of the embedded
models is used.

The Snakefile imports this at every parse, so it imports nothing heavy.
"""

import math
from collections.abc import Mapping
from typing import Any, NamedTuple

from reprise.candidates.featurizers.sizes import DAS_CLIPS_PER_STEP, DAS_STEPS, N_FOLDS
from reprise.config.schema import OF_SAE, Study
from reprise.models.memory import TEXT_ENCODER_BYTES, generation_need, gradient_need, pass_need, transformer_weights

# Stages that run the model.
MODEL_STAGES = (
    "identify_model",
    "generate",
    "encode_recordings",
    "activations",
    "measure_sae",
    "fit_das",
    "ablate",
    "effects",
    "heads",
    "map",
)
# Memory of Python with the stage's imports, and what the stage needs for any model, in MB: 1.25 times the measured
# value. SNAKEMAKE_MB is for the two Snakemake processes that start a job on a cluster and count towards its memory.
BASE_MB = {"train_sae": 1200, "encode": 2000, "candidates": 800, "probe": 500, "baseline": 600, "report": 1500}
MODEL_BASE_MB, OTHER_BASE_MB, GPU_BASE_MB, SNAKEMAKE_MB = 1100, 500, 3000, 500
EMBEDDED = {"n_layers": 6, "d_model": 128, "n_codebooks": 4, "codebook_size": 256}
EMBEDDED |= {"frame_rate_hz": 25, "sample_rate_hz": 16_000}
# Floating-point operations per second of one CPU thread. On a GPU: seconds per layer and step, because a step takes
# the same time for few and for many rows.
FLOPS_PER_S, GPU_S_PER_LAYER_AND_STEP = 2e10, 1e-3
MARGIN, MINUTES_AT_LEAST = 3.0, 15
# Passes over a clip that one search by gradient takes: each clip takes coordinates twice, and a gradient costs as much
# as two passes.
DAS_PASSES = DAS_STEPS * DAS_CLIPS_PER_STEP * 2 * 3
# Attention heads that are patched. The passes over a clip: a gradient, two to compare, and one for each patched head,
# each over two continuations.
N_PATCHED = 8
HEADS_PASSES = 2 * (3 + 2 + N_PATCHED)
# Clips in which the candidate that passes is mapped.
MAP_CLIPS = 12
# Threads of a job that continues clips under edits, or measures attention heads. Each has a batch of its own.
EDIT_THREADS = 2


class Needs(NamedTuple):
    """Memory and time for the first attempt of a job."""

    mem_mb: int
    minutes: int


def continuations(study: Study, n_clips: int) -> int:
    """The most continuations that the ablation of one candidate makes in a study of `n_clips` clips.

    They are the rows of `reprise.interventions.conditions.condition_table` for a candidate with all controls.
    """
    a = study.ablation
    # The candidate, a random subspace, and controls of the same kind: matched latents and swapped fits.
    dosed = 2 + 2 * a.n_controls
    # Without an edit, with other noise, and with the second target.
    once = 2 + (a.second_target != "none")
    # Necessity has the strongest local latent too, and the edit of the prefix alone.
    necessity = once + len(a.doses) * dosed + 1 + ("prefix_only" in a.windows)
    return min(n_clips, a.n_clips) * necessity + min(n_clips, a.n_sufficiency) * (once + dosed)


def mapped(study: Study, n_clips: int) -> int:
    """How many continuations the map of the candidate that passes takes in a study of `n_clips` clips."""
    step_s, a = study.candidates.map_step_s, study.ablation
    if not step_s:
        return 0
    n_layers = len(study.hook_layers)
    n_windows = math.ceil((a.prefix_s + a.return_window_s[1]) / step_s - 1e-9)
    return min(n_clips, a.n_clips, MAP_CLIPS) * (n_layers + (n_layers > 1)) * n_windows


def edited_candidates(study: Study) -> int:
    """The most candidates that are edited."""
    kinds = [kind for kind in study.candidates.kinds if kind not in OF_SAE or study.saes]
    return study.candidates.max_edited * (len(kinds) + bool(study.candidates.directions))


def job_needs(stage: str, study: Study, facts: Mapping[str, Any], *, n_clips: int, on_gpu: bool) -> Needs:
    """Estimate the needs of a job.

    Parameters
    ----------
    stage
        The stage's name.
    study
        The study.
    facts
        The model's facts (`Family.facts`); missing ones are those of the embedded models.
    n_clips
        Number of clips of the whole study.
    on_gpu
        Whether the model runs on a GPU.

    Returns
    -------
    Needs
        Memory in MB and time in minutes.
    """
    mb, seconds = expected(stage, study, facts, n_clips=n_clips, on_gpu=on_gpu)
    return Needs(SNAKEMAKE_MB + math.ceil(mb), MINUTES_AT_LEAST + math.ceil(MARGIN * seconds / 60))


def expected(stage: str, study: Study, facts: Mapping[str, Any], *, n_clips: int, on_gpu: bool) -> tuple[float, float]:
    """Megabytes without those of Snakemake, and seconds without a margin. Parameters: as in `job_needs`."""
    facts = {**EMBEDDED, **facts}
    if stage in MODEL_STAGES:
        return _of_model(stage, study, facts, n_clips=n_clips, on_gpu=on_gpu)
    mb: float = BASE_MB.get(stage, OTHER_BASE_MB)
    seconds = 0.0
    if stage in ("baseline", "probe", "candidates", "screen", "label"):
        # Several copies of the residual stream (or an array of that size) of all clips, at about one position per
        # second.
        values = n_clips * study.generation.duration_s * facts["d_model"]
        mb += 6 * values * 4 / 1e6
        seconds = values * 1e-5
    elif stage in ("descriptors", "events"):
        seconds = n_clips / study.generation.n_batches * study.generation.duration_s * 0.1
    elif stage == "train_sae":
        training = study.sae_training
        weights = 2 * facts["d_model"] ** 2 * training.expansion
        mb += (3 * 2**16 * facts["d_model"] * 2 + 8 * weights * 4) / 1e6
        seconds = training.n_steps * (training.batch_size * 6 * weights / FLOPS_PER_S + 0.01)
    return mb, seconds


def _of_model(
    stage: str, study: Study, facts: Mapping[str, Any], *, n_clips: int, on_gpu: bool
) -> tuple[float, float]:
    g = study.generation
    n_frames, guided = round(g.duration_s * facts["frame_rate_hz"]), g.cfg_coef != 1
    asked = {"n_frames": n_frames, "dtype": study.model.dtype}
    weights = transformer_weights(facts)
    generation = generation_need(facts, guided=guided, **asked)
    if stage in ("generate", "ablate", "map"):
        need = generation
    elif stage in ("fit_das", "heads"):
        need = gradient_need(facts, **asked, layer=min(study.hook_layers))
    else:
        need = pass_need(
            facts,
            **asked,
            n_hooks=2 * len(study.hook_layers) + 2,
            n_logits=2 * (stage == "effects"),
        )
    # While the language model is loaded, it is in memory twice as float32: once as read from the file, once in place.
    rows = {"fit_das": 2 * DAS_CLIPS_PER_STEP, "heads": 2}.get(stage, g.batch_size)
    rows *= 1 if on_gpu or stage not in ("ablate", "effects", "map", "heads") else EDIT_THREADS
    loading, running = 2 * weights * 4 + TEXT_ENCODER_BYTES, need.of(rows)
    mb = (GPU_BASE_MB + loading / 1e6) if on_gpu else MODEL_BASE_MB + max(loading, running) / 1e6

    per_batch = n_clips / g.n_batches
    clips = {"generate": per_batch, "encode_recordings": 0, "activations": per_batch, "identify_model": 0}
    n = clips.get(stage, study.certificate.n_clips)
    if stage in ("ablate", "effects"):
        n = continuations(study, n_clips)
    elif stage == "fit_das":
        # On all clips, without each fold, and on exchanged labels.
        n = (1 + N_FOLDS + study.ablation.n_controls) * DAS_PASSES
    elif stage == "map":
        n = mapped(study, n_clips)
    elif stage == "heads":
        n = min(n_clips, study.ablation.n_clips) * HEADS_PASSES
    if on_gpu and stage in ("generate", "ablate", "map"):
        seconds = math.ceil(n / g.batch_size) * n_frames * facts["n_layers"] * GPU_S_PER_LAYER_AND_STEP
    else:
        speed = FLOPS_PER_S * (50 if on_gpu else 1)
        seconds = n * (1 + guided) * n_frames * 2 * weights / speed
    # Add the time to encode, decode and compare audio.
    seconds += 0.1 * n * g.duration_s if stage not in ("activations", "fit_das", "heads") else 0
    if stage == "encode_recordings":
        seconds = per_batch * g.duration_s
    return mb, seconds
