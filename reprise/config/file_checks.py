"""Checks of the files that a study names: model, SAEs, reviews, prompts and recordings must exist and fit the study.

It also checks that the settings do not need more clips, prompts or tracks than there are.
"""

from collections.abc import Generator, Iterator, Sequence
from pathlib import Path

from reprise.checkpoints.hub import model_folder
from reprise.checkpoints.variants import compatibility_errors
from reprise.checkpoints.weights import model_problems, sae_problems
from reprise.config.clips import count_clips, study_tracks
from reprise.config.errors import ConfigError
from reprise.config.messages import Problem, show, valid_text
from reprise.config.prompts import Prompt, read_prompts
from reprise.config.schema import TRAIN, RecordingSettings, Study
from reprise.interventions.direction_files import DirectionError, describe
from reprise.models.families.registry import family_of, is_family
from reprise.recordings.manifest import Track
from reprise.targets.target import compared_with


def file_problems(study: Study, base_dir: Path) -> Iterator[Problem]:
    """Problems with the files a study names, and settings that need more clips, prompts or tracks than there are."""
    name, backend = study.model.name, study.model.backend
    if not is_family(backend):
        pass  # said across fields
    elif problems := model_problems(name, backend=backend, base_dir=base_dir):
        for text in problems:
            yield Problem(("model", "name"), text, ("model.name", "model.backend"))
    else:
        facts = family_of(backend).facts(model_folder(name, backend=backend, base_dir=base_dir))
        asked = {"layers": study.hook_layers, "duration_s": study.generation.duration_s}
        for path, text in compatibility_errors(facts, name=name, **asked):
            yield Problem(path, text, ("model.name", ".".join(path)))
    for layer, sae in study.saes.items():
        for text in [] if sae == TRAIN else sae_problems(sae, layer, base_dir=base_dir):
            yield Problem(("saes", layer), text, ("saes",))
    stems = [Path(file).stem for file in study.candidates.directions]
    for i, file in enumerate(study.candidates.directions):
        if stems[i] in stems[:i]:
            text = f"{show(file)} has the name of another direction, {stems[i]}; valid: a name of its own"
            yield Problem(("candidates", "directions", i), text, ("candidates.directions",))
        try:
            layer = describe(base_dir / file)["layer"]
        except DirectionError as error:
            yield Problem(("candidates", "directions", i), str(error), ("candidates.directions",))
            continue
        if layer not in study.hook_layers:
            valid = f"one of the study's layers, {', '.join(map(str, study.hook_layers))}"
            text = f"{show(file)} is of layer {layer}; valid: {valid}"
            yield Problem(("candidates", "directions", i), text, ("candidates.directions", "layers", "saes"))
    for i, file in enumerate(study.review.files):
        if not (base_dir / file).is_file():
            text = f"there is no file {show(file)}; valid: a JSON file downloaded from the study's review page"
            yield Problem(("review", "files", i), text, ("review.files",))
    units: Sequence[Prompt] | Sequence[Track]
    uses: tuple[str, ...]
    if study.source == "prompts":
        units, uses = (yield from _prompts(study, base_dir)), ("seeds", "prompts")
    else:
        units = yield from _tracks(study, base_dir)
        uses = ("source", "seeds", "recordings.max_tracks", "recordings.max_clips_per_track")
    if not units:
        return
    n_clips, product = count_clips(study, len(units))
    for group in ("certificate", "ablation"):
        settings = getattr(study, group)
        n = settings.n_clips
        if n > n_clips:
            default = "" if "n_clips" in settings.model_fields_set else ", the default"
            text = f"got {n}{default}; valid: at most the study's {n_clips} clips ({product})"
            yield Problem((group, "n_clips"), text, (f"{group}.n_clips", *uses))
    if study.trained_layers and n_clips // 2 < (n := study.certificate.n_clips) <= n_clips:
        valid = f"at most half of the study's {n_clips} clips ({product})"
        text = f"got {n}, and these clips are not used to train the SAE; valid: {valid}"
        yield Problem(("certificate", "n_clips"), text, ("certificate.n_clips", "saes", *uses))
    if study.probes.n_folds > len(units):
        kind = "prompts" if study.source == "prompts" else "tracks"
        text = f"got {study.probes.n_folds}; valid: at most the study's {len(units)} {kind}"
        yield Problem(("probes", "n_folds"), text, ("probes.n_folds", *uses))


def _prompts(study: Study, base_dir: Path) -> Generator[Problem, None, list[Prompt]]:
    """The prompts of a study; an empty list if their file has problems."""
    try:
        prompts = read_prompts(base_dir / study.prompts)
    except ConfigError as error:
        place = ("prompts",) if not (base_dir / study.prompts).is_file() else ()
        for line in error.problems:
            yield Problem(place, line, ("prompts",))
        return []
    if "group" in compared_with(study.events.model_dump()) and not any(p.group for p in prompts):
        text = f"got 'group', but no prompt in {study.prompts} has a group; valid: a prompts file with a column group"
        yield Problem(("events", "others"), text, ("events.others", "prompts"))
    return prompts


def _tracks(study: Study, base_dir: Path) -> Generator[Problem, None, list[Track]]:
    """The recordings of a study without duplicates; an empty list if their files have problems."""
    settings, missing = study.recordings, False
    for field, is_there in (("folder", Path.is_dir), ("manifest", Path.is_file), ("checksums", Path.is_file)):
        name = getattr(settings, field)
        if name and not is_there(base_dir / name):
            missing = True
            text = f"there is no {'directory' if field == 'folder' else 'file'} {show(name)}"
            valid = valid_text(RecordingSettings.model_json_schema()["properties"][field])
            yield Problem(("recordings", field), f"{text}; valid: {valid}", ("source", f"recordings.{field}"))
    if missing or not settings.manifest:
        return []
    try:
        tracks = study_tracks(study, base_dir=base_dir)
    except ConfigError as error:
        for line in error.problems:
            yield Problem((), line, ("source", "recordings"))
        return []
    return [track for track in tracks if not track.same_as]
