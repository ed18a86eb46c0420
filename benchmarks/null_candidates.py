"""How often does a candidate that is fitted on exchanged labels go the whole way?

Each fit is on its own exchange of the labels. It is confirmed in held-out prompts with the true labels and edited at
dose 1. If its effect and damage pass their gates, it is compared with its controls at equal damage.

On a model with a plan most such fits are confirmed: a plan has a large share of the stream's variance, so that nearly
every direction holds a part of it. But its controls hold as much of it, so it should not be *selective*.

Counts by kind: `fits`, `confirmed`, `effective` (of these, effect and damage pass too), and `selective` (selectivity
passes too), with the exact 95 % interval of the latter's share. Each fit is judged alone: the correction for several
candidates and the second target, which would make a false verdict rarer, are left out.
"""

from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from scipy.stats import binomtest

from benchmarks.studies import clips_of, corpus_of, extent_of, settings_of, stores
from reprise.candidates.clips import clips_to_continue, donors
from reprise.candidates.confirmation import confirmation_question, swaps_for
from reprise.candidates.controls import LayerFit, edits_of, feature_statistics, featurize, fit_layer, plain
from reprise.candidates.featurizers.das import interchanges_of
from reprise.candidates.featurizers.data import swapped
from reprise.candidates.study_clips import StudyClips
from reprise.config.schema import Study
from reprise.identity import clip_seed
from reprise.interventions.conditions import condition_table
from reprise.interventions.edits import Edits
from reprise.interventions.effect_table import Measured, edit_effects, untouched_clips
from reprise.interventions.effects import continuation_nll
from reprise.interventions.matched_damage import matched_damage
from reprise.interventions.reading import read_edits
from reprise.interventions.run import run_conditions
from reprise.interventions.subspace import Subspace, coordinates, of_latents
from reprise.models.adapter import Model
from reprise.models.generation import Sampling
from reprise.models.loading import load_model
from reprise.probing.probes import fit_question, probe
from reprise.probing.questions import read_question
from reprise.saes.latents import read_latents
from reprise.saes.loading import load_sae
from reprise.saes.sae import Sae
from reprise.storage.artifacts import read_array
from reprise.targets.labels import label_grid, without_local
from reprise.targets.registry import target_of
from reprise.verdict.gates import PASSED, at_least, at_most
from reprise.verdict.preregistration import Thresholds

KINDS = ("feature", "feature_set", "mean_difference", "probe", "leace", "das")
LONG, LOCAL = "h4-8", "h0.5-2"
# Exchanges of labels that are tried for each fit, and fits whose edits are made together.
EXCHANGES_PER_FIT, FITS_AT_ONCE, THREADS = 10, 20, 2


class Subject(NamedTuple):
    """A finished study, and all that its candidates at one layer are fitted on and edited with."""

    folder: Path
    settings: Study
    layer: int
    study: StudyClips
    fit: LayerFit
    model: Model
    sae: Sae | None


def subject_of(folder: Path, *, root: Path, layer: int) -> Subject:
    """Read a finished study. `root` is the folder that the paths in its settings start from."""
    settings = settings_of(folder)
    study, model = clips_of(folder, settings, layer=layer), load_model(str(root / settings.model.name))
    activations = stores(corpus_of(folder) / "activations" / f"layer{layer}")
    acts, of_sae, sae = read_array(activations, "resid_post"), {}, None
    if layer in settings.saes:
        sae = load_sae(root / settings.saes[layer])
        latents = read_latents(stores(folder / "latents" / f"layer{layer}"), study.positions)
        of_sae = {"latents": latents, "decoder": sae.W_dec.numpy()}
    prompt = study.clips["prompt_id"].to_numpy()
    at = acts[:, study.positions]
    fit = fit_layer(at, study.could_plan, study.has_event, prompt, fitted=study.fitted, **of_sae)
    interchanges = interchanges_of(
        model,
        layer,
        tokens=read_array(stores(corpus_of(folder) / "tokens"), "tokens")[study.fitted],
        prompts=study.clips.loc[study.fitted, "prompt"].tolist(),
        stream=acts[study.fitted],
        onset_s=study.onset_s[study.fitted],
    )
    return Subject(folder, settings, layer, study, fit._replace(interchanges=interchanges), model, sae)


