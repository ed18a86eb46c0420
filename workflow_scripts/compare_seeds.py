"""How many latents of a trained SAE come back in SAEs that were trained from other seeds?"""

from pathlib import Path

import pandas as pd

from reprise.saes.loading import load_sae
from reprise.saes.seed_stability import best_cosines
from reprise.storage.artifacts import store_of
from reprise.storage.files import write_parquet
from reprise.workflow.job import start

start(snakemake)
first, *others = (load_sae(store_of(manifest)).W_dec.cpu().numpy() for manifest in snakemake.input.saes)
tables = [
    pd.DataFrame({"latent": range(len(first)), "seed": seed, "cosine": best_cosines(first, other)})
    for seed, other in enumerate(others, start=1)
]
write_parquet(Path(snakemake.output[0]), pd.concat(tables, ignore_index=True))
