"""Load the model once and save its facts."""

from pathlib import Path

from reprise.models.codec import codec_lookahead_s, encoder_lookahead_s
from reprise.models.loading import load_model
from reprise.storage.files import write_json
from reprise.workflow.job import start

settings = start(snakemake)
about = settings["model"]
model = load_model(about["name"], backend=about["backend"], dtype=about["dtype"])
lookahead = {"codec_lookahead_s": codec_lookahead_s(model), "encoder_lookahead_s": encoder_lookahead_s(model)}
write_json(Path(snakemake.output[0]), {**about, **model.facts, **lookahead})
