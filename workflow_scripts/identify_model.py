"""Load the model once, check the study's hooks and clip length against it, and write down what it is."""

from pathlib import Path

from reprise.config import check_against_model
from reprise.decoding import check_supported
from reprise.job import start
from reprise.musicgen import codec_lookahead_s, load_model
from reprise.stores import write_json

settings = start(snakemake)
model = load_model(settings["model"]["name"])
check_supported(model)
check_against_model(
    settings["study"],
    model=settings["model"]["name"],
    layers=settings["layers"],
    duration_s=settings["clip_s"],
    n_layers=model.n_layers,
    max_duration_s=model.max_duration_s,
)
facts = {field: getattr(model, field) for field in model._fields if field not in ("lm", "codec")}
lookahead_s = codec_lookahead_s(model)
write_json(Path(snakemake.output[0]), {"name": settings["model"]["name"], **facts, "codec_lookahead_s": lookahead_s})