def null_fits(fit: LayerFit, kind: str, n: int) -> list[Subspace]:
    """`n` candidates of a kind, each fitted on another exchange of the labels.

    An exchange that allows no fit is skipped. So is one whose fit has a latent that the true labels choose: it is
    right by chance.
    """
    found: list[Subspace] = []
    right = set(featurize("feature_set", fit, seed=0).latents) | set(most_active(fit).latents)
    for exchange in range(EXCHANGES_PER_FIT * n):
        exchanged = fit._replace(data=swapped(fit.data, seed=exchange))
        with suppress(ValueError):
            one = most_active(exchanged) if kind == "feature" else featurize(kind, exchanged, seed=exchange)
            found += [one] if right.isdisjoint(one.latents) else []
        if len(found) == n:
            return found
    raise RuntimeError(f"{kind}: {len(found)} of {n} fits on exchanged labels")


def most_active(fit: LayerFit) -> Subspace:
    """The latent that is most active in clips with an event, for the screen's choice of a feature."""
    assert fit.latents is not None
    rows = fit.data.could_plan
    about = feature_statistics(fit.latents[rows.ravel()], np.nonzero(rows)[0], fit.data.has_event)
    return of_latents("feature", [int(about["auroc"].to_numpy().argmax())])


def confirmed(subject: Subject, fits: Sequence[Subspace]) -> list[bool]:
    """Which candidates predict in held-out prompts, each as if it were the only one."""
    study, folder, layer = subject.study, subject.folder, subject.layer
    labels, local = (pd.read_parquet(folder / "labels" / f"{h}.parquet") for h in (LONG, LOCAL))
    grid = label_grid(without_local(labels, local), study.clips["clip_id"])
    question = read_question(stores(folder / "descriptors"), study.clips, grid)
    acts = read_array(stores(corpus_of(folder) / "activations" / f"layer{layer}"), "resid_post", grid.positions)
    latents = read_latents(stores(folder / "latents" / f"layer{layer}"), grid.positions) if subject.sae else None

    def values(subspace: Subspace) -> np.ndarray:
        if latents is None or not subspace.latents:
            return coordinates(subspace, acts)
        return latents[:, list(subspace.latents)].toarray().reshape(*acts.shape[:2], subspace.rank)

    asked = confirmation_question(question, study.held_out)
    baseline, alpha = fit_question(asked, seed=0), subject.settings.probes.alpha
    found = []
    for subspace in fits:
        held_out = np.asarray(values(subspace), np.float32)[study.held_out]
        record = probe(asked, held_out, seed=0, baseline=baseline, n_swaps=swaps_for(1, alpha)).record
        found.append(record["gain_auroc_low"] > 0 and record["p_gain"] <= alpha)
    return found


def continued(study: StudyClips, n: int) -> pd.DataFrame:
    """The clips of an ablation's necessity arm, each with its donor."""
    clips = clips_to_continue(study.clips, study.has_event, study.held_out, n)
    clips = clips.assign(target_start_s=study.window_s[0], target_stop_s=study.window_s[1])
    clips = clips.merge(study.references, on="clip_id")
    given = donors(clips, study.clips, study.without_event & ~study.held_out)
    return clips.assign(donor=given).dropna(subset="donor", ignore_index=True)


def effects_of(
    subject: Subject,
    named: Mapping[str, Subspace],
    kinds: Mapping[str, Sequence[str]],
    doses: Sequence[float],
    *,
    n_random: int = 0,
) -> pd.DataFrame:
    """Effect and damage of some edits until the event, a row for each clip and condition, as the workflow measures."""
    settings, model, a = subject.settings, subject.model, subject.settings.ablation
    table = condition_table(
        kinds,
        continued(subject.study, a.n_clips),
        doses,
        ["until_event"],
        layer=subject.layer,
        reference="without",
        second_reference="",
        prefix_s=a.prefix_s,
        frame_rate_hz=model.frame_rate_hz,
        n_random=n_random,
    )
    edits = donated(subject, named, table)
    tokens = read_array(stores(corpus_of(subject.folder) / "tokens"), "tokens")
    baseline = dict(zip(subject.study.clips["clip_id"], tokens, strict=True))
    g = settings.generation
    made = np.concatenate(
        [
            part
            for _, part in run_conditions(
                model,
                edits,
                table,
                baseline,
                {clip["clip_id"]: clip_seed("generate", clip) for clip in table.to_dict("records")},
                batch_size=g.batch_size,
                sampling=Sampling(**{field: getattr(g, field) for field in Sampling._fields}),
                n_frames=tokens.shape[-1],
                threads=THREADS,
            )
        ]
    )
    nll = continuation_nll(model, made, table["prompt"].tolist(), batch_size=32, threads=THREADS)
    events = settings.events.model_dump(mode="json")
    how = Measured(target_of(settings.target), events, a.prefix_s, extent_of(settings).event_s)
    chosen = np.flatnonzero(table["kind"] == "untouched")
    untouched = untouched_clips(model, table.iloc[chosen], made[chosen], nll[chosen], how, threads=THREADS)
    records = [record for record, _ in edit_effects(model, table, made, nll, untouched, how, threads=THREADS)]
    return table.join(pd.DataFrame(records, index=table.index))


