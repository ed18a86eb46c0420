"""The checks of `snakemake doctor` before a study runs: its model, SAEs, device, disk and configuration.

Each `Finding` is one line of the doctor's table. `passed` is False if the study would fail. Then `remedy` says in one
line what is wrong and what is valid. The weights of SAEs are read, those of models are not.

Disk space is estimated from the arrays that the stages write: tokens, audio, activations and latents. For an SAE
without a fixed k, `USUAL_L0` active features per position are assumed. Tables, pages and the results of ablations need
a few percent more.
"""

import json
import os
import shutil
from collections.abc import Mapping, Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any, NamedTuple, cast

import torch

from reprise.checkpoints.hub import model_folder, model_place, sae_folder
from reprise.checkpoints.weights import model_problems, needed_files, sae_problems
from reprise.config.clips import study_tracks
from reprise.config.schema import TRAIN, Study
from reprise.models.delay_pattern import n_positions
from reprise.models.device import pick_device
from reprise.models.families.registry import family_of
from reprise.models.memory import free_memory, generation_need, memory_problem
from reprise.probing.representations import reads_random_weights
from reprise.saes.certificate import disagreements
from reprise.saes.errors import SaeError
from reprise.saes.formats.format import Format
from reprise.saes.formats.registry import format_of
from reprise.saes.latents import latent_arrays
from reprise.saes.loading import load_sae
from reprise.storage.artifacts import activation_arrays, audio_bytes, token_arrays
from reprise.storage.stores import stored_bytes
from reprise.workflow.resources import continuations, edited_candidates, mapped

USUAL_L0 = 100
STORES = ("tokens", "audio", "activations", "latents")


class SaeSize(NamedTuple):
    """The number of features of an SAE, and the number of active features per position, if that is fixed."""

    d_sae: int
    k: int | None


class Finding(NamedTuple):
    """The result of a check: `what` was checked, whether it `passed`, what was `found`, a `remedy` if it failed."""

    what: str
    passed: bool
    found: str
    remedy: str = ""


def look_at_model(study: Study) -> tuple[Finding, dict[str, Any]]:
    """Check the model's files. Also returns the model's facts (`Family.facts`), {} if files are missing."""
    name, backend = study.model.name, study.model.backend
    family = family_of(backend)
    if find_spec(family.library) is None:
        valid = "an installed backend (`make install` installs it)"
        text = f"model.backend: got {backend}, which is not installed; valid: {valid}"
        return Finding("model", False, f"{name}: {family.library} is not installed", text), {}
    if problems := model_problems(name, backend=backend):
        return Finding("model", False, f"{name}: not usable", "\n".join(problems)), {}
    folder = model_folder(name, backend=backend)
    facts = family.facts(folder)
    size = sum((folder / file).stat().st_size for file in needed_files(folder, family.files))
    found = [f"{name} ({backend}, {bytes_text(size)})"]
    if "n_layers" in facts:
        found.append(
            "{n_layers} layers of width {d_model}, {n_codebooks} codebooks of {codebook_size}".format(**facts)
        )
    found += family.notes(folder)
    if model_place(name):
        found.append(f"in {folder}")
    return Finding("model", True, "; ".join(found)), facts


