"""Continue clips under all conditions of one candidate."""

import json
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pandas as pd
import torch

from reprise.identity import clip_seed
from reprise.interventions.conditions import condition_table
from reprise.interventions.reading import certified_sae, read_edits
from reprise.interventions.run import run_conditions, teacher_forced_kl
from reprise.models.device import pick_device
from reprise.models.generation import Sampling
from reprise.models.loading import load_identified
from reprise.models.memory import check_memory, free_memory, generation_need, pass_need
from reprise.storage.artifacts import read_array, read_clips, store_of
from reprise.storage.files import read_manifest, write_folder, write_parquet
from reprise.workflow.job import log, progress, start
from reprise.workflow.resume import kept_passes, remove_unfinished, unfinished_folder

# Maximum batch size of a teacher-forced pass. Its logits at all positions need most of the memory.
KL_ROWS = 16

settings = start(snakemake)
inputs, ablation = snakemake.input, settings["ablation"]
identity, spec = (json.loads(Path(p).read_text()) for p in (inputs.model, inputs.candidate))
device = pick_device(snakemake.resources.device)
sae = certified_sae(inputs.certificate, settings["sae"], device=device)
sampling, tokens = settings["sampling"], read_array(inputs.tokens, "tokens")
batch_size = sampling["batch_size"]
size = {"n_frames": tokens.shape[-1], "dtype": settings["model"]["dtype"]}
generation = generation_need(identity, **size, guided=sampling["cfg_coef"] != 1)
check_memory(generation, batch_size=batch_size, free=free_memory(device))
check_memory(pass_need(identity, **size, n_logits=2), batch_size=min(batch_size, KL_ROWS), free=free_memory(device))
model = load_identified(settings["model"], identity, device=device)


def arm(clips: list[dict], other_class: str, kinds: dict[str, list[str]], doses: list[float]) -> pd.DataFrame:
    """The conditions of some clips, whose edits move to the coordinates of the other class."""
    references = {"zero": "zero", "mean": other_class, "resample": other_class, "none": ""}
    return condition_table(
        kinds,
        pd.DataFrame(clips),
        doses,
        ablation["windows"] if doses == ablation["doses"] else ["until_event"],
        layer=spec["layer"],
        reference=references[ablation["target"]],
        second_reference=references[ablation["second_target"]],
        prefix_s=ablation["prefix_s"],
        frame_rate_hz=model.frame_rate_hz,
    )


arms = [arm(spec["clips"], "without", spec["kinds"], ablation["doses"]).assign(arm="necessity")]
if spec["sufficiency_clips"]:
    kinds = {kind: names for kind, names in spec["kinds"].items() if kind != "local_feature"}
    arms.append(arm(spec["sufficiency_clips"], "with", kinds, [1.0]).assign(arm="sufficiency"))
table = pd.concat(arms, ignore_index=True)
continued = table.drop_duplicates("clip_id")

clips = read_clips(inputs.tokens)
wanted = clips.index[clips["clip_id"].isin(continued["clip_id"])]
baseline = {clips["clip_id"][i]: tokens[i] for i in wanted}
noise_keys = {clip["clip_id"]: clip_seed("generate", clip) for clip in continued.to_dict("records")}
edits = read_edits(spec, table, inputs.donated, sae)
log.info("%d clips, %d rows of %d conditions", len(continued), len(table), table["condition"].nunique())
output = Path(snakemake.output.tokens)


def passes(first: int) -> Iterator[np.ndarray]:
    runs = run_conditions(
        model,
        edits,
        table.iloc[first * batch_size :],
        baseline,
        noise_keys,
        batch_size=batch_size,
        sampling=Sampling(**{key: sampling[key] for key in Sampling._fields}),
        cfg_branches=ablation["cfg_branches"],
        n_frames=tokens.shape[-1],
        threads=1 if device == "cuda" else snakemake.threads,
    )
    return (part for _, part in runs)


digests = [read_manifest(store_of(manifest))["digest"] for manifest in [*inputs.tokens, *inputs.donated]]
sae_digest = sae.digest if sae else ""
kept = unfinished_folder(output, [settings, identity, spec, sae_digest, digests, device, torch.__version__])
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
kl = teacher_forced_kl(model, edits, table, baseline, batch_size=min(batch_size, KL_ROWS))
meta = {"candidate": spec, "model": identity, "sae_digest": sae_digest, "settings": ablation}
with write_folder(output, meta=meta) as folder:
    np.save(folder / "tokens.npy", made)
    np.save(folder / "kl.npy", kl)
    write_parquet(folder / "conditions.parquet", table)
remove_unfinished(output)
