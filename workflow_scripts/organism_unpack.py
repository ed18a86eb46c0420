"""Unpack a shipped organism. The training of others starts from its parts."""

from pathlib import Path

import torch

from reprise.models.loading import load_model
from reprise.workflow.job import start

start(snakemake)
model = load_model(str(Path(snakemake.input.lm).parent))
torch.save(model.codec.state_dict(), snakemake.output.codec)
torch.save(model.lm.state_dict(), snakemake.output.lm)