def look_at_sae(
    study: Study, layer: int, facts: Mapping[str, Any], *, model_digest: str | None
) -> tuple[Finding, SaeSize | None]:
    """Load the SAE of a layer, and check that its metadata agree with the study.

    The certificate later measures whether it really fits its layer.

    Parameters
    ----------
    study
        The study.
    layer
        The hook layer, 0-based.
    facts
        The model's facts; see `look_at_model`.
    model_digest
        The digest of the model's weights, if it is known.

    Returns
    -------
    Finding, SaeSize or None
        The finding, and the SAE's size if it is known.
    """
    name, what = study.saes[layer], f"SAE, layer {layer}"
    if name == TRAIN:
        training = study.sae_training
        found = f"trained here: {training.architecture}, d_sae {training.expansion} x d_model, k {training.k}"
        size = SaeSize(training.expansion * facts["d_model"], training.k) if "d_model" in facts else None
        installed = find_spec("sae_lens") is not None
        remedy = (
            "SAELens is not installed, but needed to train it; valid: pip install '.[train]' -c envs/constraints.txt"
        )
        return Finding(what, installed, found, "" if installed else remedy), size
    if problems := sae_problems(name, layer):
        return Finding(what, False, f"{name}: not usable", "\n".join(problems)), None
    try:
        sae = load_sae(sae_folder(name))
    except SaeError as error:
        return Finding(what, False, f"{name}: not usable", str(error)), None
    place, declared = model_place(study.model.name), sae.declared
    expected = {"hook_layer": layer, "d_model": facts.get("d_model"), "model_digest": model_digest}
    if place and not declared["model_digest"]:
        # If the SAE names the digest of the model's weights, the model's name does not matter.
        expected["model_name"] = place.repository
    hook = "hook layer not given" if declared["hook_layer"] is None else f"hook layer {declared['hook_layer']}"
    active = f"k {sae.k}" if sae.k else sae.activation
    form = cast(Format, format_of(sae_folder(name)))
    found = f"{name} ({form.name}): {hook}, d_in {sae.d_in}, d_sae {sae.d_sae}, {active}"
    wrong = disagreements(declared, expected)
    return Finding(what, not wrong, found, f"{name}: {'; '.join(wrong.values())}" if wrong else ""), SaeSize(
        sae.d_sae, sae.k
    )


def look_at_recordings(study: Study) -> Finding:
    """Check which recordings of a study are in its folder. The job that reads them checks their content."""
    tracks = study_tracks(study)
    missing = [track.path for track in tracks if not Path(study.recordings.folder, track.path).is_file()]
    found = f"{len(tracks) - len(missing)} of {len(tracks)} files are in {study.recordings.folder}"
    if missing:
        found += f", the others are left out: {', '.join(missing[:3])}{' and more' if len(missing) > 3 else ''}"
    remedy = "" if len(missing) < len(tracks) else f"recordings.folder: {found}; valid: the folder of the recordings"
    return Finding("recordings", not remedy, found, remedy)


def look_at_device(study: Study, facts: Mapping[str, Any]) -> Finding:
    """Check where the model would run on this machine, and whether `generation.batch_size` rows fit into memory."""
    rows = study.generation.batch_size
    try:
        device = pick_device(study.model.device)
    except RuntimeError as error:
        return Finding("device", False, f"{study.model.device}: not available", str(error))
    if device != "cuda":
        unused = "there is also a GPU" if torch.cuda.is_available() else "torch sees no GPU here"
        return Finding("device", True, f"{device} (cores: {len(os.sched_getaffinity(0))}); {unused}")
    free = free_memory(device)
    n_frames = frames(study, facts)
    if free is None or n_frames is None:
        return Finding("device", True, f"{device}; the needed memory is only known when the model is loaded")
    guided = study.generation.cfg_coef != 1
    need = generation_need(facts, n_frames=n_frames, dtype=study.model.dtype, guided=guided)
    found = f"{free[1]}: {bytes_text(free[0])} free, about {bytes_text(need.of(rows))} needed for {rows} rows"
    problem = memory_problem(need, batch_size=rows, free=free)
    return Finding("device", problem is None, found, problem or "")


def look_at_ablations(study: Study, *, n_clips: int) -> Finding:
    """An upper bound on what the ablations cost: which candidates will be confirmed is not known yet."""
    n, n_each = edited_candidates(study), continuations(study, n_clips)
    seconds = study.generation.duration_s - study.ablation.prefix_s
    found = f"at most {n} {'candidate' if n == 1 else 'candidates'}, each with {n_each} continuations of {seconds:g} s"
    if n_map := mapped(study, n_clips):
        found += f"; if one passes, {n_map} more for its map"
    return Finding("ablations", True, found)


