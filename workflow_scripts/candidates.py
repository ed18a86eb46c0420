"""Choose the candidate features, confirm them on held-out prompts, and specify their ablations."""

import json
from pathlib import Path

import numpy as np
import pandas as pd

from reprise.candidates.clips import clips_to_continue, donors, reference_before, reference_of_event, with_event
from reprise.candidates.confirmation import COLUMNS, confirm
from reprise.candidates.controls import fit_edits, fit_layer
from reprise.candidates.screen import false_discovery
from reprise.candidates.selection import candidate_name, rank_features, strongest_local_feature
from reprise.checkpoints.hub import sae_folder
from reprise.identity import seed_from, stable_fraction
from reprise.probing.questions import read_question
from reprise.review.apply import read_events
from reprise.saes.latents import read_latents
from reprise.storage.artifacts import read_array, read_clips, read_meta, read_reference_ends_s
from reprise.storage.files import write_json, write_parquet
from reprise.targets.labels import label_grid, without_local
from reprise.workflow.job import log, start

settings = start(snakemake)
inputs, ablation = snakemake.input, settings["ablation"]
layers = {int(layer): path for layer, path in settings["saes"].items()}
tables = pd.concat([pd.read_parquet(path) for path in inputs.screens], ignore_index=True)
tables["q"] = false_discovery(tables["p"].where(tables["tested"]))
longer = [settings["horizons"][role] for role in settings["longer_roles"]]
ranked = rank_features(tables, fdr=settings["screen"]["fdr"], horizons=longer)
log.info("%d features pass the screen at %s", len(ranked), longer)

clips = read_clips(inputs.tokens)
confirmation_clips = clips["prompt_id"].map(stable_fraction).to_numpy() < settings["screen"]["confirm_fraction"]
prefix_s = ablation["prefix_s"]
window = [prefix_s + s for s in ablation["return_window_s"]]
events = read_events(inputs.events, inputs.reviews, reviewed_only=settings["reviewed_only"])
references = reference_of_event(events, clips["clip_id"], start_s=window[0], stop_s=window[1], prefix_s=prefix_s)
has_event = clips["clip_id"].isin(references["clip_id"]).to_numpy()
# Clips for which it is unknown whether they return are not compared with anything.
known = has_event | ~with_event(events, clips["clip_id"], start_s=window[0], stop_s=window[1], which="unknown")
# Include events that refer to something after the prefix. Such clips count neither as clips with an event nor as clips
# without one.
event_somehow = has_event | with_event(events, clips["clip_id"], start_s=window[0], stop_s=window[1])
continued = clips_to_continue(clips, has_event, confirmation_clips, ablation["n_clips"])
continued = continued.assign(target_start_s=window[0], target_stop_s=window[1]).merge(references, on="clip_id")


def manifests(paths: list[str], layer: int) -> list[str]:
    return [path for path in paths if f"/layer{layer}/" in path]


# Positions at which the model could hold a plan: after the reference (and the context in which the baseline hears it)
# and before the event. In a recording, the tokens before a position already have information about what follows.
frame_rate_hz = 1 / read_meta(inputs.activations)["seconds_per_position"]
lookahead_positions = read_meta(inputs.tokens).get("encoder_lookahead_positions", 0)
reference_end_s = read_reference_ends_s(inputs.clip_summaries, clips["clip_id"], otherwise_s=settings["earliest_s"])
planned_from = np.rint((reference_end_s + settings["context_s"]) * frame_rate_hz) - lookahead_positions
stop = round(prefix_s * frame_rate_hz) - lookahead_positions
positions = np.arange(int(min(np.nanmin(planned_from, initial=stop), stop)), stop)
could_plan = positions >= planned_from[:, None]
known &= could_plan.any(axis=1)
without_event = known & ~event_somehow
if ablation["target"] == "resample":
    # The donors' activations, like all choices, come from the screened prompts.
    continued = continued.assign(donor=donors(continued, clips, without_event & ~confirmation_clips)).dropna(
        subset="donor", ignore_index=True
    )
