"""Continue clips under all conditions of one candidate feature."""

import json
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pandas as pd
import torch

from reprise.checkpoints.hub import sae_folder
from reprise.identity import clip_seed
from reprise.interventions.conditions import KINDS, STEERING_KINDS, Candidate, condition_table
from reprise.interventions.edits import Direction, feature_trajectory
from reprise.interventions.run import run_conditions, teacher_forced_kl
from reprise.models.device import pick_device
from reprise.models.generation import Sampling
from reprise.models.loading import load_identified
from reprise.models.memory import check_memory, free_memory, generation_need, pass_need
from reprise.saes.certificate import require_passed
from reprise.saes.errors import SaeError
from reprise.saes.latents import clip_latents
from reprise.saes.loading import load_sae
from reprise.storage.artifacts import read_array, read_clips, store_of
from reprise.storage.files import read_manifest, write_folder, write_parquet
from reprise.workflow.job import log, progress, start
from reprise.workflow.resume import kept_passes, remove_unfinished, unfinished_folder

# Maximum batch size of a teacher-forced pass. Its logits at all positions need most of the memory.
KL_ROWS = 16

settings = start(snakemake)
inputs, ablation = snakemake.input, settings["ablation"]
identity, spec, certificate = (
    json.loads(Path(p).read_text()) for p in (inputs.model, inputs.candidate, inputs.certificate)
)
require_passed(certificate, see=inputs.certificate)
device = pick_device(snakemake.resources.device)
sae = load_sae(sae_folder(settings["sae"]), device=device)
if sae.digest != certificate["sae_digest"]:
    raise SaeError(f"{settings['sae']} is not the SAE that was certified; run snakemake again to certify it")
sampling, tokens = settings["sampling"], read_array(inputs.tokens, "tokens")
batch_size = sampling["batch_size"]
size = {"n_frames": tokens.shape[-1], "dtype": settings["model"]["dtype"]}
generation = generation_need(identity, **size, guided=sampling["cfg_coef"] != 1)
check_memory(generation, batch_size=batch_size, free=free_memory(device))
check_memory(pass_need(identity, **size, n_logits=2), batch_size=min(batch_size, KL_ROWS), free=free_memory(device))
model = load_identified(settings["model"], identity, device=device)

candidate = Candidate(spec["layer"], spec["feature"], tuple(spec["matched_features"]), spec["local_feature"])
arms = [
    condition_table(
        candidate,
        pd.DataFrame(spec["clips"]),
        ablation["doses"],
        ablation["windows"],
        KINDS,
        prefix_s=ablation["prefix_s"],
        frame_rate_hz=model.frame_rate_hz,
        z_star={int(feature): value for feature, value in spec["z_star"].items()},
    ).assign(arm="ablate")
]
if spec["steered_clips"]:
    steered = condition_table(
        candidate,
        pd.DataFrame(spec["steered_clips"]),
        [1.0],
        ["until_event"],
        STEERING_KINDS,
        prefix_s=ablation["prefix_s"],
        frame_rate_hz=model.frame_rate_hz,
        z_star={spec["feature"]: spec["steer_z_star"]},
    )
    arms.append(steered.assign(arm="steer"))
table = pd.concat(arms, ignore_index=True)
continued = table.drop_duplicates("clip_id")

clips = read_clips(inputs.tokens)
wanted = clips.index[clips["clip_id"].isin(continued["clip_id"])]
baseline = {clips["clip_id"][i]: tokens[i] for i in wanted}
noise_keys = {clip["clip_id"]: clip_seed("generate", clip) for clip in continued.to_dict("records")}
# The activations of each edited feature in the donor clip, if the target is to resample.
donated = {}
asked = table[table["z_star"].isna()]
for manifest in inputs.latents:
    place = {clip_id: i for i, clip_id in enumerate(read_clips([manifest])["clip_id"])}
    for row in asked[asked["donor"].isin(place)].itertuples():
        feature = int(row.edit_feature)
        donated[row.donor, feature] = feature_trajectory(*clip_latents(manifest, place[row.donor]), feature)
direction = Direction(np.array(spec["mean_difference"], np.float32), spec["mean_difference_reference"])
log.info("%d clips, %d rows of %d conditions", len(continued), len(table), table["condition"].nunique())
output = Path(snakemake.output.tokens)


def passes(first: int) -> Iterator[np.ndarray]:
    runs = run_conditions(
        model,
        sae,
        table.iloc[first * batch_size :],
        baseline,
        noise_keys,
        batch_size=batch_size,
        sampling=Sampling(**{key: sampling[key] for key in Sampling._fields}),
        directions={0: direction},
        donated=donated,
        cfg_branches=ablation["cfg_branches"],
        n_frames=tokens.shape[-1],
    )
    return (part for _, part in runs)


digests = [read_manifest(store_of(manifest))["digest"] for manifest in [*inputs.tokens, *inputs.latents]]
kept = unfinished_folder(output, [settings, identity, spec, sae.digest, digests, device, torch.__version__])
made = np.concatenate(
    list(progress(kept_passes(kept, passes), total=-(-len(table) // batch_size), what="continuations"))
)

untouched = {table["clip_id"][i]: made[i] for i in np.flatnonzero(table["kind"] == "untouched")}
if settings["source"] == "audio":
    # The model would not continue as the recording does. So edits are compared with the model's own continuation.
    baseline = untouched
for clip_id, played in untouched.items():
    if not np.array_equal(played, baseline[clip_id]):
        raise RuntimeError(
            f"the untouched row of {clip_id} differs from its baseline, so no edit can be compared with it"
        )
kl = teacher_forced_kl(
    model, sae, table, baseline, batch_size=min(batch_size, KL_ROWS), directions={0: direction}, donated=donated
)
meta = {"candidate": spec, "model": identity, "sae_digest": sae.digest, "settings": ablation}
with write_folder(output, meta=meta) as folder:
    np.save(folder / "tokens.npy", made)
    np.save(folder / "kl.npy", kl)
    write_parquet(folder / "conditions.parquet", table)
remove_unfinished(output)
