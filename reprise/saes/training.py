"""Train an SAE on the activations of a hook with SAELens (https://github.com/decoderesearch/SAELens).

Architectures and losses are those of SAELens: `topk` (Gao et al. 2024, arXiv 2406.04093), `batchtopk` (Bussmann et al.
2024, arXiv 2412.06410) or `jumprelu` (Rajamanoharan et al. 2024, arXiv 2407.14435, with Gemma Scope 2's quadratic
penalty on the difference between L0 and k). The first two have a loss for dead features. The optimiser is Adam. This
module adds what SAELens leaves to its caller:

- `activation_batches` reads activations clip by clip into one endless stream. Each epoch has every vector once. The
  order of the clips is drawn for each epoch, and the positions of some clips at a time are shuffled together. The
  content of a batch depends only on its number. So a training that resumes at step n reads the same batches.
- Activations are divided by their spread, so that one learning rate suits every model. The decoder's bias starts at
  their mean, because Adam would take thousands of steps to reach it. Both are measured on the first batch. The factor
  is folded into the weights at the end.
- The learning rate is proportional to 1 / sqrt(d_sae) (Gao et al.), unless one is given. It rises over the first
  twentieth of the steps and falls to zero over the last fifth.
- A checkpoint is written completely or not at all. It holds everything that a step depends on, as SAELens saves it:
  weights, a BatchTopK's threshold, optimiser, schedules, the factor, and how long each feature has been silent. It is
  saved after a step is counted. SAELens' own loop is not used: it saves before the step is counted, does not restore
  which checkpoints are still due, and can leave an incomplete checkpoint. Steps draw no random numbers. So an
  interrupted training gives the same SAE, bit for bit, on the same device. On a processor a job uses one thread: a
  second one gains little, and costs much where another job runs beside it.

Degenerate input: activations that are all equal or not finite are an error, and so is a loss that is not finite.
"""

import json
import math
import os
import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

import reprise.models.library_setup  # noqa: F401  transformers, which SAELens imports, imports torchaudio
from reprise.identity import seed_from
from reprise.storage.files import write_json
from reprise.workflow.job import log, progress
from sae_lens.config import SAETrainerConfig
from sae_lens.registry import get_sae_training_class
from sae_lens.saes.sae import SAEMetadata, TrainingSAE
from sae_lens.training.sae_trainer import SAETrainer

# Number of vectors that are read and shuffled together: 128 MiB of float16 at a width of 1,024.
ROWS_AT_ONCE = 2**16
# Few enough that writing them takes little time, and enough that a killed job loses little work.
N_CHECKPOINTS = 50
# A feature that was silent for this many vectors is dead. It then learns from the error that the others leave.
DEAD_AFTER = 200_000
# For an SAE of 2^14 features (as in dictionary_learning's trainers).
LEARNING_RATE = 2e-4


