"""Edit one clip to listen to it: continued with and without an edit, from the same prefix and with the same noise.

    study = reprise.open_study("results/planner")
    edited = study.edit("piano-c-amber-s0", "layer2-f1-23506cfe")
    edited.audio, edited.untouched, edited.numbers

What is edited is a candidate of the study, or a direction from elsewhere (reprise/interventions/direction_files.py).

Degenerate input: dose 0 gives the untouched clip. If it is not known what an event of the clip would refer to, the
numbers leave out the event.
"""

import json
from collections.abc import Mapping, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from reprise.candidates.clips import reference_before
from reprise.checkpoints.hub import sae_folder
from reprise.config.schema import TRAIN
from reprise.identity import clip_seed
from reprise.interventions.direction_files import DirectionFile, read_direction
from reprise.interventions.edits import Edits
from reprise.interventions.effects import Continuation, EventWindow, compare, continuation_nll
from reprise.interventions.run import run_conditions, teacher_forced_kl
from reprise.interventions.subspace import Subspace, coordinates, from_record, latent_coordinates
from reprise.models.adapter import Model
from reprise.models.codec import decode_audio
from reprise.models.device import pick_device
from reprise.models.generation import Sampling
from reprise.models.loading import load_identified
from reprise.saes.errors import SaeError
from reprise.saes.latents import clip_latents
from reprise.saes.loading import load_sae
from reprise.saes.sae import Sae
from reprise.storage.artifacts import read_array, read_clips, read_meta, read_reference_ends_s, store_of
from reprise.storage.errors import StoreError
from reprise.storage.stores import read_store
from reprise.targets.registry import target_of
from reprise.targets.target import ScoreCurve

NO_SCORES = ScoreCurve(np.zeros(0), np.zeros(0), np.zeros(0))
ABOUT_EVENT = ("score", "found", "effect_")


class EditedClip(NamedTuple):
    """A clip with and without an edit.

    audio, untouched: float32 `[sample]`, with and without the edit. sample_rate_hz: of both. numbers: what the edit
    did, as in the study's table of effects (reprise/interventions/effects.py). tokens: uint16 `[2, codebook, frame]`,
    untouched and edited.
    """

    audio: NDArray[np.float32]
    untouched: NDArray[np.float32]
    sample_rate_hz: int
    numbers: dict[str, float]
    tokens: NDArray[np.uint16]


class _Edited(NamedTuple):
    """What is edited: the `subspace`, its `layer`, and the coordinates that the study knows by name."""

    subspace: Subspace
    layer: int
    references: Mapping[str, Sequence[float]]


def edit_clip(
    study: str | Path,
    clip_id: str,
    direction: str | Path | DirectionFile,
    *,
    to: str | float | Sequence[float] | None = None,
    dose: float = 1.0,
    seconds: tuple[float, float] | None = None,
    device: str = "auto",
) -> EditedClip:
    """Continue a clip of a finished study with an edit and without it.

    Parameters
    ----------
    study : path
        The study's results, such as `results/planner`.
    clip_id : str
        One of the study's clips.
    direction : str, path or DirectionFile
        The name of a candidate, the path of a direction's files, or a direction that was read.
    to : str, float or sequence of float, optional
        The coordinates that dose 1 moves the stream to: "with", "without" or "zero" (the study's means of clips with
        and without an event, or 0), the name of another clip, whose coordinates at the same positions are taken, or
        numbers. Default: "without" for a candidate, 0 for a direction from elsewhere.
    dose : float
        How far: 0 changes nothing, 1 all the way.
    seconds : pair of float, optional
        The edited positions, from the first to before the second, in seconds. Default: from the start of the clip to
        the end of the window in which the study expects the event.
    device : {"auto", "cpu", "cuda"}
        Where the model runs.

    Returns
    -------
    EditedClip

    Raises
    ------
    ValueError
        For an unknown clip, candidate or reference, coordinates that do not fit, or an empty window.
    reprise.interventions.direction_files.DirectionError
        If the files of a direction cannot be used.
    reprise.storage.errors.StoreError
        If the study is not finished.
    RuntimeError, reprise.saes.errors.SaeError
        If the model or the SAE is not the one that the study was made with.
    """
    opened = _open(Path(study))
    row = _row(opened.clips, clip_id)
    clip, what = opened.clips.iloc[row], _what(opened.place, direction)
    model = _model(str(opened.corpus.resolve()), json.dumps(opened.identity), pick_device(device))
    sae = _sae(opened, what.layer, str(model.device)) if what.subspace.latents else None
    start, stop = _positions(opened, seconds, model.frame_rate_hz)
    donor, values = _moved_to(opened, what, to)
    edits = Edits(
        {"edit": what.subspace},
        {("edit", "given"): values} if donor is None else {},
        {} if donor is None else {(donor, "edit"): values},
        sae,
    )
    # The untouched row is generated as well. Rows of one batch have the same arithmetic, so only the edit differs.
    table = pd.DataFrame(
        {
            "clip_id": clip_id,
            "prompt": clip["prompt"],
            "kind": ["untouched", "target"],
            "control": 0,
            "layer": what.layer,
            "dose": [0.0, float(dose)],
            "edit": ["", "edit"],
            "reference": "given",
            "donor": [None, donor],
            "n_prefix_frames": round(opened.ablation["prefix_s"] * model.frame_rate_hz),
            "start_position": start,
            "stop_position": [0, stop],
        }
    )
    made = next(
        run_conditions(
            model,
            edits,
            table,
            {clip_id: read_array(opened.tokens, "tokens")[row]},
            {clip_id: clip_seed("generate", clip.to_dict())},
            batch_size=2,
            sampling=Sampling(**{name: opened.settings["generation"][name] for name in Sampling._fields}),
            cfg_branches=opened.ablation["cfg_branches"],
        )
    )[1]
    kl = teacher_forced_kl(model, edits, table, {clip_id: made[0]}, batch_size=2)[1]
    audio = [decode_audio(model, tokens) for tokens in made]
    return EditedClip(audio[1], audio[0], model.sample_rate_hz, _numbers(model, opened, clip, made, audio, kl), made)


