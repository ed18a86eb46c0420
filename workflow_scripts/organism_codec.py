"""Train the organisms' codec. An interrupted training continues from its checkpoint."""

from pathlib import Path

import torch

from reprise.organisms.codec import train_codec
from reprise.workflow.job import log, start

settings = start(snakemake, threads=snakemake.threads)
output = Path(snakemake.output[0])


def report(step: int, loss: float) -> None:
    if step % 50 == 0 or step + 1 == settings["codec_steps"]:
        log.info("step %d of %d: loss %.4f", step, settings["codec_steps"], loss)


codec = train_codec(
    steps=settings["codec_steps"],
    seed=settings["seed"],
    checkpoint=Path("results/organisms/checkpoints/codec.pt"),
    on_step=report,
)
torch.save(codec.state_dict(), output)
