"""Which fields of a study do not go together. No file is read here: see `reprise/config/file_checks.py` for that."""

import math
import re
from collections.abc import Generator, Iterator, Mapping
from typing import NamedTuple

from reprise.config.horizons import horizon_name
from reprise.config.messages import Problem, show, valid_text
from reprise.config.reading import states
from reprise.config.schema import RecordingSettings, Study
from reprise.models.families.registry import FamilyError, family_of

MAX_SEED = 2**63 - 1
# No clip of a recording is longer.
MAX_RECORDED_S = 30.0
# Least stretch of a continuation outside its expected return.
MIN_DAMAGE_S = 1.0
_ROLE = re.compile(r"[a-z][a-z0-9_]*")
# Fields that a source makes no use of. `defaults` may state them, for studies of other sources.
_UNUSED = {
    "prompts": ("recordings",),
    "audio": ("prompts", "seeds", "recordings.continue_from_s"),
    "continuation": ("prompts",),
}
# Representations that count as evidence of a plan; the others are checks.
_EVIDENCE = ("resid", "sae")


def unused_problems(study: Study, entry: Mapping) -> Iterator[Problem]:
    """Fields that the study states itself and its source makes no use of."""
    for path in (tuple(name.split(".")) for name in _UNUSED[study.source]):
        if states(entry, path):
            text = f"the source {study.source} makes no use of it; valid: to leave it out, or another source"
            yield Problem(path, text, ("source",))


def cross_problems(study: Study) -> Iterator[Problem]:
    """Problems that show only across fields."""
    yield from _family_problems(study)
    opening = yield from _opening(study)
    if study.source != "prompts":
        yield from _recording_problems(study)
    for i, seed in enumerate(study.seeds):
        if seed > MAX_SEED:
            text = f"got a number of {len(str(seed))} digits; valid: at most {MAX_SEED}, as tables hold it"
            yield Problem(("seeds", i), text, ("seeds",))
    yield from _horizon_problems(study, opening)
    yield from _continuation_problems(study, opening)
    g = study.generation
    if g.top_p and g.top_k:
        text = f"got {g.top_p:g} beside top_k {g.top_k}; valid: one of the two, the other 0"
        yield Problem(("generation", "top_p"), text, ("generation.top_p", "generation.top_k"))
    yield from _evidence_problems(study)
    yield from _selection_problems(study)


def _family_problems(study: Study) -> Iterator[Problem]:
    """A backend that names no model family, or one that is registered wrongly."""
    try:
        family_of(study.model.backend)
    except FamilyError as error:
        yield Problem(("model", "backend"), f"got {show(study.model.backend)}: {error}", ("model.backend",))


class _Opening(NamedTuple):
    """The part of a clip before the first time that is asked about, which ends at `end_s`.

    name: the fields that it ends by. text: the same with their values. uses: all fields that it and the rest of the
    clip rest on.
    """

    end_s: float
    name: str
    text: str
    uses: tuple[str, ...]


def _opening(study: Study) -> Generator[Problem, None, _Opening]:
    """The opening of a study's clips, and problems where it leaves no room in them."""
    e, context_s, duration_s = study.events, study.descriptors.context_s, study.generation.duration_s
    uses = ("generation.duration_s", "events.motif_start_s", "events.motif_duration_s", "descriptors.context_s")
    end_s = round(e.motif_start_s + e.motif_duration_s + context_s, 6)
    text = f"motif end {end_s - context_s:g} s + context_s {context_s:g} s"
    if end_s >= duration_s:
        valid = "a motif and a context that leave room in the clip"
        got = f"{text} is {end_s:g} s, and a clip has {duration_s:g} s"
        yield Problem(("events", "motif_duration_s"), f"{got}; valid: {valid} (are these in seconds?)", uses)
    recorded_s = study.recordings.continue_from_s
    if study.source != "continuation" or recorded_s <= end_s:
        return _Opening(end_s, "motif end + context_s", text, uses)
    # What is recorded is not the model's, so nothing is asked of it before.
    uses = (*uses, "source", "recordings.continue_from_s")
    if recorded_s >= duration_s:
        text = f"got {recorded_s:g}; valid: less than generation.duration_s, {duration_s:g}"
        yield Problem(("recordings", "continue_from_s"), text, uses)
    return _Opening(recorded_s, "recordings.continue_from_s", f"continue_from_s {recorded_s:g} s", uses)