class _Opened(NamedTuple):
    """A study's folder `place`, its corpus, the manifests of its tokens, its clips, how long they are, its settings as
    they were declared, and the identity of its model."""

    place: Path
    corpus: Path
    batches: list[str]
    tokens: list[str]
    clips: pd.DataFrame
    duration_s: float
    settings: Mapping[str, Any]
    identity: Mapping[str, Any]

    @property
    def ablation(self) -> Mapping[str, Any]:
        return self.settings["ablation"]


def _open(place: Path) -> _Opened:
    declared = place / "preregistration.json"
    if not declared.is_file():
        raise StoreError(f"{declared}: missing, so the study's settings are not known; run snakemake on it first")
    settings = json.loads(declared.read_text(encoding="utf-8"))["settings"]
    said = json.loads((place / "clips.json").read_text(encoding="utf-8"))
    corpus = place / said["corpus"]
    tokens = [str(corpus / "tokens" / f"{batch}.manifest.json") for batch in said["batches"]]
    identity = json.loads((corpus / "model.json").read_text(encoding="utf-8"))
    duration_s = read_meta(tokens)["duration_s"]
    return _Opened(place, corpus, said["batches"], tokens, read_clips(tokens), duration_s, settings, identity)


def _row(clips: pd.DataFrame, clip_id: str) -> int:
    found = np.flatnonzero(clips["clip_id"] == clip_id)
    if not len(found):
        raise ValueError(
            f"edit: no clip is called {clip_id!r}; valid: {', '.join(clips['clip_id'].head(3))} and others"
        )
    return int(found[0])


def _what(place: Path, direction: str | Path | DirectionFile) -> _Edited:
    """What to edit, by the name of a candidate of the study or as a direction."""
    if isinstance(direction, DirectionFile):
        return _Edited(direction.subspace, direction.layer, {})
    candidate = place / "candidates" / f"{direction}.json"
    if candidate.is_file():
        spec = json.loads(candidate.read_text(encoding="utf-8"))
        (name,) = spec["kinds"]["target"]
        return _Edited(from_record(spec["subspaces"][name]), spec["layer"], spec["references"][name])
    if Path(direction).suffix:
        found = read_direction(direction)
        return _Edited(found.subspace, found.layer, {})
    known = sorted(path.stem for path in (place / "candidates").glob("*.json"))
    valid = ", ".join(known) or "this study edited no candidate"
    raise ValueError(f"edit: no candidate is called {str(direction)!r}; valid: {valid}, or the path of a direction")


def _positions(opened: _Opened, seconds: tuple[float, float] | None, rate_hz: float) -> tuple[int, int]:
    """The first edited position, and the first that is not edited any more."""
    if seconds is None:
        # As the window `until_event` of reprise/interventions/conditions.py.
        return 0, round((opened.ablation["prefix_s"] + opened.ablation["return_window_s"][1]) * rate_hz) + 1
    start, stop = (round(s * rate_hz) for s in seconds)
    if not 0 <= start < stop <= round(opened.duration_s * rate_hz):
        valid = f"two times within 0-{opened.duration_s:g}"
        raise ValueError(f"edit: seconds is ({seconds[0]:g}, {seconds[1]:g}); valid: {valid}")
    return start, stop


