"""The configuration: one typed model, and the checks that run before any job starts.

Conventions. A file has `studies` (name -> study), `defaults` (study fields shared by all studies) and `report`.
A study states only what differs: groups such as `generation` are merged field by field, while lists, `saes` and
`horizons` are replaced as a whole. Times are in seconds (`_s`), shares between 0 and 1; a layer is 0-based. Paths
are relative to `base_dir`, the project's root. `config/schema.json` and `config/config.default.yaml` are generated
from this module by `reprise/config/docs.py`.

Problems are collected: a `ConfigError` has one line a problem, each naming file, field, value and what is valid.
Nothing degenerate passes: an empty file, no study, a study without a model or an SAE, and no prompts are errors.

The Snakefile imports this at every parse, so it imports nothing heavier than pydantic and yaml.
"""

import difflib
import hashlib
import json
import math
import re
import unicodedata
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal, NamedTuple

import yaml
from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError, ValidationInfo, field_validator
from pydantic_core import PydanticCustomError

from reprise.checkpoints.hub import HUB_SAE, model_folder
from reprise.checkpoints.variants import misfits, read_facts
from reprise.checkpoints.weights import model_problems, sae_problems
from reprise.config.errors import ConfigError, not_one_line, read_cells, read_text, repeated_columns
from reprise.recordings.manifest import Track, read_tracks

# In `saes`: this layer's SAE is trained on the study's own activations.
TRAIN = "train"
PROMPT_COLUMNS = ["prompt_id", "prompt", "group"]
_PROMPT_ID = re.compile(r"[A-Za-z0-9-]+")
# The longest name that an id is part of is <id>-s<seed>--random_direction-prefix_only-d1.flac, and file systems take
# 255 bytes, encrypted ones 143.
MAX_ID = 80
MAX_SEED = 2**63 - 1
# What T5's tokenizer reads as a space beside those of Unicode: marks of direction, spaces of no width, its own sign of
# a space and the sign of a character that was lost.
_AS_SPACE = "[\u061c\u200b\u200c\u200e\u200f\ufeff\u2581\ufffd]"
_STUDY_NAME = re.compile(r"[a-z0-9][a-z0-9_-]{0,59}")
_ROLE = re.compile(r"[a-z][a-z0-9_]*")
# Directories under results/ that are not studies.
_RESERVED_NAMES = ("report", "logs", "benchmarks", "corpora", "organisms", "calibration")
# No clip is longer than this: a larger number is milliseconds, samples or frames.
_MAX_S = 600.0
# No clip of a recording is longer.
MAX_RECORDED_S = 30.0
# Fields that a source makes no use of. `defaults` may state them, for studies of other sources.
_UNUSED = {
    "prompts": ("recordings",),
    "audio": ("prompts", "seeds", "recordings.continue_from_s"),
    "continuation": ("prompts",),
}
# Least stretch of a continuation outside its expected return.
MIN_DAMAGE_S = 1.0
# Representations that count as evidence of a plan; the others are checks.
_EVIDENCE = ("resid", "sae")
# `organisms` overrides config/organisms.yaml and is read by the training recipe alone.
_TOP_LEVEL = ("studies", "defaults", "report", "organisms", "calibration")
COMMAND_LINE = "--config"
_GIVEN = re.compile(rf"({'|'.join(_TOP_LEVEL)})=(.*)", re.DOTALL)


# --- the model ------------------------------------------------------------------------------------------------