def _recording_problems(study: Study) -> Iterator[Problem]:
    """Problems across fields that only a study of recordings has."""
    duration_s = study.generation.duration_s
    if duration_s > MAX_RECORDED_S:
        text = f"got {duration_s:g}; valid: at most {MAX_RECORDED_S:g} with recordings"
        yield Problem(("generation", "duration_s"), text, ("generation.duration_s", "source"))
    for field in ("folder", "manifest"):
        if not getattr(study.recordings, field):
            valid = valid_text(RecordingSettings.model_json_schema()["properties"][field])
            text = f"missing, and source is {study.source}; valid: {valid}"
            yield Problem(("recordings", field), text, ("source", f"recordings.{field}"))
    if study.events.others:
        text = f"got {show(study.events.others)}; valid: [] with recordings: clips of one track have the same melody"
        yield Problem(("events", "others"), text, ("events.others", "source"))


def _horizon_problems(study: Study, opening: _Opening) -> Iterator[Problem]:
    """Horizons that are none, that are there twice or that a clip has no room for, and those that are lacking."""
    duration_s, motif_s = study.generation.duration_s, study.events.motif_duration_s
    seen: dict[str, str] = {}
    for role, (a, b) in study.horizons.items():
        path, got, uses = ("horizons", role), f"got [{a:g}, {b:g}]", ("horizons",)
        if not _ROLE.fullmatch(role):
            yield Problem(path, "not a role's name; valid: lower-case letters, digits and _, from a letter on", uses)
        if a >= b:
            yield Problem(path, f"{got}; valid: [from, to] in seconds with from < to", uses)
            continue
        if (a, b) != (float(f"{a:g}"), float(f"{b:g}")):
            yield Problem(path, f"got [{a!r}, {b!r}]; valid: at most six digits, since they name a directory", uses)
        if (other := seen.setdefault(horizon_name(a, b), role)) != role:
            yield Problem(path, f"{got}, the same as {other}; valid: a different horizon for each role", uses)
        if opening.end_s >= duration_s:
            continue
        room_s, uses = round(duration_s - opening.end_s, 6), (*opening.uses, *uses)
        if b > room_s:
            sum_s = f"{opening.text} + {b:g} s = {opening.end_s + b:g} s, and a clip has {duration_s:g} s"
            valid = f"an end of at most {room_s:g}"
            yield Problem(path, f"{got} does not fit: {sum_s}; valid: {valid} (is it in seconds?)", uses)
        elif a + motif_s > room_s:
            text = f"{got} can never hold a whole return of {motif_s:g} s: {opening.text} + {a:g} s"
            valid = f"a start of at most {max(room_s - motif_s, 0):g}"
            yield Problem(path, f"{text}, and a clip has {duration_s:g} s; valid: {valid}", uses)
    if "local" not in study.horizons:
        text = f"no horizon named 'local' among {', '.join(study.horizons)}; valid: one named local and a longer one"
        yield Problem(("horizons",), text, ("horizons",))
    elif not study.longer_roles:
        valid = f"at least one that begins at {study.horizons['local'][1]:g} s, where local ends, or later"
        yield Problem(("horizons",), f"none is longer than local; valid: {valid}", ("horizons",))


def _continuation_problems(study: Study, opening: _Opening) -> Iterator[Problem]:
    """Where continuations under an edit would begin too early or too late, or count returns where they can't be."""
    duration_s, motif_s, ablation = study.generation.duration_s, study.events.motif_duration_s, study.ablation
    low_s, high_s = opening.end_s, round(duration_s - max(b for _, b in study.horizons.values()), 6)
    if low_s <= high_s and not low_s <= ablation.prefix_s <= high_s:
        valid = f"{low_s:g} ({opening.name}) to {high_s:g} (clip less the longest horizon)"
        uses = (*opening.uses, "horizons", "ablation.prefix_s")
        yield Problem(("ablation", "prefix_s"), f"got {ablation.prefix_s:g}; valid: {valid}", uses)
    from_s, to_s = ablation.return_window_s
    room_s = round(duration_s - ablation.prefix_s - motif_s, 6)
    if room_s <= 0 or ablation.prefix_s > high_s:
        return
    path, got = ("ablation", "return_window_s"), f"got [{from_s:g}, {to_s:g}]"
    uses = (*opening.uses, "ablation.prefix_s", "ablation.return_window_s")
    if not from_s < to_s <= room_s:
        valid = f"[from, to] with from < to, and to at most {room_s:g} (clip less prefix_s and a whole return)"
        yield Problem(path, f"{got}; valid: {valid}", uses)
    elif (left_s := round(from_s + room_s - to_s, 6)) < MIN_DAMAGE_S:
        valid = f"[from, to] that leave {MIN_DAMAGE_S:g} s or more before and after a return, to measure damage in"
        text = f"{got}, which leaves {left_s:g} s of a continuation of {room_s + motif_s:g} s"
        yield Problem(path, f"{text}; valid: {valid}", uses)