def _moved_to(
    opened: _Opened, what: _Edited, to: str | float | Sequence[float] | None
) -> tuple[str | None, NDArray[np.float32]]:
    """The donor and its coordinates `[position, rank]`; or None and the coordinates to move to, `[rank]`."""
    rank = what.subspace.rank
    if to is None:
        to = "without" if what.references else 0.0
    if isinstance(to, str):
        if to not in what.references:
            return to, _coordinates_of(opened, to, what)
        to = what.references[to]
    values = np.array(to, np.float32)
    values = np.broadcast_to(values, rank) if values.ndim == 0 else values
    if values.shape != (rank,) or not np.isfinite(values).all():
        raise ValueError(f"edit: to is {to!r}; valid: one finite number for each of {rank}")
    return None, values


def _coordinates_of(opened: _Opened, donor: str, what: _Edited) -> NDArray[np.float32]:
    """The coordinates of another clip, float32 `[position, rank]`."""
    if donor not in set(opened.clips["clip_id"]):
        valid = ", ".join([*what.references, "a clip's name", "numbers"])
        raise ValueError(f"edit: to is {donor!r}; valid: {valid}")
    folder = opened.place / "latents" if what.subspace.latents else opened.corpus / "activations"
    for batch in opened.batches:
        manifest = folder / f"layer{what.layer}" / f"{batch}.manifest.json"
        inside = read_clips([str(manifest)])["clip_id"].tolist() if manifest.is_file() else []
        if donor in inside:
            i = inside.index(donor)
            if what.subspace.latents:
                return latent_coordinates(what.subspace, *clip_latents(str(manifest), i))
            acts: Any = read_store(store_of(str(manifest)))["resid_post"]
            return coordinates(what.subspace, acts[i])
    raise ValueError(f"edit: to is {donor!r}, and the study has no activations of layer {what.layer} of it")


def _found(corpus: Path, name: str) -> str:
    """A model's or SAE's name. A path is relative to the folder that holds `results`."""
    here = corpus.resolve().parents[2] / name
    return str(here) if here.exists() else name


@lru_cache(maxsize=1)
def _model(corpus: str, identity: str, device: str) -> Model:
    """The model of a corpus. The arguments are texts, because they are the key of the cache."""
    of_model = json.loads(identity)
    given = {**of_model, "name": _found(Path(corpus), of_model["name"])}
    return load_identified(given, of_model, device=device)


def _sae(opened: _Opened, layer: int, device: str) -> Sae:
    """The SAE of a layer. Raises SaeError if it is not the one that was certified."""
    trained, given = opened.place / "saes" / f"layer{layer}", opened.settings["saes"][str(layer)]
    name = str(trained) if given == TRAIN else _found(opened.corpus, given)
    certificate = json.loads((opened.place / "certificates" / f"layer{layer}.json").read_text(encoding="utf-8"))
    sae = _loaded_sae(name, device)
    if sae.digest != certificate["sae_digest"]:
        raise SaeError(f"{name} is not the SAE that was certified; run snakemake again to certify it")
    return sae


@lru_cache(maxsize=4)
def _loaded_sae(name: str, device: str) -> Sae:
    return load_sae(sae_folder(name), device=device)


def _numbers(
    model: Model,
    opened: _Opened,
    clip: pd.Series,
    made: np.ndarray,
    audio: Sequence[np.ndarray],
    kl: np.ndarray,
) -> dict[str, float]:
    """What the edit did: `compare` of reprise/interventions/effects.py."""
    events, prefix_s = opened.settings["events"], opened.ablation["prefix_s"]
    target = target_of(opened.settings["target"])
    extent = target.extent(events)
    nll = continuation_nll(model, made, [clip["prompt"]] * 2, batch_size=2)
    summaries = [str(opened.place / "events" / f"{batch}.clips.parquet") for batch in opened.batches]
    own = pd.Series([clip["clip_id"]])
    ends_s = read_reference_ends_s(summaries, own, otherwise_s=np.nan)
    reference = reference_before(own, ends_s, duration_s=extent.reference_s, prefix_s=prefix_s)
    scores = [NO_SCORES] * 2
    for refers in reference.itertuples():
        where = {"start_s": refers.reference_start_s, "duration_s": refers.reference_duration_s}
        scorer = target.scorer(audio[0], model.sample_rate_hz, events, **where)
        scores = [scorer(each) for each in audio]
    untouched, edited = (Continuation(made[i], audio[i], nll[i], scores[i]) for i in range(2))
    low_s, high_s = (prefix_s + s for s in opened.ablation["return_window_s"])
    found = compare(
        edited,
        untouched,
        EventWindow(prefix_s, low_s, high_s, extent.reference_s or extent.heard_for_s),
        kl=kl,
        frame_rate_hz=model.frame_rate_hz,
        sample_rate_hz=model.sample_rate_hz,
        min_score=events["min_score"],
    )
    return {name: value for name, value in found.items() if len(reference) or not name.startswith(ABOUT_EVENT)}
