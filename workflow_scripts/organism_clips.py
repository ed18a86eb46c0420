"""Draw, render and encode one part of the organisms' training clips."""

import numpy as np
import torch

from reprise.organisms.codec import build_codec
from reprise.organisms.dataset import draw_clips, pack, token_set
from reprise.workflow.job import progress, start

settings = start(snakemake)

codec = build_codec()
codec.load_state_dict(torch.load(snakemake.input[0]))
clips = draw_clips(settings["n_clips"], settings["seed"], settings["kind"])[settings["part"] :: settings["n_parts"]]
data = pack(list(progress(token_set(codec.eval(), clips), total=len(clips), what="clips")))
np.savez(snakemake.output[0], **data._asdict())
