"""Load the model once and write down what it is."""

from pathlib import Path

from reprise.job import start
from reprise.musicgen import codec_lookahead_s, encoder_lookahead_s, load_model
from reprise.stores import write_json

settings = start(snakemake)
about = settings["model"]
model = load_model(about["name"], backend=about["backend"], dtype=about["dtype"])
lookahead = {"codec_lookahead_s": codec_lookahead_s(model), "encoder_lookahead_s": encoder_lookahead_s(model)}
write_json(Path(snakemake.output[0]), {**about, **model.facts, **lookahead})
