"""Train an SAE on the activations of a hook with SAELens (https://github.com/decoderesearch/SAELens).

The maths is SAELens': `topk` (Gao et al. 2024, arXiv 2406.04093), `batchtopk` (Bussmann et al. 2024, arXiv
2412.06410) or `jumprelu` (Rajamanoharan et al. 2024, arXiv 2407.14435, with Gemma Scope 2's quadratic penalty on how
far L0 is from k), the first two with a loss for dead features, and Adam. Around it stands what SAELens leaves to its
caller:

- `activation_batches` reads activations clip by clip into one stream without end. In an epoch every vector comes
  once: clips in an order drawn for that epoch, the positions of some clips at a time shuffled together. What is in
  a batch follows from its number, so a training that goes on at step n reads what it would have read.
- Activations are divided by their spread, so that one learning rate serves every model, and the decoder's bias
  starts at their mean: Adam would take thousands of steps to get there. Both are measured on the first batch; the
  factor ends up folded into the weights.
- The learning rate falls with the size of the SAE, as 1 / sqrt(d_sae) (Gao et al.), unless one is given; it rises over
  the first twentieth of the steps and falls to zero over the last fifth.
- A checkpoint is written whole or not at all, and holds everything that a step depends on: SAELens' own parts
  (weights, a BatchTopK's threshold, optimiser, schedules, the factor, how long each feature has been silent), saved
  when a step is over. SAELens' own loop saves them one count earlier, does not restore which checkpoints are still to
  come, and can leave half of one; its loop is not used. Steps draw no random numbers. So the SAE is the same to the
  last bit whether or not its training was cut off (on the same device and threads).

Degenerate input: activations that are all equal, or not finite, are an error, and so is a loss that becomes so.
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

# Vectors that are read and shuffled together: 128 MiB of float16 at a width of 1,024.
ROWS_AT_ONCE = 2**16
# So few that writing them costs nothing, so many that a kill costs little.
N_CHECKPOINTS = 50
# A feature that was silent for so many vectors is dead: it learns from what the living ones leave over.
DEAD_AFTER = 200_000
# Of an SAE of 2^14 features (as in dictionary_learning's trainers).
LEARNING_RATE = 2e-4


def activation_batches(
    clips: Mapping[str, Callable[[], np.ndarray]],
    first: int = 0,
    *,
    n_positions: int,
    batch_size: int,
    identity: Sequence[object],
) -> Iterator[np.ndarray]:
    """Batches `[batch_size, d_model]` of shuffled activations without end, beginning with number `first`.

    clips: by clip id, what reads its activations `[n_positions, d_model]`. identity: what orders are drawn from; the
    clips' order in the mapping bears on nothing. Memory is at most three times `ROWS_AT_ONCE` vectors, however many
    clips there are; the last vectors of an epoch share a batch with the first of the next.
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
    """An SAE of SAELens' as training begins; `metadata` is saved with it."""
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
    """Train `sae` in place, from the newest checkpoint in the folder `checkpoints` if there is one.

    batches: given a number, the batches `[batch_size, d_in]` from that one on. learning_rate: None for the one that
    suits d_sae. Returns it on the CPU, with the factor folded in, ready for `save_sae`.
    Raises ValueError for activations without spread and for a loss that is not finite.
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
        data_provider=iter(()),  # batches are handed to it one by one
    )
    done = _resume(trainer, checkpoints)
    if done:
        log.info("goes on after step %d of %d", done, n_steps)
    else:
        mean, spread = _mean_and_spread(next(batches(0)))
        trainer.activation_scaler.scaling_factor = 1 / spread
        with torch.no_grad():
            sae.b_dec.copy_(torch.from_numpy(mean / spread))
    every = math.ceil(n_steps / N_CHECKPOINTS)
    steps = zip(range(done, n_steps), batches(done), strict=False)
    for step, batch in progress(steps, total=n_steps - done, what="steps of training"):
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
    """Write a trained SAE in SAELens 6's form: the same SAE, the same bytes."""
    _, cfg = sae.save_inference_model(folder)
    # SAELens takes its fields from a set, whose order changes from process to process.
    write_json(cfg, json.loads(cfg.read_text(encoding="utf-8")))


def _mean_and_spread(batch: np.ndarray) -> tuple[np.ndarray, float]:
    """Mean float32 `[d_in]` of vectors `[n, d_in]`, and the root of their mean variance."""
    x = batch.astype(np.float64)
    spread = float(np.sqrt(x.var(axis=0).mean()))
    if not math.isfinite(spread) or spread == 0:
        raise ValueError(f"activations with spread {spread}; valid: finite ones that are not all equal")
    return x.mean(axis=0).astype(np.float32), spread


def _save_checkpoint(trainer: SAETrainer[Any, Any], folder: Path) -> None:
    """Write where the training is, then drop older checkpoints: at any time one that is whole is there."""
    shutil.rmtree(folder / ".partial", ignore_errors=True)
    trainer.save_checkpoint(".partial", base_path=folder)
    older = _finished(folder)
    os.rename(folder / ".partial", folder / f"{trainer.n_training_steps:09d}")
    for path in older:
        shutil.rmtree(path)


def _resume(trainer: SAETrainer[Any, Any], folder: Path) -> int:
    """Load the newest checkpoint, if there is one; how many steps are done."""
    finished = _finished(folder)
    if finished:
        trainer.load_trainer_state(finished[-1])
        trainer.sae.load_weights_from_checkpoint(finished[-1])
    return trainer.n_training_steps


def _finished(folder: Path) -> list[Path]:
    return sorted(folder.glob("[0-9]*"))