# Clips without an event have no row that gives the reference. The clip summaries say where it ends.
own_end_s = read_reference_ends_s(inputs.clip_summaries, clips["clip_id"], otherwise_s=np.nan)
own = reference_before(clips["clip_id"], own_end_s, duration_s=settings["reference_s"], prefix_s=prefix_s)
has_own = clips["clip_id"].isin(own["clip_id"]).to_numpy()
steered = clips_to_continue(clips, without_event & has_own, confirmation_clips, ablation["n_steered"])
steered = steered.assign(target_start_s=window[0], target_stop_s=window[1]).merge(own, on="clip_id")
labels = {h: pd.read_parquet(p) for h, p in zip(settings["horizons"].values(), inputs.labels, strict=True)}
local_labels = labels[settings["horizons"]["local"]]
grids = {h: label_grid(without_local(labels[h], local_labels), clips["clip_id"]) for h in longer}

# Everything that is chosen or fitted uses the screened prompts. Everything that is reported uses the other prompts.
fitted = known & ~confirmation_clips
comparable = len(continued) > 0 and (fitted & has_event).any() and (fitted & ~has_event).any()


def values_of(layer: int, feature: int, horizon: str) -> np.ndarray:
    grid = grids[horizon]
    found = read_latents(manifests(inputs.latents, layer), grid.positions)[:, [feature]]
    return found.toarray().reshape(len(clips), len(grid.positions))


tried = confirm(
    ranked,
    {
        h: read_question(inputs.descriptors, clips, grids[h])
        for h in ranked.head(settings["screen"]["max_tried"])["horizon"].unique()
    },
    values_of,
    confirmation_clips,
    alpha=settings["alpha"],
    max_tried=settings["screen"]["max_tried"],
    seed_of=lambda horizon: seed_from("confirm", settings["study"], horizon)[0],
)
for row in tried.itertuples():
    log.info(
        "layer %d feature %d at %s: z %.1f; held out: gain %.3f [%.3f, %.3f], p %.4f, of %d tried %.3f: %s %s",
        *(row.layer, row.feature, row.horizon, row.z, row.gain_auroc, row.gain_auroc_low, row.gain_auroc_high),
        *(row.p_gain, len(tried), row.p_adjusted, "confirmed" if row.confirmed else "not confirmed", row.note),
    )
if tried["confirmed"].any() and not comparable:
    log.warning(
        "no ablation: among the clips of the screened prompts %d have an event and %d do not; %d can be continued",
        *((fitted & has_event).sum(), (fitted & ~has_event).sum(), len(continued)),
    )

edited = tried[tried["confirmed"]].head(settings["screen"]["max_candidates"] if comparable else 0)
names, specs, fits = dict.fromkeys(tried.index, ""), [], {}
for index, found in edited.iterrows():
    # This imports torch, which takes two seconds. Only do so if a feature was confirmed.
    from reprise.saes.loading import load_sae

    layer, feature = int(found["layer"]), int(found["feature"])
    if layer not in fits:
        acts = read_array(manifests(inputs.activations, layer), "resid_post", positions)
        latents = read_latents(manifests(inputs.latents, layer), positions)
        fits[layer] = fit_layer(latents, acts, could_plan, has_event=has_event, fitted=fitted)
    local = strongest_local_feature(
        tables,
        layer=layer,
        excluded=feature,
        fdr=settings["screen"]["fdr"],
        local=settings["horizons"]["local"],
        longer=longer,
    )
    fitted_parts = fit_edits(
        fits[layer],
        feature,
        load_sae(sae_folder(layers[layer])).W_dec.norm(dim=1).numpy(),
        n_matched=ablation["n_matched"],
        local=local,
        target=ablation["target"],
    )
    spec = {
        "layer": layer,
        "feature": feature,
        **fitted_parts,
        "clips": continued.to_dict("records"),
        # A level of 0 would not amplify the feature.
        "steered_clips": steered.to_dict("records") if fitted_parts["steer_z_star"] > 0 else [],
    }
    names[index] = candidate_name(spec)
    specs.append(spec)

columns = ["name", "layer", "feature", "horizon", "z", "p", "q", "auroc", "active_fraction"]
confirmation = {name: f"confirm_{name}" for name in COLUMNS}
table = tried.assign(name=pd.Series(names, dtype=object)).rename(columns=confirmation)
table = table[[*columns, *confirmation.values(), "confirmed"]]
folder = Path(snakemake.output.folder)
folder.mkdir(parents=True, exist_ok=True)
for spec in specs:
    write_json(folder / f"{candidate_name(spec)}.json", spec)
declared = json.loads(Path(inputs.declared).read_text())["entry"]
write_parquet(Path(snakemake.output.table), table.assign(n_clips=len(continued), declared=declared))