def _evidence_problems(study: Study) -> Iterator[Problem]:
    """Settings under which no verdict can be reached: what it rests on is left out, or a null has too few draws."""
    e, probes = study.events, study.probes
    evidence = [r for r in probes.representations if r in _EVIDENCE]
    if not evidence:
        valid = f"at least one of {', '.join(_EVIDENCE)}, on which the verdict rests"
        text = f"got {', '.join(probes.representations)}; valid: {valid}"
        yield Problem(("probes", "representations"), text, ("probes.representations",))
    if e.n_surrogates < (least := _fewest_draws(e.max_p_value)):
        text = f"got {e.n_surrogates}, too few for any p-value to reach events.max_p_value {e.max_p_value:g}"
        uses = ("events.n_surrogates", "events.max_p_value")
        yield Problem(("events", "n_surrogates"), f"{text}; valid: at least {least}", uses)
    if evidence and "random_model" not in probes.representations:
        text = (
            f"got {', '.join(probes.representations)}; valid: also random_model, which the learned gain is judged by"
        )
        yield Problem(("probes", "representations"), text, ("probes.representations",))
    n_horizons = max(1, len(study.horizons) - 1)
    n_tests = max(1, len(study.saes) * len(evidence)) * n_horizons
    if probes.n_swaps < (least := _fewest_draws(probes.alpha / n_tests)):
        tests = f"{n_tests} tests (layers x representations x shorter horizons)"
        text = f"got {probes.n_swaps}, too few for any p-value to reach probes.alpha {probes.alpha:g} / {tests}"
        uses = ("probes.n_swaps", "probes.alpha", "probes.representations", "saes", "horizons")
        yield Problem(("probes", "n_swaps"), f"{text}; valid: at least {least}", uses)
    for field, needed in (("doses", 1.0), ("windows", "until_event")):
        if needed not in (given := getattr(study.ablation, field)):
            needed = f"{needed:g}" if isinstance(needed, float) else needed
            text = f"got {show(given)}; valid: a list with {needed} in it, on which the verdict rests"
            yield Problem(("ablation", field), text, (f"ablation.{field}",))


def _selection_problems(study: Study) -> Iterator[Problem]:
    """Thresholds of events, reviews and candidates that let nothing through."""
    e, screen = study.events, study.screen
    if e.candidate_score > e.min_score:
        text = f"got {e.candidate_score:g}; valid: at most events.min_score, {e.min_score:g}"
        yield Problem(("events", "candidate_score"), text, ("events.candidate_score", "events.min_score"))
    if study.labels.reviewed_only and not study.review.files:
        text = "got true, and review.files names none; valid: false, or the study's reviews in review.files"
        yield Problem(("labels", "reviewed_only"), text, ("labels.reviewed_only", "review.files"))
    if screen.max_candidates > screen.max_tried:
        default = "" if "max_candidates" in screen.model_fields_set else ", the default"
        text = f"got {screen.max_candidates}{default}; valid: at most max_tried, {screen.max_tried}"
        yield Problem(("screen", "max_candidates"), text, ("screen.max_candidates", "screen.max_tried"))
    if screen.min_active >= screen.max_active:
        text = f"got {screen.min_active:g}; valid: below screen.max_active, {screen.max_active:g}"
        yield Problem(("screen", "min_active"), text, ("screen.min_active", "screen.max_active"))


def _fewest_draws(level: float) -> int:
    """The fewest draws from a null, n, for which the smallest p-value, 1 / (1 + n), is at most `level`."""
    return math.ceil(1 / level - 1e-9) - 1