def activation_batches(
    clips: Mapping[str, Callable[[], np.ndarray]],
    first: int = 0,
    *,
    n_positions: int,
    batch_size: int,
    identity: Sequence[object],
) -> Iterator[np.ndarray]:
    """Batches of shuffled activations, without end.

    Memory is at most three times `ROWS_AT_ONCE` vectors for any number of clips. The last vectors of an epoch share a
    batch with the first of the next.

    Parameters
    ----------
    clips : mapping
        By clip id, a function that reads the clip's activations `[n_positions, d_model]`. Their order has no effect.
    first : int
        Number of the first batch.
    n_positions, batch_size : int
        Positions per clip, and vectors per batch.
    identity : sequence
        Determines the random orders (see `reprise.identity`).

    Yields
    ------
    array `[batch_size, d_model]`
    """
    at_once = max(1, ROWS_AT_ONCE // n_positions)
    epoch, skip = divmod(first * batch_size, len(clips) * n_positions)
    part, skip = divmod(skip, at_once * n_positions)
    waiting: list[np.ndarray] = []
    while True:
        order = sorted(clips, key=lambda clip_id: seed_from(*identity, epoch, clip_id))
        for start in range(part * at_once, len(order), at_once):
            rows = np.concatenate([clips[clip_id]() for clip_id in order[start : start + at_once]])
            shuffled = np.random.default_rng(seed_from(*identity, epoch, start)).permutation(len(rows))
            while skip < len(rows):
                taken = rows[shuffled[skip : skip + batch_size - sum(map(len, waiting))]]
                skip += len(taken)
                waiting.append(taken)
                if sum(map(len, waiting)) == batch_size:
                    yield np.concatenate(waiting)
                    waiting = []
            skip = 0
        epoch, part = epoch + 1, 0


def untrained_sae(
    architecture: str, *, d_in: int, d_sae: int, k: int, seed: int, metadata: Mapping[str, Any]
) -> TrainingSAE[Any]:
    """A SAELens SAE before its first training step.

    Parameters
    ----------
    architecture : str
        `topk`, `batchtopk` or `jumprelu`.
    d_in, d_sae : int
        Width of the activations, and number of features.
    k : int
        Active features per position; for `jumprelu` the target.
    seed : int
        Seed of the initial weights.
    metadata : mapping
        Saved with the SAE.
    """
    sae_class, config_class = get_sae_training_class(architecture)
    fields = {"d_in": d_in, "d_sae": d_sae, "normalize_activations": "expected_average_only_in"}
    if architecture == "jumprelu":
        fields |= {"jumprelu_sparsity_loss_mode": "quadratic", "target_l0": k}
    else:
        fields["k"] = k
    torch.manual_seed(seed)
    return sae_class(config_class(**fields, metadata=SAEMetadata(**metadata)))


def train(
    sae: TrainingSAE[Any],
    batches: Callable[[int], Iterator[np.ndarray]],
    *,
    n_steps: int,
    batch_size: int,
    learning_rate: float | None,
    checkpoints: Path,
    device: str,
) -> TrainingSAE[Any]:
    """Train an SAE, from its newest checkpoint if there is one.

    Parameters
    ----------
    sae : TrainingSAE
        Trained in place.
    batches : function
        Given a number, yields the batches `[batch_size, d_in]` from that number on.
    n_steps, batch_size : int
        Number of steps in total, and vectors per step.
    learning_rate : float or None
        None: proportional to 1 / sqrt(d_sae).
    checkpoints : Path
        Folder of the checkpoints.
    device : str
        Where to train.

    Returns
    -------
    TrainingSAE
        `sae` on the CPU, with the factor folded in, ready for `save_sae`.

    Raises
    ------
    ValueError
        For activations without spread, and for a loss that is not finite.
    """
    d_sae = sae.cfg.d_sae
    rate = learning_rate or LEARNING_RATE * math.sqrt(2**14 / d_sae)
    trainer = SAETrainer(
        SAETrainerConfig(
            total_training_samples=n_steps * batch_size,
            train_batch_size_samples=batch_size,
            lr=rate,
            lr_end=rate,
            lr_warm_up_steps=n_steps // 20,
            lr_decay_steps=n_steps // 5,
            dead_feature_window=math.ceil(DEAD_AFTER / batch_size),
            device=device,
        ),
        sae.to(device),
        data_provider=iter(()),  # each batch is passed to `step` instead
    )
    done = _resume(trainer, checkpoints)
    if done:
        log.info("resuming after step %d of %d", done, n_steps)
    else:
        mean, spread = _mean_and_spread(next(batches(0)))
        trainer.activation_scaler.scaling_factor = 1 / spread
        with torch.no_grad():
            sae.b_dec.copy_(torch.from_numpy(mean / spread))
    every = math.ceil(n_steps / N_CHECKPOINTS)
    steps = zip(range(done, n_steps), batches(done), strict=False)
    for step, batch in progress(steps, total=n_steps - done, what="training steps"):
        output = trainer.step(torch.from_numpy(batch).float())
        trainer.n_training_steps += 1
        if (step + 1) % every == 0 or step + 1 == n_steps:
            about = trainer.build_train_step_log_dict(output, trainer.n_training_samples)
            if not math.isfinite(about["losses/overall_loss"]):
                raise ValueError(
                    f"sae_training.learning_rate: at {rate:.2g} the loss is not finite after step {step + 1}; "
                    "valid: a smaller one"
                )
            log.info(
                "step %d of %d: FVU %.3f, L0 %.1f, %d of %d features silent",
                step + 1,
                n_steps,
                1 - about["metrics/explained_variance"],
                about["metrics/l0"],
                about["sparsity/dead_features"],
                d_sae,
            )
            _save_checkpoint(trainer, checkpoints)
    sae.fold_activation_norm_scaling_factor(trainer.activation_scaler.scaling_factor)
    return sae.to("cpu")


def save_sae(sae: TrainingSAE[Any], folder: Path) -> None:
    """Write a trained SAE in the format of SAELens 6. The same SAE always gives the same bytes."""
    _, cfg = sae.save_inference_model(folder)
    # SAELens takes its fields from a set, so their order differs between processes.
    write_json(cfg, json.loads(cfg.read_text(encoding="utf-8")))


def _mean_and_spread(batch: np.ndarray) -> tuple[np.ndarray, float]:
    """Mean float32 `[d_in]` of vectors `[n, d_in]`, and the root of their mean variance."""
    x = batch.astype(np.float64)
    spread = float(np.sqrt(x.var(axis=0).mean()))
    if not math.isfinite(spread) or spread == 0:
        raise ValueError(f"activations with spread {spread}; valid: finite ones that are not all equal")
    return x.mean(axis=0).astype(np.float32), spread


def _save_checkpoint(trainer: SAETrainer[Any, Any], folder: Path) -> None:
    """Write a checkpoint, then delete the older ones. So after the first there is always a complete one."""
    shutil.rmtree(folder / ".partial", ignore_errors=True)
    trainer.save_checkpoint(".partial", base_path=folder)
    older = _finished(folder)
    os.rename(folder / ".partial", folder / f"{trainer.n_training_steps:09d}")
    for path in older:
        shutil.rmtree(path)


def _resume(trainer: SAETrainer[Any, Any], folder: Path) -> int:
    """Load the newest checkpoint if there is one. Returns the number of steps done."""
    finished = _finished(folder)
    if finished:
        trainer.load_trainer_state(finished[-1])
        trainer.sae.load_weights_from_checkpoint(finished[-1])
    return trainer.n_training_steps


def _finished(folder: Path) -> list[Path]:
    return sorted(folder.glob("[0-9]*"))
