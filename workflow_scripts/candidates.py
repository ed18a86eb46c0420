"""Find the candidates of every kind, confirm them on held-out prompts, and specify their ablations."""

import json
from functools import cache, partial
from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from reprise.candidates.clips import clips_to_continue, donors
from reprise.candidates.confirmation import COLUMNS, confirm
from reprise.candidates.controls import (
    LayerFit,
    edits_of,
    featurize,
    fit_layer,
    held_out_auroc,
    plain,
    references_of,
)
from reprise.candidates.screen import false_discovery
from reprise.candidates.selection import candidate_name, candidate_title, rank_features, strongest_local_feature
from reprise.candidates.study_clips import read_study_clips
from reprise.checkpoints.hub import sae_folder
from reprise.config.schema import OF_SAE
from reprise.identity import seed_from
from reprise.interventions.direction_files import read_direction
from reprise.interventions.subspace import Subspace, coordinates, from_record, of_latents, to_record
from reprise.probing.questions import read_question
from reprise.saes.latents import read_latents
from reprise.storage.artifacts import read_array
from reprise.storage.files import write_json, write_parquet
from reprise.targets.labels import label_grid, without_local
from reprise.workflow.job import log, start

settings = start(snakemake)
inputs, ablation = snakemake.input, settings["ablation"]
saes = {int(layer): path for layer, path in settings["saes"].items()}
longer = [settings["horizons"][role] for role in settings["longer_roles"]]
columns = ["layer", "horizon", "feature", "z", "p", "auroc", "active_fraction", "tested"]
screens = [pd.DataFrame(columns=columns).astype({"p": float, "tested": bool, "feature": int})]
tables = pd.concat([pd.read_parquet(path) for path in inputs.screens] or screens, ignore_index=True)
tables["q"] = false_discovery(tables["p"].where(tables["tested"]))
ranked = rank_features(tables, fdr=settings["screen"]["fdr"], horizons=longer)
log.info("%d features pass the screen at %s", len(ranked), longer)

# Everything that is chosen or fitted uses the screened prompts. Everything that is reported uses the other prompts.
study = read_study_clips(inputs, settings["of_clips"])
clips = study.clips
has_own = clips["clip_id"].isin(study.own["clip_id"]).to_numpy()


def manifests(paths: list[str], layer: int) -> list[str]:
    return [path for path in paths if f"/layer{layer}/" in path]


def to_continue(wanted: np.ndarray, n: int, refer_to: pd.DataFrame, other_class: np.ndarray) -> pd.DataFrame:
    """Clips of held-out prompts, each with its reference and a donor of the other class, if the target is to resample.
    Donors, like all that is chosen, come from the screened prompts."""
    some = clips_to_continue(clips, wanted, study.held_out, n)
    some = some.assign(target_start_s=study.window_s[0], target_stop_s=study.window_s[1]).merge(refer_to, on="clip_id")
    if ablation["target"] != "resample":
        return some
    given = donors(some, clips, other_class & ~study.held_out)
    return some.assign(donor=given).dropna(subset="donor", ignore_index=True)


continued = to_continue(study.has_event, ablation["n_clips"], study.references, study.without_event)
without_one = to_continue(study.without_event & has_own, ablation["n_sufficiency"], study.own, study.has_event)
labels = {h: pd.read_parquet(p) for h, p in zip(settings["horizons"].values(), inputs.labels, strict=True)}
local_labels = labels[settings["horizons"]["local"]]
grids = {h: label_grid(without_local(labels[h], local_labels), clips["clip_id"]) for h in longer}

can_edit = study.can_fit and len(continued) > 0
fit_seed = seed_from("candidates", settings["study"])[0]


