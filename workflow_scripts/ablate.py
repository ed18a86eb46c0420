"""Continue clips under every condition of one candidate."""

import json
from pathlib import Path

import numpy as np
import pandas as pd

from reprise.artifacts import read_array, read_clips
from reprise.decoding import Sampling
from reprise.device import pick_device
from reprise.identity import seed_from
from reprise.interventions import KINDS, Candidate, Direction, condition_table, run_conditions
from reprise.job import log, progress, start
from reprise.musicgen import load_identified
from reprise.sae import SaeError, load_sae
from reprise.stores import write_folder, write_parquet

settings = start(snakemake)
inputs, ablation = snakemake.input, settings["ablation"]
identity, spec, certificate = (
    json.loads(Path(p).read_text()) for p in (inputs.model, inputs.candidate, inputs.certificate)
)
device = pick_device(snakemake.resources.device)
model = load_identified(settings["model"]["name"], identity, device=device)
sae = load_sae(Path(settings["sae"]), device=device)
if sae.digest != certificate["sae_digest"]:
    raise SaeError(f"{settings['sae']} is not the SAE that was certified; run snakemake again so that it notices")

chosen = pd.DataFrame(spec["clips"])
clips = read_clips(inputs.tokens)
wanted = clips.index[clips["clip_id"].isin(chosen["clip_id"])]
tokens = read_array(inputs.tokens, "tokens")
baseline = {clips["clip_id"][i]: tokens[i] for i in wanted}
noise_keys = {c.clip_id: seed_from("generate", c.prompt, c.seed) for c in chosen.itertuples()}
candidate = Candidate(spec["layer"], spec["feature"], tuple(spec["matched_features"]))
table = condition_table(
    candidate,
    chosen,
    ablation["doses"],
    ablation["windows"],
    KINDS,
    prefix_s=ablation["prefix_s"],
    frame_rate_hz=model.frame_rate_hz,
    z_star={int(feature): value for feature, value in spec["z_star"].items()},
)
direction = Direction(np.array(spec["mean_difference"], np.float32), spec["mean_difference_reference"])
sampling = settings["sampling"]
rows = sampling["rows"]
log.info("%d clips under %d conditions", len(chosen), table["condition"].nunique())
runs = run_conditions(
    model,
    sae,
    table,
    baseline,
    noise_keys,
    rows=rows,
    sampling=Sampling(**{key: sampling[key] for key in Sampling._fields}),
    directions={0: direction},
    halves=ablation["halves"],
)
parts = list(progress(runs, total=-(-len(table) // rows), what="continuations"))
made = np.concatenate([part for _, part in parts])

untouched = np.flatnonzero(table["kind"] == "untouched")
for i in untouched:
    if not np.array_equal(made[i], baseline[table["clip_id"][i]]):
        raise RuntimeError(
            f"the untouched row of {table['clip_id'][i]} differs from its baseline, so no edit can be compared with it"
        )
meta = {"candidate": spec, "model": identity, "sae_digest": sae.digest, "settings": ablation}
with write_folder(Path(snakemake.output.tokens), meta=meta) as folder:
    np.save(folder / "tokens.npy", made)
    write_parquet(folder / "conditions.parquet", table)
