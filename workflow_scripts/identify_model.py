"""Load the model once, check the study's hooks and clip length against it, and write down what it is."""

from pathlib import Path

from reprise.job import start
from reprise.musicgen import check_fits, codec_lookahead_s, encoder_lookahead_s, load_model
from reprise.stores import write_json

settings = start(snakemake)
about = settings["model"]
model = load_model(about["name"], backend=about["backend"], dtype=about["dtype"])
check_fits(
    model,
    name=about["name"],
    study=settings["study"],
    layers=settings["layers"],
    duration_s=settings["clip_s"],
)
lookahead = {"codec_lookahead_s": codec_lookahead_s(model), "encoder_lookahead_s": encoder_lookahead_s(model)}
write_json(Path(snakemake.output[0]), {**about, **model.facts, **lookahead})
