"""Train one organism's language model; an interrupted training goes on from its checkpoint."""

from pathlib import Path

import torch

from reprise.job import log, start
from reprise.organisms.dataset import load
from reprise.organisms.lm import train_lm

settings = start(snakemake)  # noqa: F821


def report(step: int, losses: dict[str, float]) -> None:
    if step % 25 == 0 or step + 1 == settings["steps"]:
        log.info("step %d of %d: %s", step, settings["steps"], ", ".join(f"{k} {v:.4f}" for k, v in losses.items()))


lm = train_lm(
    settings["organism"],
    load(snakemake.input.clips),  # noqa: F821
    steps=settings["steps"],
    batch=settings["batch"],
    seed=settings["seed"],
    checkpoint=Path(f"results/organisms/checkpoints/{settings['organism']}.pt"),
    on_step=report,
)
torch.save(lm.state_dict(), snakemake.output[0])  # noqa: F821