def donated(subject: Subject, named: Mapping[str, Subspace], table: pd.DataFrame) -> Edits:
    """The edits of a table, with the coordinates of its donors: of latents and of linear subspaces."""
    of_layer = f"layer{subject.layer}"
    through_sae = {name: each for name, each in named.items() if each.latents}
    parts = [
        (through_sae, stores(subject.folder / "latents" / of_layer)),
        (
            {k: v for k, v in named.items() if k not in through_sae},
            stores(corpus_of(subject.folder) / "activations" / of_layer),
        ),
    ]
    given: dict = {}
    for some, manifests in parts:
        spec = plain({"": some}) | {"references": {}}
        given |= read_edits(spec, table[table["edit"].isin(some)], manifests, None).donated
    return Edits(dict(named), {}, given, subject.sae)


def judged(effects: pd.DataFrame) -> pd.Series:
    """The row of the target at dose 1 in `matched_damage`, over clips whose untouched continuation has an event."""
    matched = matched_damage(effects[effects["found_baseline"] == 1])
    return matched[(matched["kind"] == "target") & (matched["dose"] == 1)].iloc[0]


def selective(found: pd.Series, thresholds: Thresholds) -> bool:
    """Whether the row of a target passes the gate of selectivity."""
    ends = found["selectivity"], found["selectivity_low"], found["selectivity_high"]
    return at_least(*ends, thresholds.min_selectivity) == PASSED


def by_fit(
    subject: Subject, fits: Sequence[Subspace], numbers: Iterable[int], doses: Sequence[float]
) -> dict[int, pd.DataFrame]:
    """`effects_of` of some of the fits at some doses, by the fit's number."""
    wanted, found = list(numbers), dict[int, pd.DataFrame]()
    for start in range(0, len(wanted), FITS_AT_ONCE):
        named = {f"fit{i}": fits[i] for i in wanted[start : start + FITS_AT_ONCE]}
        effects = effects_of(subject, named, {"target": list(named)}, doses)
        found |= {i: effects[effects["edit"].isin(["", f"fit{i}"])] for i in wanted[start : start + FITS_AT_ONCE]}
    return found


def null_rates(subject: Subject, kind: str, n: int) -> dict[str, Any]:
    """Counts of `n` fits of a kind; see the head of this module.

    One control of each fit is the fit after it. A fit that is not selective against this one alone is not selective,
    so only the others are compared with every control.
    """
    fits, a = null_fits(subject.fit, kind, n), subject.settings.ablation
    thresholds = subject.settings.verdict
    passed = [i for i, yes in enumerate(confirmed(subject, fits)) if yes]
    after = {i: (i + 1) % n for i in passed}
    at_dose_1 = by_fit(subject, fits, sorted({*passed, *after.values()}), [1.0])
    alone = {i: judged(effects) for i, effects in at_dose_1.items()}
    effective = []
    for i in passed:
        row = alone[i]
        effect = at_least(row["effect"], row["effect_low"], row["effect_high"], thresholds.min_effect)
        damage = at_most(row["damage_low"], row["damage_high"], thresholds.max_damage)
        effective += [i] if effect == damage == PASSED else []
    open_ = []
    for i in effective:
        row, control = alone[i], alone[after[i]]
        # At equal damage a control has at least the effect of a dose that does no more damage.
        least = control["effect"] if control["damage"] <= max(row["damage"], 0.0) else 0.0
        open_ += [i] if row["effect"] - least >= thresholds.min_selectivity else []
    others = by_fit(subject, fits, sorted({after[i] for i in open_}), [dose for dose in a.doses if dose != 1])
    n_selective = 0
    for i in open_:
        control = pd.concat([at_dose_1[after[i]], others[after[i]]])
        control = control[control["kind"] == "target"].assign(kind="swapped_fit", control=0)
        if not selective(judged(pd.concat([at_dose_1[i], control])), thresholds):
            continue
        edits = edits_of(fits[i], subject.fit, n_controls=1, seed=i, fits=[fits[after[i]]])
        named = {name: each for of_kind in edits.values() for name, each in of_kind.items()}
        whole = effects_of(subject, named, plain(edits)["kinds"], a.doses, n_random=1)
        n_selective += selective(judged(whole), thresholds)
    interval = binomtest(n_selective, n).proportion_ci(method="exact")
    return {
        "fits": n,
        "confirmed": len(passed),
        "effective": len(effective),
        "selective": n_selective,
        "selective_low": round(interval.low, 4),
        "selective_high": round(interval.high, 4),
    }
