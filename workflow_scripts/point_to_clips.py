"""Say which clips a study uses, for whoever reads its folder."""

from pathlib import Path

from reprise.job import start
from reprise.stores import write_json

settings = start(snakemake)
write_json(Path(snakemake.output[0]), {key: settings[key] for key in ("corpus", "batches", "hooks")})
