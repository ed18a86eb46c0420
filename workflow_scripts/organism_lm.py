"""Train the language model of the base or of one organism. An interrupted training continues from its checkpoint."""

from pathlib import Path

import torch

from reprise.organisms.dataset import load
from reprise.organisms.lm import train_lm
from reprise.workflow.job import log, start

settings = start(snakemake, threads=snakemake.threads)


def report(step: int, losses: dict[str, float]) -> None:
    if step % 25 == 0 or step + 1 == settings["steps"]:
        log.info("step %d of %d: %s", step, settings["steps"], ", ".join(f"{k} {v:.4f}" for k, v in losses.items()))


base = snakemake.input.get("base")
lm = train_lm(
    settings["objective"],
    load(snakemake.input.clips),
    steps=settings["steps"],
    batch=settings["lm_batch"],
    seed=settings["seed"],
    start_from=torch.load(str(base)) if base else None,
    checkpoint=Path(f"results/organisms/checkpoints/{settings['objective']}.pt"),
    on_step=report,
)
torch.save(lm.state_dict(), snakemake.output[0])
