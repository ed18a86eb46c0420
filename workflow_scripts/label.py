"""Compute the labels of one horizon for all clips and times of a study."""

from pathlib import Path

from reprise.review.apply import read_events
from reprise.storage.artifacts import read_clips, read_meta, read_reference_ends_s
from reprise.storage.files import write_parquet
from reprise.targets.labels import horizon_labels
from reprise.workflow.job import log, start

settings = start(snakemake)
meta = read_meta(snakemake.input.audio)
clips = read_clips(snakemake.input.audio)
clips["reference_end_s"] = read_reference_ends_s(
    snakemake.input.clip_summaries, clips["clip_id"], otherwise_s=settings["earliest_s"]
)
reviewed_only = settings["labels"]["reviewed_only"]
events = read_events(snakemake.input.events, snakemake.input.reviews, reviewed_only=reviewed_only)
table = horizon_labels(
    events.assign(reference_end_s=events["reference_start_s"] + events["reference_duration_s"]),
    clips,
    tuple(settings["horizon_s"]),
    frame_rate_hz=meta["model"]["frame_rate_hz"],
    context_s=settings["context_s"],
    step_s=settings["labels"]["step_s"],
    played_from_s=settings["played_from_s"],
    lookahead_positions=meta.get("encoder_lookahead_positions", 0),
)
usable = table[table["reason"] == ""]
log.info(
    "%d usable rows, %.1f%% positive; reasons: %s",
    len(usable),
    100 * usable["y"].mean(),
    table["reason"].value_counts().to_dict(),
)
write_parquet(Path(snakemake.output[0]), table)
