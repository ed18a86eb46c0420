"""Labels of one horizon for every clip and time of a study."""

from pathlib import Path

import pandas as pd

from reprise.artifacts import read_clips, read_meta
from reprise.job import log, start
from reprise.labels import horizon_labels
from reprise.stores import write_parquet

settings = start(snakemake)
clips = read_clips(snakemake.input.audio)
events = pd.concat([pd.read_parquet(path) for path in snakemake.input.events], ignore_index=True)
table = horizon_labels(
    events,
    clips,
    tuple(settings["horizon_s"]),
    frame_rate_hz=read_meta(snakemake.input.audio)["model"]["frame_rate_hz"],
    motif_end_s=settings["motif"]["start_s"] + settings["motif"]["duration_s"],
    context_s=settings["context_s"],
    step_s=settings["labels"]["step_s"],
)
usable = table[table["reason"] == ""]
log.info(
    "%d usable rows, %.1f%% positive; reasons: %s",
    len(usable),
    100 * usable["y"].mean(),
    table["reason"].value_counts().to_dict(),
)
write_parquet(Path(snakemake.output[0]), table)