@cache
def fit_of(layer: int) -> LayerFit:
    """The screened clips of a layer, with their latents if the layer has an SAE."""
    acts = read_array(manifests(inputs.activations, layer), "resid_post", study.positions)
    of_sae = {}
    if layer in saes:
        # This imports torch, which takes two seconds.
        from reprise.saes.loading import load_sae

        latents = read_latents(manifests(inputs.latents, layer), study.positions)
        of_sae = {"latents": latents, "decoder": load_sae(sae_folder(saes[layer])).W_dec.numpy()}
    return fit_layer(
        acts, study.could_plan, study.has_event, clips["prompt_id"].to_numpy(), fitted=study.fitted, **of_sae
    )


def fitted_candidates(kind: str) -> list[dict]:
    """A candidate of a kind for each layer that allows one, with how well it separates screened prompts."""
    if kind == "das":
        return [{**das_fits[layer], "kind": kind, "horizon": longer[-1]} for layer in das_fits]
    rows = []
    for layer in settings["layers"] if study.can_fit else []:
        if kind in OF_SAE and layer not in saes:
            continue
        try:
            subspace = featurize(kind, fit_of(layer), seed=fit_seed)
        except ValueError as error:
            log.warning("layer %d has no %s: %s", layer, kind, error)
            continue
        if subspace.rank == 1 and (layer, subspace.latents) in already:
            log.info("layer %d: the smallest set is latent %d, which is tried by itself", layer, subspace.latents[0])
            continue
        separates = held_out_auroc(partial(featurize, kind, seed=fit_seed), fit_of(layer), seed=fit_seed)
        rows.append({"layer": layer, "kind": kind, "horizon": longer[-1], "auroc": separates, "subspace": subspace})
    return rows


screened = ranked.head(settings["screen"]["max_tried"]).assign(kind="feature")
screened["subspace"] = [of_latents("feature", [j]) for j in screened["feature"]]
kinds = settings["candidates"]["kinds"]
given = []
for path in settings["candidates"]["directions"] if study.can_fit else []:
    subspace, layer, _ = read_direction(path)
    separates = held_out_auroc(lambda _, given=subspace: given, fit_of(layer), seed=fit_seed)
    given.append({"layer": layer, "kind": "given", "horizon": longer[-1], "auroc": separates, "subspace": subspace})
    given[-1]["file"] = path
# A set of one latent that is tried as a feature would be the same candidate.
already = {(row.layer, row.subspace.latents) for row in screened.itertuples() if "feature" in kinds}
# Subspaces that needed the model were fitted before, with their controls.
of_das = [json.loads(Path(path).read_text()) for path in inputs.das]
das_fits = {
    one["layer"]: {**one, "auroc": float(one["auroc"] or "nan"), "subspace": from_record(one["subspace"])}
    for one in of_das
    if one["subspace"]
}
of_kind = {
    # The best separated layer first; one whose separation is unknown last.
    kind: sorted(fitted_candidates(kind), key=lambda row: -np.nan_to_num(row["auroc"], nan=0.0))
    for kind in kinds
    if kind != "feature"
}
if "feature" in kinds:
    of_kind["feature"] = screened.to_dict("records")
found = pd.DataFrame(
    [row for rows in (*(of_kind[kind] for kind in kinds), given) for row in rows],
    columns=["layer", "kind", "horizon", "z", "p", "q", "auroc", "active_fraction", "subspace", "file"],
)


def values_of(i: int) -> NDArray[np.float32]:
    """Coordinates of a candidate on the grid of its horizon, `[clip, time, rank]`."""
    row = found.iloc[i]
    layer, subspace, at = int(row["layer"]), row["subspace"], grids[row["horizon"]].positions
    if not subspace.latents:
        return coordinates(subspace, read_array(manifests(inputs.activations, layer), "resid_post", at))
    latents = read_latents(manifests(inputs.latents, layer), at)[:, list(subspace.latents)]
    return latents.toarray().reshape(len(clips), len(at), subspace.rank)


