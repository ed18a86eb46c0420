"""What a job takes, for a cluster that asks beforehand: host memory and minutes, by stage.

Conventions. Megabytes of 1e6 bytes, whole minutes, both with room to spare: a job that takes more is killed. They
grow with the model, the clips of a batch and `generation.batch_size`; a retry gets them times its number. The
constants come from `benchmarks/true_size.json` (a processor, one thread), which a test compares them with; minutes on
a GPU are estimates that were not measured.

Degenerate input: a model whose size is not known beforehand (one that is trained here) is taken to be an embedded one.

The Snakefile imports this at every parse, so it imports nothing heavy.
"""

import math
from collections.abc import Mapping
from typing import Any, NamedTuple

from reprise.config.schema import Study
from reprise.models.memory import TEXT_ENCODER_BYTES, generation_need, pass_need, transformer_weights

# Stages that run the model.
MODEL_STAGES = (
    "identify_model",
    "generate",
    "encode_recordings",
    "activations",
    "measure_sae",
    "ablate",
    "effects",
)
# Python with what the stage imports, and what the stage takes whatever the model, in MB: measured, and a quarter more;
# and the two Snakemakes that start a job on a cluster and are counted with it.
BASE_MB = {"train_sae": 1200, "encode": 2000, "candidates": 800, "probe": 500, "baseline": 600, "report": 1500}
MODEL_BASE_MB, OTHER_BASE_MB, GPU_BASE_MB, SNAKEMAKE_MB = 1100, 500, 3000, 500
EMBEDDED = {"n_layers": 6, "d_model": 128, "n_codebooks": 4, "codebook_size": 256}
EMBEDDED |= {"frame_rate_hz": 25, "sample_rate_hz": 16_000}
# Multiplications and additions a second: one thread of a processor; and seconds a layer and step on a GPU, where a
# step takes as long for few rows as for many.
FLOPS_PER_S, GPU_S_PER_LAYER_AND_STEP = 2e10, 1e-3
# Continuations of one clip in an ablation at the default doses, windows and controls.
CONDITIONS = 48
MARGIN, MINUTES_AT_LEAST = 3.0, 15


class Needs(NamedTuple):
    """What the first attempt of a job asks for."""

    mem_mb: int
    minutes: int


def job_needs(stage: str, study: Study, facts: Mapping[str, Any], *, n_clips: int, on_gpu: bool) -> Needs:
    """Needs of a job of `stage`. facts: of the model (`Family.facts`); n_clips: of the whole study."""
    facts = {**EMBEDDED, **facts}
    if stage in MODEL_STAGES:
        return _of_model(stage, study, facts, n_clips=n_clips, on_gpu=on_gpu)
    mb: float = BASE_MB.get(stage, OTHER_BASE_MB)
    seconds = 0.0
    if stage in ("baseline", "probe", "candidates", "screen", "label"):
        # The stream (or as many numbers) of all clips at about one position a second, a few times over.
        values = n_clips * study.generation.duration_s * facts["d_model"]
        mb += 6 * values * 4 / 1e6
        seconds = values * 1e-5
    elif stage in ("descriptors", "events"):
        seconds = n_clips / study.generation.n_batches * study.generation.duration_s * 0.1
    elif stage == "train_sae":
        asked = study.sae_training
        weights = 2 * facts["d_model"] ** 2 * asked.expansion
        mb += (3 * 2**16 * facts["d_model"] * 2 + 8 * weights * 4) / 1e6
        seconds = asked.n_steps * (asked.batch_size * 6 * weights / FLOPS_PER_S + 0.01)
    return Needs(SNAKEMAKE_MB + math.ceil(mb), _minutes(seconds))


def _of_model(stage: str, study: Study, facts: Mapping[str, Any], *, n_clips: int, on_gpu: bool) -> Needs:
    g = study.generation
    n_frames, guided = round(g.duration_s * facts["frame_rate_hz"]), g.cfg_coef != 1
    asked = {"n_frames": n_frames, "dtype": study.model.dtype}
    weights = transformer_weights(facts)
    generation = generation_need(facts, guided=guided, **asked)
    if stage in ("generate", "ablate"):
        need = generation
    else:
        need = pass_need(facts, **asked, n_hooks=2 * len(study.layers) + 2, n_logits=2 * (stage == "effects"))
    # While it is loaded the language model is there twice, as float32: as it lies in its file, and in its place.
    loading, running = 2 * weights * 4 + TEXT_ENCODER_BYTES, need.of(g.batch_size)
    mb = (GPU_BASE_MB + loading / 1e6) if on_gpu else MODEL_BASE_MB + max(loading, running) / 1e6

    per_batch = n_clips / g.n_batches
    clips = {"generate": per_batch, "encode_recordings": 0, "activations": per_batch, "identify_model": 0}
    n = clips.get(stage, study.certificate.n_clips)
    if stage in ("ablate", "effects"):
        n = min(n_clips, study.ablation.n_clips) * CONDITIONS
    if on_gpu and stage in ("generate", "ablate"):
        seconds = math.ceil(n / g.batch_size) * n_frames * facts["n_layers"] * GPU_S_PER_LAYER_AND_STEP
    else:
        speed = FLOPS_PER_S * (50 if on_gpu else 1)
        seconds = n * (1 + guided) * n_frames * 2 * weights / speed
    # Sound is encoded, decoded and compared on top of that.
    seconds += 0.1 * n * g.duration_s if stage != "activations" else 0
    if stage == "encode_recordings":
        seconds = per_batch * g.duration_s
    return Needs(SNAKEMAKE_MB + math.ceil(mb), _minutes(seconds))


def _minutes(seconds: float) -> int:
    return MINUTES_AT_LEAST + math.ceil(MARGIN * seconds / 60)