def look_at_disk(
    needed: Mapping[str, Mapping[str, float]], corpora: Mapping[str, str], results: Path = Path("results")
) -> tuple[list[Finding], Finding]:
    """Check whether the stores of all studies fit on the disk.

    Stores that are already on disk are not counted again, nor is a corpus that an earlier study in the list has.
    Corpora on disk that no study uses are listed.

    Parameters
    ----------
    needed
        The size of each kind of store in bytes (see `stores_bytes`), by study.
    corpora
        The name of each study's corpus, by study.
    results
        The results folder.

    Returns
    -------
    list of Finding, Finding
        One finding for each study, and one for the whole disk.
    """
    lines, lacking = [], 0.0
    first_with = {corpora[study]: study for study in reversed(list(needed))}
    for study, kinds in needed.items():
        shared = first_with[corpora[study]] != study
        own = {kind: size for kind, size in kinds.items() if kind == "latents" or not shared}
        there = _size(results / study / "latents")
        there += 0 if shared else sum(_size(results / "corpora" / corpora[study] / kind) for kind in STORES)
        lacking += max(0.0, sum(own.values()) - there)
        parts = ", ".join(f"{kind} {bytes_text(size)}" for kind, size in own.items())
        found = f"about {bytes_text(sum(own.values()))}: {parts}" if kinds else "unknown without the model"
        found += f"; clips and activations are those of {first_with[corpora[study]]}" if shared else ""
        lines.append(Finding("disk", True, found + (f"; {bytes_text(there)} there already" if there else "")))
    folder = next(path for path in (results.absolute(), *results.absolute().parents) if path.is_dir())
    free = shutil.disk_usage(folder).free
    found = f"{bytes_text(free)} free in {folder}, about {bytes_text(lacking)} still needed"
    unused = sorted(set((results / "corpora").glob("*-*")) - {results / "corpora" / name for name in first_with})
    if unused:
        listed = ", ".join(f"{path} ({bytes_text(_size(path))})" for path in unused)
        found += f"; not used by these studies, can be deleted if no other study needs it: {listed}"
    remedy = f"{folder}: {found}; valid: a larger disk, or fewer or shorter clips" if lacking > free else ""
    return lines, Finding("disk", not remedy, found, remedy)


def stores_bytes(
    study: Study, facts: Mapping[str, Any], saes: Sequence[SaeSize | None], *, n_clips: int
) -> dict[str, float]:
    """Estimate the sizes of a study's stores.

    Parameters
    ----------
    study
        The study.
    facts
        The model's facts; see `look_at_model`.
    saes
        The size of each SAE, None if it is unknown.
    n_clips
        Number of clips.

    Returns
    -------
    dict
        Approximate size in bytes, by kind (`STORES`); {} if the model's size is unknown.
    """
    n_frames = frames(study, facts)
    if n_frames is None:
        return {}
    tokens = token_arrays(n_clips, n_codebooks=facts["n_codebooks"], n_frames=n_frames)
    acts = activation_arrays(n_clips, n_positions=n_positions(n_frames), d_model=facts["d_model"])
    n_hooks = 1 + len(study.hook_layers) * (1 + reads_random_weights(study.probes.representations))
    latents = 0
    for sae in saes:
        if sae is not None:
            arrays = latent_arrays(n_clips, n_positions(n_frames), d_sae=sae.d_sae, k=sae.k)
            latents += stored_bytes(arrays, n_entries=n_clips * n_positions(n_frames) * USUAL_L0)
    n_samples = round(study.generation.duration_s * facts["sample_rate_hz"])
    sizes = (stored_bytes(tokens), audio_bytes(n_clips, n_samples=n_samples), n_hooks * stored_bytes(acts), latents)
    return dict(zip(STORES, map(float, sizes), strict=True))


def frames(study: Study, facts: Mapping[str, Any]) -> int | None:
    """Number of codec frames of a clip; None if the model's facts are incomplete."""
    if not {"d_model", "n_layers", "n_codebooks", "codebook_size", "sample_rate_hz", "frame_rate_hz"} <= facts.keys():
        return None
    return round(study.generation.duration_s * facts["frame_rate_hz"])


def known_digest(corpus: str, results: Path = Path("results")) -> str | None:
    """The digest of the weights that generated a corpus, if an earlier run saved it; else None."""
    path = results / "corpora" / corpus / "model.json"
    return json.loads(path.read_text(encoding="utf-8"))["weights_digest"] if path.is_file() else None


def _size(folder: Path) -> int:
    return sum(file.stat().st_size for file in folder.rglob("*") if file.is_file())


def bytes_text(n_bytes: float) -> str:
    """A size in words: `3.1 GB`, `7 MB`."""
    return f"{n_bytes / 1e9:.1f} GB" if n_bytes >= 1e8 else f"{n_bytes / 1e6:.1f} MB"
