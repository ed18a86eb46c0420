"""Load the model once, check the study's hooks and clip length against it, and write down what it is."""

from pathlib import Path

from reprise.decoding import check_supported
from reprise.job import start
from reprise.musicgen import check_fits, codec_lookahead_s, encoder_lookahead_s, load_model
from reprise.stores import write_json

settings = start(snakemake)
model = load_model(settings["model"]["name"], dtype=settings["model"]["dtype"])
check_supported(model)
check_fits(
    model,
    name=settings["model"]["name"],
    study=settings["study"],
    layers=settings["layers"],
    duration_s=settings["clip_s"],
)
facts = {field: getattr(model, field) for field in model._fields if field not in ("lm", "codec")}
lookahead = {"codec_lookahead_s": codec_lookahead_s(model), "encoder_lookahead_s": encoder_lookahead_s(model)}
about = {"name": settings["model"]["name"], "dtype": settings["model"]["dtype"]}
write_json(Path(snakemake.output[0]), {**about, **facts, **lookahead})
