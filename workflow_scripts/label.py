"""Labels of one horizon for every clip and time of a study."""

from itertools import chain
from pathlib import Path

import pandas as pd

from reprise.job import start
from reprise.stores import read_manifest

settings = start(snakemake)
manifests = [read_manifest(Path(p.removesuffix(".manifest.json")))["meta"] for p in snakemake.input.audio]
clips = pd.DataFrame(
    chain.from_iterable([clip | {"duration_s": meta["duration_s"]} for clip in meta["clips"]] for meta in manifests)
)
events = pd.concat([pd.read_parquet(path) for path in snakemake.input.events], ignore_index=True)
