"""Search for a subspace of one layer by gradient through the model, and for its controls."""

import json
from itertools import count
from pathlib import Path

from reprise.candidates.controls import LayerFit, featurize, fit_layer, held_out_auroc, swapped_fits
from reprise.candidates.featurizers.das import interchanges_of
from reprise.candidates.featurizers.sizes import DAS_CLIPS_PER_STEP, N_FOLDS
from reprise.candidates.study_clips import read_study_clips
from reprise.identity import seed_from
from reprise.interventions.subspace import Subspace, to_record
from reprise.models.device import pick_device
from reprise.models.loading import load_identified
from reprise.models.memory import free_memory, gradient_need, rows_that_fit
from reprise.storage.artifacts import read_array
from reprise.storage.files import write_json
from reprise.workflow.job import log, start

settings = start(snakemake)
inputs, layer = snakemake.input, settings["layer"]
study = read_study_clips(inputs, settings["of_clips"])
rank, seed = settings["das_rank"], seed_from("das", settings["study"], layer)[0]
found = {"layer": layer, "subspace": None, "auroc": None, "controls": []}


def layer_fit() -> LayerFit:
    """The screened clips, with the model."""
    device, identity = pick_device(snakemake.resources.device), json.loads(Path(inputs.model).read_text())
    tokens, dtype = read_array(inputs.tokens, "tokens"), settings["model"]["dtype"]
    need = gradient_need(identity, n_frames=tokens.shape[-1], dtype=dtype, layer=layer)
    # A clip is two rows: it takes coordinates from a clip without an event, and from another one with one.
    rows = rows_that_fit(need, wanted=2 * DAS_CLIPS_PER_STEP, least=2, free=free_memory(device))
    acts = read_array(inputs.activations, "resid_post")
    fit = fit_layer(
        acts[:, study.positions],
        study.could_plan,
        study.has_event,
        study.clips["prompt_id"].to_numpy(),
        fitted=study.fitted,
    )
    model = load_identified(settings["model"], identity, device=device)
    some = study.fitted
    interchanges = interchanges_of(
        model,
        layer,
        tokens=tokens[some],
        prompts=study.clips.loc[some, "prompt"].tolist(),
        stream=acts[some],
        onset_s=study.onset_s[some],
        per_pass=rows // 2,
    )
    return fit._replace(interchanges=interchanges)


def search(fit: LayerFit) -> Subspace:
    """Search in some clips, and say so: a search may take minutes."""
    subspace = featurize("das", fit, seed=seed, rank=rank)
    log.info("layer %d: search %d of %d", layer, next(searched), 1 + N_FOLDS + settings["n_controls"])
    return subspace


searched = count(1)
if study.can_fit:
    fit = layer_fit()
    try:
        # In all screened clips, without each fold, and with exchanged labels.
        subspace = search(fit)
        separates = held_out_auroc(search, fit, seed=seed)
        controls = swapped_fits(subspace, fit, n=settings["n_controls"], seed=seed, fit_to=search)
        found |= {"subspace": to_record(subspace), "auroc": separates, "controls": list(map(to_record, controls))}
        log.info("layer %d: AUROC %.3f in screened prompts that were left out", layer, separates)
    except ValueError as error:
        log.warning("layer %d has no das: %s", layer, error)
else:
    log.warning("layer %d has no das: the screened prompts do not have clips with and without an event", layer)
write_json(Path(snakemake.output[0]), found)