tried = confirm(
    found,
    {h: read_question(inputs.descriptors, clips, grids[h]) for h in found["horizon"].unique()},
    values_of,
    study.held_out,
    alpha=settings["alpha"],
    seed_of=lambda horizon: seed_from("confirm", settings["study"], horizon)[0],
)
tried["title"] = [
    candidate_title(row.layer, row.kind, row.subspace.latents, row.file if row.kind == "given" else "")
    for row in tried.itertuples()
]
for row in tried.itertuples():
    log.info(
        "%s at %s: AUROC %.3f; held out: gain %.3f [%.3f, %.3f], p %.4f, of %d tried %.3f: %s %s",
        *(row.title, row.horizon, row.auroc, row.gain_auroc, row.gain_auroc_low, row.gain_auroc_high),
        *(row.p_gain, len(tried), row.p_adjusted, "confirmed" if row.confirmed else "not confirmed", row.note),
    )
if tried["confirmed"].any() and not can_edit:
    log.warning(
        "no ablation: among the clips of the screened prompts %d have an event and %d do not; %d can be continued",
        *((study.fitted & study.has_event).sum(), (study.fitted & ~study.has_event).sum(), len(continued)),
    )


def specification(layer: int, subspace: Subspace) -> dict:
    """Everything that the ablation of a candidate depends on."""
    local = None
    if subspace.kind == "feature":
        local = strongest_local_feature(
            tables,
            layer=layer,
            excluded=subspace.latents[0],
            fdr=settings["screen"]["fdr"],
            local=settings["horizons"]["local"],
            longer=longer,
        )
    fit = fit_of(layer)
    fits = [from_record(each) for each in das_fits[layer]["controls"]] if subspace.kind == "das" else None
    edits = edits_of(subspace, fit, n_controls=ablation["n_controls"], local=local, seed=fit_seed, fits=fits)
    named = {name: each for of_one_kind in edits.values() for name, each in of_one_kind.items()}
    return {
        "layer": layer,
        "kind": subspace.kind,
        **plain(edits),
        "references": references_of(named, fit),
        "clips": continued.to_dict("records"),
        "sufficiency_clips": without_one.to_dict("records"),
    }


# The first confirmed candidates of each kind are edited.
confirmed = tried[tried["confirmed"]] if can_edit else tried.head(0)
edited = confirmed.groupby("kind", sort=False).head(settings["candidates"]["max_edited"])
names, specs = dict.fromkeys(tried.index, ""), []
for index, row in edited.iterrows():
    try:
        spec = specification(int(row["layer"]), row["subspace"])
    except ValueError as error:
        # Without its controls nothing can be said about it.
        log.warning("%s is not edited: %s", row["title"], error)
        continue
    names[index] = candidate_name(spec)
    specs.append(spec)

columns = ["name", "title", "layer", "kind", "latents", "rank", "horizon", "z", "p", "q", "auroc", "active_fraction"]
confirmation = {name: f"confirm_{name}" for name in COLUMNS}
table = tried.assign(
    name=pd.Series(names, dtype=object),
    latents=[" ".join(map(str, subspace.latents)) for subspace in tried["subspace"]],
    rank=[subspace.rank for subspace in tried["subspace"]],
).rename(columns=confirmation)
table = table[[*columns, *confirmation.values(), "confirmed"]]
# The map of a candidate that passes edits the other layers along the difference of the class means.
of_layers = {}
for layer in settings["layers"] if can_edit else []:
    try:
        difference = featurize("mean_difference", fit_of(layer), seed=fit_seed)
    except ValueError as error:
        log.warning("layer %d has no mean difference: %s", layer, error)
        continue
    named = references_of({"": difference}, fit_of(layer))
    of_layers[layer] = {"subspace": to_record(difference), "references": named[""]}
write_json(Path(snakemake.output.layers), of_layers)
folder = Path(snakemake.output.folder)
folder.mkdir(parents=True, exist_ok=True)
for spec in specs:
    write_json(folder / f"{candidate_name(spec)}.json", spec)
declared = json.loads(Path(inputs.declared).read_text())["entry"]
write_parquet(Path(snakemake.output.table), table.assign(n_clips=len(continued), declared=declared))
