"""Write down in a study's folder which corpus it uses, for human readers and `reprise.open_study`."""

from pathlib import Path

from reprise.storage.files import write_json
from reprise.workflow.job import start

settings = start(snakemake)
write_json(Path(snakemake.output[0]), {key: settings[key] for key in ("corpus", "batches", "hooks", "sae_hooks")})
