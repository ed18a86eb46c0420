"""Take the shipped improviser apart: what a clockwork and a loop start from."""

from pathlib import Path

import torch

from reprise.models.loading import load_model
from reprise.workflow.job import start

start(snakemake)
model = load_model(str(Path(snakemake.input.lm).parent))
torch.save(model.codec.state_dict(), snakemake.output.codec)
torch.save(model.lm.state_dict(), snakemake.output.lm)
