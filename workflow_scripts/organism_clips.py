"""Draw, render and encode one part of the organisms' training clips."""

import numpy as np
import torch

from reprise.job import progress, start
from reprise.organisms.codec import build_codec
from reprise.organisms.dataset import draw_clips, pack, token_set

settings = start(snakemake)

codec = build_codec()
codec.load_state_dict(torch.load(snakemake.input[0]))
clips = draw_clips(settings["n_clips"], settings["seed"], settings["kind"])[settings["part"] :: settings["n_parts"]]
data = pack(list(progress(token_set(codec.eval(), clips), total=len(clips), what="clips")))
np.savez(snakemake.output[0], **data._asdict())