class Settings(BaseModel):
    """A group of fields; unknown fields are errors, and nothing can be changed after validation."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)

    @field_validator("*", mode="before")
    @classmethod
    def _no_booleans(cls, value: Any, info: ValidationInfo) -> Any:
        # pydantic would read `yes` or `true` as the number 1; only a field declared as a truth value may be one.
        kind = cls.model_fields[info.field_name or ""].annotation
        if kind is bool or (isinstance(kind, type) and issubclass(kind, Settings)):
            return value
        if _holds_boolean(value):
            raise PydanticCustomError("bool", "a truth value")
        return value


def _holds_boolean(value: Any) -> bool:
    inside = value.values() if isinstance(value, Mapping) else value if isinstance(value, list | tuple) else ()
    return isinstance(value, bool) or any(map(_holds_boolean, inside))


def _unique(values: tuple) -> tuple:
    for value in values:
        if values.count(value) > 1:
            raise PydanticCustomError("problem", "{value} is there twice", {"value": str(value)})
    return values


def _leaf(default: Any, description: str, *, unit: str | None = None, valid: str | None = None, **limits: Any) -> Any:
    """A field with a description, its unit, and (where the limits don't say it) what is valid in words."""
    extra = {key: value for key, value in (("unit", unit), ("valid", valid)) if value is not None}
    return Field(default, description=description, json_schema_extra=extra or None, **limits)


def _seconds(default: Any, description: str, **limits: Any) -> Any:
    low = {} if "gt" in limits else {"ge": 0}
    return _leaf(default, description, unit="s", **{**low, "le": _MAX_S, **limits})


def _share(default: float, description: str, **limits: Any) -> Any:
    low = {} if "gt" in limits else {"ge": 0}
    return _leaf(default, description, unit="share", **{**low, "le": 1, **limits})


Second = Annotated[float, Field(ge=0, le=_MAX_S, json_schema_extra={"unit": "s"})]


class ModelSettings(Settings):
    """The music model."""

    backend: Literal["audiocraft", "transformers"] = _leaf(
        "audiocraft",
        "Library that loads the model, from files of its own form. Both give the same activations and tokens.",
    )
    name: str = _leaf(
        ...,
        "The model: a hub id (with @ and a commit, to pin it), or a directory with state_dict.bin and "
        "compression_state_dict.bin. What is on the hub must have been fetched beforehand.",
        valid="a hub id such as facebook/musicgen-small, or a directory such as resources/planner",
        min_length=1,
    )
    dtype: Literal["float32", "float16", "bfloat16"] = _leaf(
        "float32",
        "What the language model computes in. The half-wide ones take half the memory and are for GPUs.",
    )
    device: Literal["auto", "cpu", "cuda"] = _leaf("auto", "Where it runs; auto: the GPU if there is one.")


class RecordingSettings(Settings):
    """Real recordings, for the sources audio and continuation: see reprise/recordings/manifest.py and
    reprise/recordings/cutting.py."""

    folder: str = _leaf("", "Folder that the manifest's paths are below.", valid="a directory of audio files")
    manifest: str = _leaf(
        "",
        "The recordings: a CSV or JSONL file with path, sha256, licence, source, tags and prompt, or a metadata file "
        "of MTG-Jamendo (.tsv).",
        valid="a manifest such as data/recordings.csv",
    )
    checksums: str = _leaf(
        "",
        "SHA-256 of the files, in place of the manifest's own: lines with a checksum and a path, as in MTG-Jamendo's.",
        valid="a text file of checksums, or nothing",
    )
    max_tracks: int = _leaf(0, "Most tracks of the manifest, drawn by a hash of their names; 0: all.", ge=0)
    max_clips_per_track: int = _leaf(4, "Most clips that are cut from a track, spread over it evenly.", ge=1)
    continue_from_s: float = _seconds(
        8.0, "For the source continuation: how much of each clip is recorded, before the model goes on.", gt=0
    )


class GenerationSettings(Settings):
    """How clips are generated, and continued under edits."""

    duration_s: float = _seconds(16.0, "Length of a clip.", ge=1)
    temperature: float = _leaf(0.9, "Sampling temperature.", gt=0)
    top_k: int = _leaf(100, "Sample among the k most likely tokens; 0: all.", ge=0)
    top_p: float = _share(0.0, "Sample among the likeliest tokens that hold this share together; 0: not so.")
    cfg_coef: float = _leaf(1.0, "Classifier-free guidance; 1: none (and half the work).", ge=1)
    n_batches: int = _leaf(
        4, "How many stores the clips are split into, by prompt. Changing it reshuffles all clips.", ge=1
    )
    rows: int = _leaf(64, "Rows of one forward pass: fixed, so that results do not depend on the machine.", ge=1)


class CertificateSettings(Settings):
    """When an SAE is accepted as belonging to its layer."""

    n_clips: int = _leaf(16, "Clips that reconstruction is measured on.", ge=2)
    max_fvu: float = _leaf(0.5, "Largest fraction of variance unexplained at the declared layer.", gt=0, lt=1)
    min_neighbour_ratio: float = _leaf(
        1.2, "By what factor the fraction of variance unexplained must be larger at each neighbouring layer.", ge=1
    )


class SaeTrainingSettings(Settings):
    """How the SAEs that `saes` asks for with `train` are trained: see reprise/saes/training.py."""

    architecture: Literal["topk", "batchtopk", "jumprelu"] = _leaf(
        "topk",
        "What makes codes sparse: the k largest at a position, the k times as many largest of a batch, or a learned "
        "threshold for each feature. The last two are saved as jumprelu.",
    )
    expansion: int = _leaf(4, "Features for each dimension of the stream, d_sae / d_model.", ge=1)
    k: int = _leaf(
        32, "Features active at a position: at most (topk), on average (batchtopk) or aimed at (jumprelu).", ge=1
    )
    n_steps: int = _leaf(5000, "Steps of training.", ge=100)
    batch_size: int = _leaf(2048, "Positions in a step.", unit="positions", ge=1)
    learning_rate: float | None = _leaf(
        None,
        "Peak learning rate; null: 2e-4 * sqrt(16384 / d_sae).",
        valid="a number > 0, or null",
        gt=0,
    )


class DescriptorSettings(Settings):
    """Causal acoustic features: what the baseline can hear."""

    context_s: float = _seconds(
        3.0, "How far back the baseline hears; times nearer to the motif are left out.", ge=0.5
    )


class EventSettings(Settings):
    """What counts as a recurrence of the motif: see reprise/targets/recurrence/events.py."""

    motif: Literal["opening", "beats", "discovered"] = _leaf(
        "opening",
        "Which passage may return: the one that motif_start_s and motif_duration_s name, the same with its ends on "
        "beats, or whatever the clip itself repeats for motif_duration_s.",
    )
    motif_start_s: float = _seconds(2.0, "Where the motif begins; not used when it is discovered.")
    motif_duration_s: float = _seconds(2.0, "How long the motif is.", ge=0.8)
    min_score: float = _share(0.75, "Least match score (1: identical).")
    max_p_value: float = _leaf(0.05, "Largest p-value against surrogates.", gt=0, lt=1)
    n_surrogates: int = _leaf(99, "Surrogates of the clip that a match is compared with.", ge=1)
    surrogate_segment_share: float = _share(
        0.5, "Length of the segments that surrogates are shuffled in, relative to the motif.", gt=0
    )
    others: Annotated[tuple[Literal["prompt", "group"], ...], AfterValidator(_unique)] = _leaf(
        (),
        "Other clips that a match must also beat, where enough share a batch: of the same prompt with another seed, "
        "or of other prompts of its group (a third column of the prompts file). Leave out those that are meant to "
        "have the same melody.",
    )
    min_gap_s: float = _seconds(2.0, "Shortest stretch without a match before a recurrence.")
    gap_max_score: float = _share(0.7, "Highest match score inside that gap.")
    timbre_margin: float = _share(0.1, "By how much the match score must exceed the timbre score.")
    min_entropy_bits: float = _leaf(1.5, "Least pitch-class entropy of a motif.", unit="bits", ge=0, le=3.585)
    min_onsets: int = _leaf(3, "Fewest note onsets of a motif.", ge=1)
    candidate_score: float = _share(0.4, "Matches that score less are not even listed.")


class LabelSettings(Settings):
    """Times at which the question is asked."""

    step_s: float = _seconds(0.5, "Time between two labelled positions.", ge=0.01)
    reviewed_only: bool = _leaf(
        False,
        "Whether only a reviewer's accept makes a recurrence count; times that rest on any other are left out.",
        strict=True,
    )


class ReviewSettings(Settings):
    """The review page, and the reviews that overrule the tests of events: see reprise/review/decisions.py."""

    files: Annotated[tuple[Annotated[str, Field(min_length=1)], ...], AfterValidator(_unique)] = _leaf(
        (),
        "Decisions downloaded from the study's review page, one file a reviewer.",
        valid="a list of JSON files downloaded from the study's review page",
    )
    max_events: int = _leaf(100, "Most events on the review page, the uncertain ones first.", ge=1)
    context_s: float = _seconds(0.5, "What is played before and after a passage.", le=10)


class ProbeSettings(Settings):
    """Linear probes, their folds and their null."""

    representations: Annotated[
        tuple[Literal["resid", "sae", "embedding", "random_dictionary", "random_model"], ...], AfterValidator(_unique)
    ] = _leaf(
        ("resid", "sae", "embedding", "random_dictionary", "random_model"),
        "What is probed. Evidence are resid and sae; the others say what those are worth: embedding, the input to "
        "layer 0; random_dictionary, codes by random directions; random_model, the stream of the same model with "
        "random weights, dumped for it.",
        min_length=1,
    )
    n_folds: int = _leaf(5, "Folds of cross-fitting, grouped by prompt.", ge=2)
    n_swaps: int = _leaf(
        199, "Pseudosession swaps of the null. A candidate is confirmed with as many as its correction needs.", ge=1
    )
    n_bootstrap: int = _leaf(2000, "Bootstrap resamples of the prompts.", ge=100)
    alpha: float = _leaf(0.05, "Largest p-value of the null.", gt=0, lt=1)


class ScreenSettings(Settings):
    """How candidate features are found and confirmed."""

    min_active: float = _share(0.01, "Smallest share of clips in which a feature is active.")
    max_active: float = _share(0.6, "Largest share of clips in which a feature is active.")
    fdr: float = _leaf(0.05, "False discovery rate over features, layers and horizons.", gt=0, lt=1)
    confirm_share: float = _leaf(0.5, "Share of the prompts kept for confirmation.", unit="share", gt=0, lt=1)
    max_tried: int = _leaf(
        4,
        "Most features taken to confirmation, the screen's first. Each that is tried counts in the correction.",
        ge=1,
    )
    max_candidates: int = _leaf(2, "Most confirmed features taken on to the ablation.", ge=1)


class AblationSettings(Settings):
    """Continuations under an edit."""

    n_clips: int = _leaf(24, "Clips continued under every condition.", ge=2)
    prefix_s: float = _seconds(8.0, "Length of the clip's own opening that a continuation starts from.", gt=0)
    return_window_s: tuple[Second, Second] = _leaf(
        (1.5, 4.5),
        "When a return of a continuation counts, [from, to] after the prefix's end. It should leave room before or "
        "after: damage is measured there.",
        unit="s",
        valid="[from, to] in seconds after the prefix's end, with 0 <= from < to",
    )
    n_matched: int = _leaf(1, "Matched features that each candidate is compared with.", ge=1)
    doses: Annotated[tuple[Annotated[float, Field(ge=0, le=10)], ...], AfterValidator(_unique)] = _leaf(
        (0.25, 0.5, 1.0, 2.0),
        "Strengths of the edit, 1 among them: the feature is removed. 0 is a check: no token may change.",
        min_length=1,
    )
    windows: Annotated[tuple[Literal["until_event", "prefix_only"], ...], AfterValidator(_unique)] = _leaf(
        ("until_event", "prefix_only"),
        "Edited positions: until_event asks whether it is used, prefix_only whether it is stored.",
        min_length=1,
    )
    halves: Literal["both", "conditional"] = _leaf("both", "With guidance: which half of the batch is edited.")
    target: Literal["zero", "mean", "resample"] = _leaf(
        "zero",
        "What a feature's activation is moved to: 0, its mean, or its value at the same position of a clip of another "
        "prompt that does not return.",
    )
    n_steered: int = _leaf(
        12, "Most clips without a return that are continued with the feature turned up; 0: none.", ge=0
    )


class VerdictSettings(Settings):
    """Thresholds of the gates. They are set before any result is seen."""

    min_positive_clips: int = _leaf(20, "Fewest clips with a return in the horizon; with fewer: unresolved.", ge=1)
    min_negative_clips: int = _leaf(20, "Fewest clips without a return in the horizon; with fewer: unresolved.", ge=1)
    min_positive_prompts: int = _leaf(10, "Fewest prompts with a return in the horizon; with fewer: unresolved.", ge=2)
    min_gain_auroc: float = _leaf(
        0.05, "Least conditional gain in AUROC; its interval must lie above 0.", unit="AUROC", gt=0, le=0.5
    )
    max_missed_gain_auroc: float = _leaf(
        0.15, "Gain that the interval must exclude before its absence is concluded.", unit="AUROC", gt=0, le=0.5
    )
    min_learned_gain_auroc: float = _leaf(
        0.025,
        "Least gain in AUROC over the same model with random weights; its interval must lie above 0.",
        unit="AUROC",
        gt=0,
        le=0.5,
    )
    min_effect: float = _share(
        0.2, "Least fall in the rate of returns under the edit; its interval must lie above 0.", gt=0
    )
    min_selectivity: float = _share(
        0.1, "Least excess over the controls at matched damage; its interval must lie above 0.", gt=0
    )
    max_damage: float = _leaf(
        0.5,
        "Most damage an edit may do: rise of the unedited model's loss. Its whole interval must lie at or below this.",
        unit="nats per token",
        gt=0,
        lt=1,
    )
    min_stored_share: float = _share(
        0.5,
        "Share of the effect that all of the prefix-only edit's interval must reach for a plan to count as stored.",
        gt=0,
    )


class Study(Settings):
    """One study: a model, its prompts or recordings and everything asked of them."""

    model: ModelSettings
    source: Literal["prompts", "audio", "continuation"] = _leaf(
        "prompts",
        "Where clips come from. prompts: the model plays them. audio: they are cut from recordings, and the model "
        "reads them. continuation: the model goes on from the opening of each cut.",
    )
    prompts: str = _leaf(
        "config/prompts.tsv",
        "Prompts: a tab-separated file with the columns prompt_id and prompt.",
        valid="a tab-separated file such as config/prompts.tsv",
        min_length=1,
    )
    recordings: RecordingSettings = RecordingSettings()
    seeds: Annotated[tuple[Annotated[int, Field(ge=0)], ...], AfterValidator(_unique)] = _leaf(
        (0, 1, 2, 3), "One clip is generated for each prompt, or for each cut of a recording, and seed.", min_length=1
    )
    generation: GenerationSettings = GenerationSettings()
    saes: dict[Annotated[int, Field(ge=0)], Annotated[str, Field(min_length=1)]] = _leaf(
        ...,
        "SAE of each layer (0-based): its directory, its place on the hub, pinned to a commit, or train for one that "
        "is trained on the study's own clips. These layers are the study's hooks.",
        valid="layer: directory, place on the hub or train, such as 2: resources/planner/sae/layer2, "
        f"2: {HUB_SAE} or 2: train",
        min_length=1,
    )
    sae_training: SaeTrainingSettings = SaeTrainingSettings()
    certificate: CertificateSettings = CertificateSettings()
    descriptors: DescriptorSettings = DescriptorSettings()
    events: EventSettings = EventSettings()
    labels: LabelSettings = LabelSettings()
    review: ReviewSettings = ReviewSettings()
    horizons: dict[str, tuple[Second, Second]] = _leaf(
        {"local": (0.5, 2.0), "medium": (2.0, 4.0), "long": (4.0, 8.0)},
        "How far ahead a return is asked for, [from, to]: one named local, and at least one that begins "
        "where local ends or later.",
        unit="s",
        valid="one named local and a longer one, [from, to] in seconds with 0 <= from < to, such as "
        "{local: [0.5, 2], long: [4, 8]}",
        min_length=2,
    )
    probes: ProbeSettings = ProbeSettings()
    screen: ScreenSettings = ScreenSettings()
    ablation: AblationSettings = AblationSettings()
    verdict: VerdictSettings = VerdictSettings()

    @property
    def layers(self) -> tuple[int, ...]:
        """The study's hooks: the layers that have an SAE, ascending."""
        return tuple(sorted(self.saes))

    @property
    def trained_layers(self) -> tuple[int, ...]:
        """The layers whose SAE is trained in the study, ascending."""
        return tuple(layer for layer in self.layers if self.saes[layer] == TRAIN)

    @property
    def longer_roles(self) -> tuple[str, ...]:
        """Roles of the horizons that begin where `local` ends or later, nearest first."""
        end = self.horizons["local"][1]
        return tuple(sorted((r for r, (a, _) in self.horizons.items() if a >= end), key=lambda r: self.horizons[r]))


class ReportSettings(Settings):
    """The report."""

    title: str = _leaf("Does the model plan its returns?", "Title of the report.", min_length=1)


class Config(Settings):
    """A validated configuration, its defaults already merged into its studies."""

    studies: dict[str, Study] = _leaf(
        ..., "Studies by name; each has its directory under results/.", valid="at least one study", min_length=1
    )
    report: ReportSettings = ReportSettings()


# Study fields that are merged field by field; every other one is replaced as a whole.
GROUPS: dict[str, type[Settings]] = {
    name: field.annotation
    for name, field in Study.model_fields.items()
    if isinstance(field.annotation, type) and issubclass(field.annotation, Settings)
}


def horizon_name(a_s: float, b_s: float) -> str:
    """Name of the horizon [a_s, b_s] seconds in paths and tables, such as `h0.5-2`."""
    return f"h{a_s:g}-{b_s:g}"


def parse_horizon_name(name: str) -> tuple[float, float]:
    """The horizon [a_s, b_s] seconds that `horizon_name` gave this name. Raises ValueError for any other text."""
    match = re.fullmatch(r"h([0-9.]+)-([0-9.]+)", name)
    if not match:
        raise ValueError(f"horizon: got {name!r}; valid: h<from>-<to> in seconds, such as h0.5-2")
    return float(match[1]), float(match[2])


# Who states fields, given by their places from the top: the first is the one in question, the others bear on it.
Source = Callable[..., str]


# --- reading and validating -----------------------------------------------------------------------------------


class _Problem(NamedTuple):
    """`path`: the field, from the study down (none: the text names another file and stands alone); `uses`: the
    fields ("group.field") that the statement rests on."""

    path: tuple[str | int, ...]
    text: str
    uses: tuple[str, ...] = ()


class _UniqueKeyLoader(yaml.SafeLoader):
    """yaml keeps the last of two equal keys without a word; here that is an error."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict:
        keys = [self.construct_object(k, deep=True) for k, _ in node.value if k.tag != "tag:yaml.org,2002:merge"]
        for i, key in enumerate(keys):
            if key in keys[:i]:
                raise yaml.constructor.ConstructorError(None, None, f"{key!r} is there twice", node.start_mark)
        return super().construct_mapping(node, deep)


def load_config(path: str | Path, *, base_dir: str | Path = ".", check_files: bool = True) -> Config:
    """Read and validate a YAML file. Raises ConfigError with every problem found; see `validate`."""
    return validate(read_yaml(path), base_dir=base_dir, source=str(path), check_files=check_files)


def read_yaml(path: str | Path) -> Any:
    """A YAML file as plain builtins. Raises ConfigError where it is none, or says the same key twice."""
    text = read_text(Path(path))
    try:
        return yaml.load(text, _UniqueKeyLoader)
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        where = f" (line {mark.line + 1})" if mark else ""
        problem = getattr(error, "problem", None) or "not readable as YAML"
        raise ConfigError([f"{path}{where}: {problem}; valid: a YAML file, see config/config.default.yaml"]) from error


def told_by(files: Mapping[str, Any], command_line: Mapping[str, Any]) -> Source:
    """Who states a field, in words: of configuration files, by name, and what the command line gives (`--config`),
    whoever says most about where it stands; and the command line too where it gives a field that bears on it."""
    of_files = ", ".join(files) or ("" if command_line else "config")

    def source(place: Sequence[str] = (), *bearing: Sequence[str]) -> str:
        here, there = _depth(command_line, place), max((_depth(file, place) for file in files.values()), default=-1)
        given = command_line and (here >= there or any(_depth(command_line, p) == len(p) for p in bearing))
        stated = of_files and (there > here or (there == here < len(place)) or not place)
        return ", ".join(filter(None, [of_files if stated else "", COMMAND_LINE if given else ""])) or of_files

    return source


def _depth(node: Any, place: Sequence[str]) -> int:
    """How many parts of a place below `node` are stated there; of what is no configuration none."""
    for n, part in enumerate(place):
        if isinstance(node, (list, tuple)):
            node = dict(enumerate(node))
        below = {str(key): value for key, value in node.items()} if isinstance(node, Mapping) else {}
        if part not in below:
            return n
        node = below[part]
    return len(place)


def check_command_line(arguments: Sequence[str]) -> None:
    """Raise ConfigError where what is given with `--config` says a key twice: Snakemake takes the last."""
    given = [found for found in map(_GIVEN.fullmatch, arguments) if found]
    problems = [
        f"{COMMAND_LINE}: {key} is given twice; valid: once" for key in repeated_columns([g[1] for g in given])
    ]
    for key, text in (found.groups() for found in given):
        try:
            yaml.load(text, _UniqueKeyLoader)
        except yaml.YAMLError as error:
            if isinstance(error, yaml.constructor.ConstructorError):
                problems.append(f"{COMMAND_LINE}: {key}: {error.problem}; valid: each key once")
    if problems:
        raise ConfigError(problems)


def validate(
    raw: Any, *, base_dir: str | Path = ".", source: str | Source = "config", check_files: bool = True
) -> Config:
    """Validate a configuration as YAML gives it: plain mappings, lists, numbers and text.

    source: the file's name in messages, or what gives it for the fields in question (`told_by`). check_files: also
    check that models, SAEs and prompts named by a path are there, read the prompts, and check counts against them.
    Raises ConfigError listing all problems at once.
    """
    of = source if callable(source) else lambda *_: source
    if not isinstance(raw, Mapping):
        valid = "a mapping with 'studies', see config/config.default.yaml"
        raise ConfigError([f"{of()}: got {_show(raw)}; valid: {valid}"])
    lines = [f"{of((key,))}: {_unknown(key, list(_TOP_LEVEL))}" for key in raw if key not in _TOP_LEVEL]
    report = _report(raw.get("report"), of, lines)
    defaults = {} if raw.get("defaults") is None else raw["defaults"]
    if not isinstance(defaults, Mapping):
        lines.append(f"{of(('defaults',))}: defaults: got {_show(defaults)}; valid: a mapping of study fields")
        defaults = {}
    broken = {k: v for k, v in defaults.items() if k in GROUPS and not (v is None or isinstance(v, Mapping))}
    for group, value in broken.items():
        fields = ", ".join(GROUPS[group].model_fields)
        where = f"{of(('defaults', group))}: defaults.{group}"
        lines.append(f"{where}: {_got(value)}; valid: a group with the fields {fields}")
    defaults = {k: v for k, v in defaults.items() if k not in broken}
    entries = raw.get("studies")
    if not isinstance(entries, Mapping) or not entries:
        lines.append(f"{of(('studies',))}: studies: {_got(entries)}; valid: at least one study, name: fields")
        entries = {}
    studies = {}
    for name, entry in entries.items():
        own = ("studies", str(name))
        entry = {} if entry is None else entry
        if not (isinstance(name, str) and _STUDY_NAME.fullmatch(name)) or name in _RESERVED_NAMES:
            valid = (
                "a directory's name of at most 60 lower-case letters, digits, - and _, other than "
                f"{', '.join(_RESERVED_NAMES)}"
            )
            lines.append(f"{of(own)}: studies: got the name {_show(name)}; valid: {valid}")
        if not isinstance(entry, Mapping):
            lines.append(f"{of(own)}: studies.{name}: got {_show(entry)}; valid: a mapping of study fields")
            continue
        merged = _merge(defaults, entry)
        studies[name], problems = _study(merged, entry, base_dir=Path(base_dir), check_files=check_files)
        for problem in problems:
            place = _origin(str(name), problem.path, entry, defaults)
            uses = [(*parent, *use.split(".")) for use in problem.uses for parent in (own, ("defaults",))]
            where = f"{of(place, *uses)}: {'.'.join(place)}: " if problem.path else ""
            lines.append(where + problem.text)
    if lines:
        raise ConfigError(lines)
    return Config(studies=studies, report=report)


def _merge(defaults: Mapping, entry: Mapping) -> dict[str, Any]:
    """The study's fields over the defaults'; an empty group states nothing."""
    merged = {}
    for key in dict.fromkeys([*defaults, *entry]):
        sides = [side[key] for side in (defaults, entry) if key in side]
        if key in GROUPS:
            sides = [{} if side is None else side for side in sides]
            sound = all(isinstance(side, Mapping) for side in sides)
            merged[key] = {k: v for side in sides for k, v in side.items()} if sound else sides[-1]
        else:
            merged[key] = sides[-1]
    merged.setdefault("model", {})
    return merged


def _study(
    merged: dict[str, Any], entry: Mapping, *, base_dir: Path, check_files: bool
) -> tuple[Study, list[_Problem]]:
    """Validate one merged study, of which `entry` is its own part: field by field, then across fields, as far as its
    fields are sound."""
    problems: list[_Problem] = []
    broken: set[str] = set()
    try:
        study = Study.model_validate(merged)
    except ValidationError as error:
        schema = Study.model_json_schema()
        errors = error.errors(include_url=False)
        inner = {e["loc"][:i] for e in errors for i in range(len(e["loc"]))}
        for e in errors:
            # An error of a mapping's key, not of what it holds, is marked so by pydantic.
            of_key = e["loc"][-1] == "[key]" and e["type"] != "extra_forbidden"
            path = e["loc"][:-1] if of_key else e["loc"]
            if e["loc"] in inner:
                continue  # pydantic also calls a list too short when it dropped its bad items
            problems.append(_Problem(path, describe_error(e, path, schema)))
            broken.add(".".join(str(p) for p in path[: 2 if path[0] in GROUPS else 1]))
        # Unsound fields take their defaults, and checks that rest on them are skipped.
        sound = {k: v for k, v in merged.items() if k in Study.model_fields and k not in broken}
        for group in GROUPS.keys() & sound.keys():
            sound[group] = {k: v for k, v in sound[group].items() if f"{group}.{k}" not in broken}
        sound["model"] = {"name": "unknown", **sound.get("model", {})}
        sound.setdefault("saes", {0: "unknown"})
        broken |= {f"{b}.{f}" for b in broken & GROUPS.keys() for f in GROUPS[b].model_fields}
        study = Study.model_validate(sound)
    checks = [*_unused(study, entry), *_across(study), *(_files(study, base_dir) if check_files else ())]
    problems.extend(p for p in checks if not broken.intersection(p.uses))
    return study, problems


def _unused(study: Study, entry: Mapping) -> Iterator[_Problem]:
    """Fields that the study states itself and its source makes no use of."""
    for path in (tuple(name.split(".")) for name in _UNUSED[study.source]):
        if _states(entry, path):
            text = f"the source {study.source} makes no use of it; valid: to leave it out, or another source"
            yield _Problem(path, text, ("source",))


def _across(study: Study) -> Iterator[_Problem]:
    """Problems that show only across fields."""
    g, e, ablation, recordings = study.generation, study.events, study.ablation, study.recordings
    clip = ("generation.duration_s", "events.motif_start_s", "events.motif_duration_s", "descriptors.context_s")
    first_s = round(e.motif_start_s + e.motif_duration_s + study.descriptors.context_s, 6)
    opening = f"motif end {first_s - study.descriptors.context_s:g} s + context_s {study.descriptors.context_s:g} s"
    first = "motif end + context_s"
    if first_s >= g.duration_s:
        valid = "a motif and a context that leave room in the clip"
        text = f"{opening} is {first_s:g} s, and a clip has {g.duration_s:g} s; valid: {valid} (are these in seconds?)"
        yield _Problem(("events", "motif_duration_s"), text, clip)
    if study.source == "continuation" and recordings.continue_from_s > first_s:
        # What is recorded is not the model's, so nothing is asked of it before.
        clip = (*clip, "source", "recordings.continue_from_s")
        first_s, first = recordings.continue_from_s, "recordings.continue_from_s"
        opening = f"continue_from_s {first_s:g} s"
        if first_s >= g.duration_s:
            text = f"got {first_s:g}; valid: less than generation.duration_s, {g.duration_s:g}"
            yield _Problem(("recordings", "continue_from_s"), text, clip)
    if study.source != "prompts":
        yield from _across_recordings(study)
    for i, seed in enumerate(study.seeds):
        if seed > MAX_SEED:
            text = f"got a number of {len(str(seed))} digits; valid: at most {MAX_SEED}, as tables hold it"
            yield _Problem(("seeds", i), text, ("seeds",))
    seen: dict[str, str] = {}
    for role, (a, b) in study.horizons.items():
        path, got, uses = ("horizons", role), f"got [{a:g}, {b:g}]", ("horizons",)
        if not _ROLE.fullmatch(role):
            yield _Problem(path, "not a role's name; valid: lower-case letters, digits and _, from a letter on", uses)
        if a >= b:
            yield _Problem(path, f"{got}; valid: [from, to] in seconds with from < to", uses)
            continue
        if (a, b) != (float(f"{a:g}"), float(f"{b:g}")):
            yield _Problem(path, f"got [{a!r}, {b!r}]; valid: at most six digits, since they name a directory", uses)
        if (other := seen.setdefault(horizon_name(a, b), role)) != role:
            yield _Problem(path, f"{got}, the same as {other}; valid: a different horizon for each role", uses)
        if first_s >= g.duration_s:
            continue
        room_s = round(g.duration_s - first_s, 6)
        if b > room_s:
            sum_s = f"{opening} + {b:g} s = {first_s + b:g} s, and a clip has {g.duration_s:g} s"
            valid = f"an end of at most {room_s:g}"
            yield _Problem(path, f"{got} does not fit: {sum_s}; valid: {valid} (is it in seconds?)", (*clip, *uses))
        elif a + e.motif_duration_s > room_s:
            text = f"{got} can never hold a whole return of {e.motif_duration_s:g} s: {opening} + {a:g} s"
            valid = f"a start of at most {max(room_s - e.motif_duration_s, 0):g}"
            yield _Problem(path, f"{text}, and a clip has {g.duration_s:g} s; valid: {valid}", (*clip, *uses))
    if "local" not in study.horizons:
        text = f"no horizon named 'local' among {', '.join(study.horizons)}; valid: one named local and a longer one"
        yield _Problem(("horizons",), text, ("horizons",))
    elif not study.longer_roles:
        valid = f"at least one that begins at {study.horizons['local'][1]:g} s, where local ends, or later"
        yield _Problem(("horizons",), f"none is longer than local; valid: {valid}", ("horizons",))
    low_s, high_s = first_s, round(g.duration_s - max(b for _, b in study.horizons.values()), 6)
    if low_s <= high_s and not low_s <= ablation.prefix_s <= high_s:
        valid = f"{low_s:g} ({first}) to {high_s:g} (clip less the longest horizon)"
        uses = (*clip, "horizons", "ablation.prefix_s")
        yield _Problem(("ablation", "prefix_s"), f"got {ablation.prefix_s:g}; valid: {valid}", uses)
    from_s, to_s = ablation.return_window_s
    room_s = round(g.duration_s - ablation.prefix_s - e.motif_duration_s, 6)
    if room_s > 0 and ablation.prefix_s <= high_s and not from_s < to_s <= room_s:
        valid = f"[from, to] with from < to, and to at most {room_s:g} (clip less prefix_s and a whole return)"
        text = f"got [{from_s:g}, {to_s:g}]; valid: {valid}"
        yield _Problem(("ablation", "return_window_s"), text, (*clip, "ablation.prefix_s", "ablation.return_window_s"))
    elif room_s > 0 and ablation.prefix_s <= high_s and (left_s := round(from_s + room_s - to_s, 6)) < MIN_DAMAGE_S:
        valid = f"[from, to] that leave {MIN_DAMAGE_S:g} s or more before and after a return, to measure damage in"
        whole_s = room_s + e.motif_duration_s
        text = (
            f"got [{from_s:g}, {to_s:g}], which leaves {left_s:g} s of a continuation of {whole_s:g} s; valid: {valid}"
        )
        yield _Problem(("ablation", "return_window_s"), text, (*clip, "ablation.prefix_s", "ablation.return_window_s"))
    if g.top_p and g.top_k:
        text = f"got {g.top_p:g} beside top_k {g.top_k}; valid: one of the two, the other 0"
        yield _Problem(("generation", "top_p"), text, ("generation.top_p", "generation.top_k"))
    probes = study.probes
    evidence = [r for r in probes.representations if r in _EVIDENCE]
    if not evidence:
        valid = f"at least one of {', '.join(_EVIDENCE)}, on which the verdict rests"
        text = f"got {', '.join(probes.representations)}; valid: {valid}"
        yield _Problem(("probes", "representations"), text, ("probes.representations",))
    if e.n_surrogates < (least := _fewest_draws(e.max_p_value)):
        text = f"got {e.n_surrogates}, too few for any p-value to reach events.max_p_value {e.max_p_value:g}"
        uses = ("events.n_surrogates", "events.max_p_value")
        yield _Problem(("events", "n_surrogates"), f"{text}; valid: at least {least}", uses)
    if evidence and "random_model" not in probes.representations:
        text = (
            f"got {', '.join(probes.representations)}; valid: also random_model, which the learned gain is judged by"
        )
        yield _Problem(("probes", "representations"), text, ("probes.representations",))
    n_horizons = max(1, len(study.horizons) - 1)
    n_tests = max(1, len(study.saes) * len(evidence)) * n_horizons
    if probes.n_swaps < (least := _fewest_draws(probes.alpha / n_tests)):
        tests = f"{n_tests} tests (layers x representations x shorter horizons)"
        text = f"got {probes.n_swaps}, too few for any p-value to reach probes.alpha {probes.alpha:g} / {tests}"
        uses = ("probes.n_swaps", "probes.alpha", "probes.representations", "saes", "horizons")
        yield _Problem(("probes", "n_swaps"), f"{text}; valid: at least {least}", uses)
    for field, needed in (("doses", 1.0), ("windows", "until_event")):
        if needed not in (given := getattr(ablation, field)):
            needed = f"{needed:g}" if isinstance(needed, float) else needed
            text = f"got {_show(given)}; valid: a list with {needed} in it, on which the verdict rests"
            yield _Problem(("ablation", field), text, (f"ablation.{field}",))
    if e.candidate_score > e.min_score:
        text = f"got {e.candidate_score:g}; valid: at most events.min_score, {e.min_score:g}"
        yield _Problem(("events", "candidate_score"), text, ("events.candidate_score", "events.min_score"))
    if study.labels.reviewed_only and not study.review.files:
        text = "got true, and review.files names none; valid: false, or the study's reviews in review.files"
        yield _Problem(("labels", "reviewed_only"), text, ("labels.reviewed_only", "review.files"))
    if study.screen.max_candidates > study.screen.max_tried:
        default = "" if "max_candidates" in study.screen.model_fields_set else ", the default"
        text = f"got {study.screen.max_candidates}{default}; valid: at most max_tried, {study.screen.max_tried}"
        yield _Problem(("screen", "max_candidates"), text, ("screen.max_candidates", "screen.max_tried"))
    if study.screen.min_active >= study.screen.max_active:
        text = f"got {study.screen.min_active:g}; valid: below screen.max_active, {study.screen.max_active:g}"
        yield _Problem(("screen", "min_active"), text, ("screen.min_active", "screen.max_active"))


def _across_recordings(study: Study) -> Iterator[_Problem]:
    """Problems across fields that only a study of recordings has."""
    duration_s = study.generation.duration_s
    if duration_s > MAX_RECORDED_S:
        text = f"got {duration_s:g}; valid: at most {MAX_RECORDED_S:g} with recordings"
        yield _Problem(("generation", "duration_s"), text, ("generation.duration_s", "source"))
    for field in ("folder", "manifest"):
        if not getattr(study.recordings, field):
            valid = valid_text(RecordingSettings.model_json_schema()["properties"][field])
            text = f"missing, and source is {study.source}; valid: {valid}"
            yield _Problem(("recordings", field), text, ("source", f"recordings.{field}"))
    if study.events.others:
        text = f"got {_show(study.events.others)}; valid: [] with recordings: clips of one track have the same melody"
        yield _Problem(("events", "others"), text, ("events.others", "source"))


def _fewest_draws(level: float) -> int:
    """The fewest draws from a null, n, for which the smallest p-value, 1 / (1 + n), is at most `level`."""
    return math.ceil(1 / level - 1e-9) - 1


def _files(study: Study, base_dir: Path) -> Iterator[_Problem]:
    """Problems with the files a study names, and with counts against the number of prompts."""
    name, backend = study.model.name, study.model.backend
    if problems := model_problems(name, backend=backend, base_dir=base_dir):
        for text in problems:
            yield _Problem(("model", "name"), text, ("model.name", "model.backend"))
    else:
        facts = read_facts(model_folder(name, backend=backend, base_dir=base_dir), backend=backend)
        asked = {"layers": study.layers, "duration_s": study.generation.duration_s}
        for path, text in misfits(facts, name=name, **asked):
            yield _Problem(path, text, ("model.name", ".".join(path)))
    for layer, sae in study.saes.items():
        for text in [] if sae == TRAIN else sae_problems(sae, layer, base_dir=base_dir):
            yield _Problem(("saes", layer), text, ("saes",))
    for i, file in enumerate(study.review.files):
        if not (base_dir / file).is_file():
            text = f"there is no file {_show(file)}; valid: a JSON file downloaded from the study's review page"
            yield _Problem(("review", "files", i), text, ("review.files",))
    if study.source == "prompts":
        units, uses = (yield from _prompts(study, base_dir)), ("seeds", "prompts")
    else:
        units = yield from _tracks(study, base_dir)
        uses = ("source", "seeds", "recordings.max_tracks", "recordings.max_clips_per_track")
    if not units:
        return
    n_clips, told = count_clips(study, len(units))
    for group in ("certificate", "ablation"):
        settings = getattr(study, group)
        n = settings.n_clips
        if n > n_clips:
            default = "" if "n_clips" in settings.model_fields_set else ", the default"
            text = f"got {n}{default}; valid: at most the study's {n_clips} clips ({told})"
            yield _Problem((group, "n_clips"), text, (f"{group}.n_clips", *uses))
    if study.trained_layers and n_clips // 2 < (n := study.certificate.n_clips) <= n_clips:
        valid = f"at most half of the study's {n_clips} clips ({told})"
        text = f"got {n}, and these clips are kept out of the SAE's training; valid: {valid}"
        yield _Problem(("certificate", "n_clips"), text, ("certificate.n_clips", "saes", *uses))
    if study.probes.n_folds > len(units):
        kind = "prompts" if study.source == "prompts" else "tracks"
        text = f"got {study.probes.n_folds}; valid: at most the study's {len(units)} {kind}"
        yield _Problem(("probes", "n_folds"), text, ("probes.n_folds", *uses))


def count_clips(study: Study, n_units: int) -> tuple[int, str]:
    """How many clips a study has of so many prompts or, at most, tracks, and in words how that comes about."""
    seeds = (len(study.seeds), "seeds")
    if study.source == "prompts":
        factors = [(n_units, "prompts"), seeds]
    else:
        factors = [(n_units, "tracks"), (study.recordings.max_clips_per_track, "cuts at most")]
        factors += [seeds] * (study.source == "continuation")
    return math.prod(n for n, _ in factors), " x ".join(f"{n} {what}" for n, what in factors)


def _prompts(study: Study, base_dir: Path) -> Generator[_Problem, None, list["Prompt"]]:
    """The prompts of a study; none where their file has problems."""
    try:
        prompts = read_prompts(base_dir / study.prompts)
    except ConfigError as error:
        place = ("prompts",) if not (base_dir / study.prompts).is_file() else ()
        for line in error.problems:
            yield _Problem(place, line, ("prompts",))
        return []
    if "group" in study.events.others and not any(p.group for p in prompts):
        text = f"got 'group', but {study.prompts} has no column group; valid: with one that names some prompts' group"
        yield _Problem(("events", "others"), text, ("events.others", "prompts"))
    return prompts


def _tracks(study: Study, base_dir: Path) -> Generator[_Problem, None, list[Track]]:
    """The recordings of a study that stand for themselves; none where their files have problems."""
    asked, missing = study.recordings, False
    for field, is_there in (("folder", Path.is_dir), ("manifest", Path.is_file), ("checksums", Path.is_file)):
        name = getattr(asked, field)
        if name and not is_there(base_dir / name):
            missing = True
            text = f"there is no {'directory' if field == 'folder' else 'file'} {_show(name)}"
            valid = valid_text(RecordingSettings.model_json_schema()["properties"][field])
            yield _Problem(("recordings", field), f"{text}; valid: {valid}", ("source", f"recordings.{field}"))
    if missing or not asked.manifest:
        return []
    try:
        tracks = study_tracks(study, base_dir=base_dir)
    except ConfigError as error:
        for line in error.problems:
            yield _Problem((), line, ("source", "recordings"))
        return []
    return [track for track in tracks if not track.same_as]


def _report(raw: Any, of: Source, lines: list[str]) -> ReportSettings:
    try:
        return ReportSettings.model_validate({} if raw is None else raw)
    except ValidationError as error:
        schema = ReportSettings.model_json_schema()
        for e in error.errors(include_url=False):
            path = ("report", *map(str, e["loc"]))
            lines.append(f"{of(path)}: {'.'.join(path)}: {describe_error(e, e['loc'], schema)}")
        return ReportSettings()


# --- messages -------------------------------------------------------------------------------------------------


def _show(value: Any) -> str:
    text = json.dumps(value, default=str, ensure_ascii=False)
    return text if len(text) <= 60 else text[:57] + "..."


def _got(value: Any) -> str:
    return "missing" if value is None else f"got {_show(value)}"


def _origin(name: str, path: Sequence[str | int], entry: Mapping, defaults: Mapping) -> tuple[str, ...]:
    """The field's place in the file: in the study, or in the defaults if only they state it."""
    where = ["defaults"] if _states(defaults, path) and not _states(entry, path) else ["studies", name]
    return (*where, *map(str, path))


def _states(node: Any, path: Sequence[str | int]) -> bool:
    """Whether there is a field at this place below `node`."""
    for part in path:
        inside = isinstance(node, Mapping) or (isinstance(node, (list, tuple)) and isinstance(part, int))
        if not inside or part not in (node if isinstance(node, Mapping) else range(len(node))):
            return False
        node = node[part]
    return True


def _node(path: Sequence[str | int], schema: dict[str, Any]) -> dict[str, Any]:
    """The JSON schema of a field; the nearest one above it that says what is valid, if the field's own does not."""
    node = best = schema
    for part in path:
        below = node.get("properties", {}).get(part) or node.get("additionalProperties") or node.get("items")
        if isinstance(part, int) and "prefixItems" in node:
            below = node["prefixItems"][min(part, len(node["prefixItems"]) - 1)]
        if not isinstance(below, dict):
            break
        node = schema["$defs"][below["$ref"].rsplit("/", 1)[1]] if "$ref" in below else below
        if "valid" in node or "properties" in node or "valid" not in best:
            best = node
    return best


def valid_text(node: dict[str, Any]) -> str:
    """What is valid for a field, in words, from its JSON schema."""
    if "valid" in node:
        return node["valid"]
    if "properties" in node:
        return f"a group with the fields {', '.join(node['properties'])}"
    if "enum" in node:
        return f"one of {', '.join(map(str, node['enum']))}"
    if "const" in node:
        return str(node["const"])
    if node.get("type") == "array":
        return f"a list, each {valid_text(node['items'])}"
    if node.get("type") == "boolean":
        return "true or false"
    if node.get("type") not in ("number", "integer"):
        return "text"
    limits = [
        f"{sign} {node[key]:g}"
        for key, sign in (("minimum", ">="), ("exclusiveMinimum", ">"), ("maximum", "<="), ("exclusiveMaximum", "<"))
        if key in node
    ]
    kind = "a whole number" if node["type"] == "integer" else "a number"
    unit = node.get("unit")
    kind = {None: kind, "s": "seconds", "share": "a share, not percent,"}.get(unit, f"{kind} ({unit})")
    return f"{kind} {' and '.join(limits)}".rstrip()


def describe_error(error: Any, path: Sequence[str | int], schema: dict[str, Any]) -> str:
    """One pydantic error as a sentence: the value and what is valid."""
    kind, value = error["type"], error["input"]
    if kind in ("extra_forbidden", "invalid_key"):
        return _unknown(path[-1], list(_node(path[:-1], schema).get("properties", {})))
    valid = valid_text(_node(path, schema))
    if kind == "missing":
        return f"missing; valid: {valid}"
    got = f"{_got(value)}: {error['msg']}" if kind == "problem" else _got(value)
    if kind == "less_than_equal" and _node(path, schema).get("unit") == "s":
        got += " (is this in seconds? it looks like milliseconds or samples)"
    return f"{got}; valid: {valid}"


def _unknown(key: Any, valid: list[str]) -> str:
    """An unknown field, with the field that was probably meant."""
    owners = [f"{g}.{key}" for g, group in GROUPS.items() if key in group.model_fields]
    close = difflib.get_close_matches(str(key), valid, n=1)
    if valid == list(_TOP_LEVEL) and not close and (key in Study.model_fields or owners):
        guess = f"; it is a field of a study: did you mean defaults.{owners[0] if owners else key}?"
    elif close:
        guess = f"; did you mean {close[0]!r}?"
    elif owners:
        guess = f"; did you mean {owners[0]!r}?"
    else:
        guess = ""
    return f"unknown field {str(key)!r}{guess or ';'} valid: {', '.join(valid)}"


# --- prompts, recordings and clips ----------------------------------------------------------------------------


class Prompt(NamedTuple):
    """One row of the prompts file; `group` "": of no group."""

    prompt_id: str
    prompt: str
    group: str = ""


class ClipRow(NamedTuple):
    """One row of the clips table; `pandas.DataFrame(rows)` has these columns."""

    clip_id: str
    prompt_id: str
    prompt: str
    seed: int
    batch: str
    duration_s: float


def read_prompts(path: str | Path) -> list[Prompt]:
    """Read a tab-separated prompts file with the header `prompt_id<tab>prompt`, perhaps `<tab>group`, in its order.

    An id is letters, digits and hyphens, and names files, so ids differ in more than case and are no longer than
    `MAX_ID`. A prompt is one line. It is the unit of evidence, so no two may be the same to a model: see
    `as_models_read`. Raises ConfigError listing every bad line.
    """
    problems: list[str] = []
    prompts: list[Prompt] = []
    first_id: dict[str, int] = {}
    first_text: dict[str, tuple[Prompt, int]] = {}
    header = None
    for line, cells in read_cells(
        Path(path), "excel-tab", problems, valid="cells separated by a tab, quotes in pairs"
    ):
        where = f"{path}: line {line}"
        if header is None:
            header = cells
            if twice := repeated_columns(header):
                text = f"the header has {' and '.join(twice)} twice; valid: each column once"
                raise ConfigError([f"{where}: {text}"])
            if header not in (PROMPT_COLUMNS, PROMPT_COLUMNS[:2]):
                valid = "the columns prompt_id, prompt and (if wanted) group, separated by a tab"
                raise ConfigError([f"{where}: the header is {_show(header)}; valid: {valid}"])
            continue
        if len(cells) != len(header):
            valid = " and ".join([", ".join(header[:-1]), header[-1]])
            problems.append(f"{where}: {len(cells)} cells; valid: {valid}, separated by one tab")
            continue
        row = Prompt(*cells)
        of_prompt, key = f"{where}: prompt {_show(row.prompt_id)}", row.prompt_id.casefold()
        if not _PROMPT_ID.fullmatch(row.prompt_id):
            problems.append(f"{where}: prompt_id {_show(row.prompt_id)}; valid: letters, digits and hyphens")
        elif (n := len(row.prompt_id)) > MAX_ID:
            text = f"prompt_id {_show(row.prompt_id)} has {n} characters"
            problems.append(f"{where}: {text}; valid: at most {MAX_ID}, since it names files")
        if key and (other_line := first_id.setdefault(key, line)) != line:
            text = f"prompt_id {_show(row.prompt_id)} is on line {other_line} already; valid: each only once"
            problems.append(f"{where}: {text}")
        key = as_models_read(row.prompt)
        if fault := not_one_line(row.prompt):
            problems.append(f"{of_prompt} is {json.dumps(row.prompt)}, which {fault}; valid: one line of text")
        elif not key:
            problems.append(f"{of_prompt} is empty; valid: some text")
        elif (found := first_text.setdefault(key, (row, line)))[0] is not row:
            other, other_line = found
            what = "the same as" if other.prompt == row.prompt else "to a model the same as"
            text = f"{_show(other.prompt_id)} on line {other_line}, {_show(row.prompt)}"
            problems.append(f"{of_prompt} is {what} {text}; valid: each text once, under one id")
        prompts.append(row)
    if not prompts and not problems:
        problems.append(f"{path}: no prompts; valid: a header and at least one prompt")
    if problems:
        raise ConfigError(problems)
    return prompts


def as_models_read(prompt: str) -> str:
    """A prompt without what some supported model does not see of it.

    T5's tokenizer takes every form of a character for its compatibility form (NFKC), what is invisible for a space,
    and any space for one. The models with a lookup table of words fold case too.
    """
    visible = re.sub(_AS_SPACE, " ", prompt)
    return " ".join(unicodedata.normalize("NFKC", visible).split()).lower()


def study_tracks(study: Study, *, base_dir: Path = Path()) -> list[Track]:
    """The recordings of a study. Raises ConfigError; see `read_tracks`."""
    asked = study.recordings
    checksums = base_dir / asked.checksums if asked.checksums else ""
    return read_tracks(base_dir / asked.manifest, checksums=checksums, max_tracks=asked.max_tracks)


def assign_batches(prompt_ids: Sequence[str], n_batches: int) -> dict[str, str]:
    """The batch of each prompt, "b00" and so on, by a hash of its id alone.

    Appending, deleting or reordering prompts moves no other prompt. With few prompts a batch may stay empty: the
    batches that exist are the values.
    """
    return {i: f"b{int(hashlib.sha256(i.encode()).hexdigest()[:15], 16) % n_batches:02d}" for i in prompt_ids}


def clips_table(
    prompts: Sequence[Prompt], *, seeds: Sequence[int], n_batches: int, duration_s: float
) -> list[ClipRow]:
    """Every clip of a study: prompts x seeds, sorted by batch, prompt_id and seed, whatever the order given."""
    batches = assign_batches([p.prompt_id for p in prompts], n_batches)
    rows = [
        ClipRow(f"{p.prompt_id}-s{seed}", p.prompt_id, p.prompt, int(seed), batches[p.prompt_id], float(duration_s))
        for p in prompts
        for seed in seeds
    ]
    return sorted(rows, key=lambda row: (row.batch, row.prompt_id, row.seed))
