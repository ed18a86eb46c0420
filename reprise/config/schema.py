"""Which fields a configuration has, with their defaults and limits: one typed model.

Conventions. A file has `studies` (name -> study), `defaults` (study fields shared by all studies) and `report`.
A study only needs the fields that differ from the defaults. Groups such as `generation` are merged field by field.
Lists, `saes` and `horizons` are replaced as a whole. Times are in seconds (`_s`), fractions are between 0 and 1, and
layers are 0-based. Paths are relative to `base_dir`, the project's root. `config/schema.json` and
`config/config.default.yaml` are generated from this module by `reprise/config/docs.py`.

How a field is declared: `reprise/config/fields.py`. How a file becomes this model: `reprise/config/validation.py`.
"""

from typing import Annotated, Any, Literal

from pydantic import (
    AfterValidator,
    Field,
    SerializeAsAny,
    ValidationInfo,
    ValidatorFunctionWrapHandler,
    field_validator,
)
from pydantic_core import PydanticCustomError

from reprise.checkpoints.hub import HUB_SAE
from reprise.config.fields import Second, Settings, leaf, seconds, share, unique
from reprise.extensions import ExtensionError
from reprise.targets.recurrence.settings import RecurrenceSettings
from reprise.targets.registry import RECURRENCE, target_of

# Kinds of candidates that are read through an SAE.
OF_SAE = ("feature", "feature_set")
# In `saes`: this layer's SAE is trained on the study's own activations.
TRAIN = "train"
# `organisms` overrides config/organisms.yaml; only the training recipe reads it.
TOP_LEVEL = ("studies", "defaults", "report", "organisms", "calibration")

# What is probed where a study does not say. All that can be: reprise/probing/representations.py.
_PROBED = ("resid", "sae", "embedding", "random_dictionary", "random_model")
_PROBEABLE = f"one of {', '.join(_PROBED)}, or a name that an installed package adds"


class ModelSettings(Settings):
    """The music model."""

    backend: str = leaf(
        "audiocraft",
        "Library that loads the model; each needs its own file format. audiocraft and transformers give the same "
        "activations and tokens.",
        valid="one of audiocraft, transformers, or a model family of an installed package",
    )
    name: str = leaf(
        ...,
        "The model: a hub id (append @ and a commit to pin it), or a directory with state_dict.bin and "
        "compression_state_dict.bin. Hub models must be downloaded beforehand.",
        valid="a hub id such as facebook/musicgen-small, or a directory such as resources/planner",
        min_length=1,
    )
    dtype: Literal["float32", "float16", "bfloat16"] = leaf(
        "float32",
        "Data type the language model computes in. The 16-bit types need half the memory and are meant for GPUs.",
    )
    device: Literal["auto", "cpu", "cuda"] = leaf("auto", "Where the model runs; auto: on the GPU if there is one.")


class RecordingSettings(Settings):
    """Real recordings, for the sources audio and continuation: see reprise/recordings/manifest.py and
    reprise/recordings/cutting.py."""

    folder: str = leaf("", "Folder that the manifest's paths are relative to.", valid="a directory of audio files")
    manifest: str = leaf(
        "",
        "The recordings: a CSV or JSONL file with path, sha256, licence, source, tags and prompt, or a metadata file "
        "of MTG-Jamendo (.tsv).",
        valid="a manifest such as data/recordings.csv",
    )
    checksums: str = leaf(
        "",
        "SHA-256 of the files, instead of the manifest's own: a text file with one checksum and path per line, as "
        "MTG-Jamendo publishes.",
        valid="a text file of checksums, or nothing",
    )
    max_tracks: int = leaf(
        0, "Maximum number of tracks used from the manifest, chosen by a hash of their names; 0: all.", ge=0
    )
    max_clips_per_track: int = leaf(
        4, "Maximum number of clips cut from one track, spread evenly over the track.", ge=1
    )
    continue_from_s: float = seconds(
        8.0,
        "For the source continuation: length of the recorded opening of each clip, after which the model continues.",
        gt=0,
    )


class GenerationSettings(Settings):
    """How clips are generated, and how they are continued under edits."""

    duration_s: float = seconds(16.0, "Length of a clip.", ge=1)
    temperature: float = leaf(0.9, "Sampling temperature.", gt=0)
    top_k: int = leaf(100, "Sample from the k most likely tokens; 0: from all tokens.", ge=0)
    top_p: float = share(0.0, "Nucleus sampling threshold; 0 disables it.")
    cfg_coef: float = leaf(1.0, "Classifier-free guidance scale; 1: no guidance, which halves the computation.", ge=1)
    n_batches: int = leaf(
        4,
        "Number of batches that the clips are split into, by prompt. Changing it assigns all clips to new batches.",
        ge=1,
    )
    batch_size: int = leaf(64, "Rows in one forward pass. Fixed, so that results do not depend on the machine.", ge=1)


class CertificateSettings(Settings):
    """The conditions for accepting an SAE at its layer."""

    n_clips: int = leaf(16, "Number of clips on which reconstruction is measured.", ge=2)
    max_fvu: float = leaf(0.5, "Largest fraction of variance unexplained at the declared layer.", gt=0, lt=1)
    min_neighbour_ratio: float = leaf(
        1.2,
        "The fraction of variance unexplained must be larger at each neighbouring layer, by at least this factor.",
        ge=1,
    )


class SaeTrainingSettings(Settings):
    """How SAEs are trained where `saes` says `train`: see reprise/saes/training.py."""

    architecture: Literal["topk", "batchtopk", "jumprelu"] = leaf(
        "topk",
        "How latents are kept sparse. topk: the k largest at each position. batchtopk: the k x batch_size largest of "
        "a batch. jumprelu: a learned threshold per feature. The last two are saved as jumprelu.",
    )
    expansion: int = leaf(4, "Features per dimension of the residual stream, d_sae / d_model.", ge=1)
    k: int = leaf(
        32, "Active features per position: the maximum (topk), the average (batchtopk) or the target (jumprelu).", ge=1
    )
    n_steps: int = leaf(5000, "Number of training steps.", ge=100)
    batch_size: int = leaf(2048, "Positions per training step.", unit="positions", ge=1)
    learning_rate: float | None = leaf(
        None,
        "Peak learning rate; null: 2e-4 * sqrt(16384 / d_sae).",
        valid="a number > 0, or null",
        gt=0,
    )
    n_seeds: int = leaf(
        1,
        "Number of SAEs that are trained for each layer, from different seeds. The first one is used. The others show "
        "how many of a candidate's latents come back.",
        ge=1,
    )


class DescriptorSettings(Settings):
    """Causal acoustic features, which the baseline predicts from."""

    context_s: float = seconds(
        3.0, "How far back the baseline hears. Times closer than this to the motif's end are left out.", ge=0.5
    )


class LabelSettings(Settings):
    """The times that get a label."""

    step_s: float = seconds(0.5, "Time between two labelled positions.", ge=0.01)
    reviewed_only: bool = leaf(
        False,
        "Whether a recurrence counts only if a reviewer accepted it. Times that depend on other recurrences are left "
        "out.",
        strict=True,
    )


class ReviewSettings(Settings):
    """The review page, and the reviews that override the event tests: see reprise/review/decisions.py."""

    files: Annotated[tuple[Annotated[str, Field(min_length=1)], ...], AfterValidator(unique)] = leaf(
        (),
        "Decisions downloaded from the study's review page, one file per reviewer.",
        valid="a list of JSON files downloaded from the study's review page",
    )
    max_events: int = leaf(100, "Maximum number of events on the review page, uncertain ones first.", ge=1)
    context_s: float = seconds(0.5, "How much is played before and after a passage.", le=10)


class ProbeSettings(Settings):
    """Linear probes, their folds and their null distribution."""

    representations: Annotated[
        tuple[Annotated[str, Field(examples=list(_PROBED), json_schema_extra={"valid": _PROBEABLE})], ...],
        AfterValidator(unique),
    ] = leaf(
        _PROBED,
        "Representations to probe. resid and sae count as evidence; the others are controls. embedding: the input to "
        "layer 0. random_dictionary: latents from random directions. random_model: the residual stream of the same "
        "model with random weights.",
        min_length=1,
    )
    n_folds: int = leaf(5, "Folds of cross-fitting, grouped by prompt.", ge=2)
    n_swaps: int = leaf(
        199,
        "Number of pseudosession swaps in the null. Candidate confirmation uses as many as its correction needs.",
        ge=1,
    )
    n_bootstrap: int = leaf(2000, "Number of bootstrap resamples of the prompts.", ge=100)
    alpha: float = leaf(0.05, "Largest p-value against the null.", gt=0, lt=1)


class CandidateSettings(Settings):
    """What is tried as a candidate: see reprise/candidates/controls.py and reprise/candidates/featurizers/."""

    kinds: Annotated[
        tuple[Literal["feature", "feature_set", "mean_difference", "probe", "leace", "das"], ...],
        AfterValidator(unique),
    ] = leaf(
        ("feature", "feature_set", "mean_difference"),
        "Kinds of candidates. feature: SAE latents that the screen finds. feature_set: the smallest set of latents "
        "that holds a layer's difference between clips with and without an event. mean_difference, probe, leace: a "
        "direction of the residual stream, for which no SAE is needed. das: a subspace that is found by gradient "
        "through the model, which takes minutes for each layer. All that are tried count in the correction for "
        "multiple tests.",
        min_length=1,
    )
    das_rank: int = leaf(1, "Number of directions of a das candidate.", ge=1, le=64)
    directions: Annotated[tuple[Annotated[str, Field(min_length=1)], ...], AfterValidator(unique)] = leaf(
        (),
        "Directions from files that are tried as well: name.safetensors, with name.json beside it.",
        valid="a list of files such as data/direction.safetensors",
    )
    max_edited: int = leaf(1, "Maximum number of confirmed candidates of each kind that are edited.", ge=1)
    map_step_s: float = seconds(
        2.0,
        "A candidate that passes is edited in one window of time after the other, in one layer and in all. Length of "
        "such a window; 0: no map.",
        ge=0,
    )


class ScreenSettings(Settings):
    """How candidate features are found and confirmed."""

    min_active: float = share(0.01, "Smallest fraction of clips in which a feature is active.")
    max_active: float = share(0.6, "Largest fraction of clips in which a feature is active.")
    fdr: float = leaf(0.05, "False discovery rate over features, layers and horizons.", gt=0, lt=1)
    confirm_fraction: float = leaf(
        0.5, "Fraction of the prompts reserved for confirmation.", unit="fraction", gt=0, lt=1
    )
    max_tried: int = leaf(
        4,
        "Maximum number of features taken to confirmation, in the order of the screen. Each one tried counts in the "
        "correction for multiple tests.",
        ge=1,
    )


class AblationSettings(Settings):
    """Continuations under an edit."""

    n_clips: int = leaf(24, "Number of clips continued under every condition.", ge=2)
    prefix_s: float = seconds(8.0, "Length of the clip's opening that a continuation starts from.", gt=0)
    return_window_s: tuple[Second, Second] = leaf(
        (1.5, 4.5),
        "When a return in a continuation counts: [from, to] after the prefix's end. Leave time before or after it, "
        "because damage is measured there.",
        unit="s",
        valid="[from, to] in seconds after the prefix's end, with 0 <= from < to",
    )
    n_controls: int = leaf(1, "Number of controls of each kind that a candidate is compared with.", ge=1)
    doses: Annotated[tuple[Annotated[float, Field(ge=0, le=10)], ...], AfterValidator(unique)] = leaf(
        (0.25, 0.5, 1.0, 2.0),
        "Strengths of the edit. 1 moves the candidate to the target's value and must be in the list. 0 is a check: no "
        "token may change.",
        min_length=1,
    )
    windows: Annotated[tuple[Literal["until_event", "prefix_only"], ...], AfterValidator(unique)] = leaf(
        ("until_event", "prefix_only"),
        "Edited positions. until_event tests whether the candidate is used, prefix_only whether a plan is stored.",
        min_length=1,
    )
    cfg_branches: Literal["both", "conditional"] = leaf(
        "both", "With guidance: which branches of the batch are edited."
    )
    target: Literal["zero", "mean", "resample"] = leaf(
        "resample",
        "Value that a candidate is set to. resample: its value at the same position in a clip of another prompt and "
        "of the other class (with or without an event). mean: its mean in the other class. zero: 0 for SAE latents, "
        "the mean of all clips for directions.",
    )
    second_target: Literal["zero", "mean", "none"] = leaf(
        "mean", "A second value, which must show the effect too. none: no second edit."
    )
    n_sufficiency: int = leaf(
        12, "Maximum number of clips without an event that are given the value of clips with one; 0: none.", ge=0
    )


class VerdictSettings(Settings):
    """Thresholds of the gates. Set them before any result is seen."""

    min_positive_clips: int = leaf(
        20, "Smallest number of clips with a return in the horizon; with fewer: unresolved.", ge=1
    )
    min_negative_clips: int = leaf(
        20, "Smallest number of clips without a return in the horizon; with fewer: unresolved.", ge=1
    )
    min_positive_prompts: int = leaf(
        10, "Smallest number of prompts with a return in the horizon; with fewer: unresolved.", ge=2
    )
    min_gain_auroc: float = leaf(
        0.05, "Smallest conditional gain in AUROC; its interval must lie above 0.", unit="AUROC", gt=0, le=0.5
    )
    max_missed_gain_auroc: float = leaf(
        0.15,
        "To conclude that there is no gain, the interval must exclude a gain of this size.",
        unit="AUROC",
        gt=0,
        le=0.5,
    )
    min_learned_gain_auroc: float = leaf(
        0.025,
        "Smallest gain in AUROC over the same model with random weights; its interval must lie above 0.",
        unit="AUROC",
        gt=0,
        le=0.5,
    )
    min_effect: float = share(
        0.2, "Smallest drop in the rate of returns under the edit; its interval must lie above 0.", gt=0
    )
    min_selectivity: float = share(
        0.1, "Smallest excess over the controls at matched damage; its interval must lie above 0.", gt=0
    )
    max_damage: float = leaf(
        0.5,
        "Largest damage that an edit may do: the increase in the unedited model's loss. Its whole interval must lie "
        "at or below this.",
        unit="nats per token",
        gt=0,
        lt=1,
    )
    min_stored_fraction: float = share(
        0.5,
        "A plan counts as stored if the prefix_only edit has at least this fraction of the effect. Its whole interval "
        "must reach it.",
        gt=0,
    )


def known_target(name: str) -> str:
    """The name of a target. Raises PydanticCustomError where there is none of this name, or it cannot be used."""
    try:
        target_of(name)
    except ExtensionError as error:
        raise PydanticCustomError("extension", "{why}", {"why": str(error)}) from error
    return name


class Study(Settings):
    """One study: a model, its prompts or recordings, and all settings of the analysis."""

    model: ModelSettings
    source: Literal["prompts", "audio", "continuation"] = leaf(
        "prompts",
        "Where clips come from. prompts: the model generates them. audio: they are cut from recordings and the model "
        "reads them. continuation: the model continues the opening of each cut.",
    )
    prompts: str = leaf(
        "config/prompts.tsv",
        "Prompts: a tab-separated file with the columns prompt_id and prompt.",
        valid="a tab-separated file such as config/prompts.tsv",
        min_length=1,
    )
    recordings: RecordingSettings = RecordingSettings()
    seeds: Annotated[tuple[Annotated[int, Field(ge=0)], ...], AfterValidator(unique)] = leaf(
        (0, 1, 2, 3), "Random seeds. Each prompt (or cut of a recording) gives one clip per seed.", min_length=1
    )
    generation: GenerationSettings = GenerationSettings()
    layers: Annotated[tuple[Annotated[int, Field(ge=0)], ...], AfterValidator(unique)] = leaf(
        (), "Hook layers (0-based) that are studied without an SAE. Those of saes are studied too."
    )
    saes: dict[Annotated[int, Field(ge=0)], Annotated[str, Field(min_length=1)]] = leaf(
        {},
        "SAE of each hook layer (0-based): its directory, its address on the hub pinned to a commit, or train, to "
        "train one on the study's own clips. None is needed where layers are listed.",
        valid="layer: directory, hub address or train, such as 2: resources/planner/sae/layer2, "
        f"2: {HUB_SAE} or 2: train",
    )
    sae_training: SaeTrainingSettings = SaeTrainingSettings()
    certificate: CertificateSettings = CertificateSettings()
    descriptors: DescriptorSettings = DescriptorSettings()
    target: Annotated[str, AfterValidator(known_target)] = leaf(
        RECURRENCE,
        "The kind of event that the study asks about, and with it the fields of events. recurrence: a motif returns. "
        "section: a section begins that differs from what came before. tension: a tension is released.",
        valid="recurrence, section, tension, or a target of an installed package",
    )
    # Of the target's own class.
    events: SerializeAsAny[RecurrenceSettings] = Field(RecurrenceSettings(), validate_default=True)
    labels: LabelSettings = LabelSettings()
    review: ReviewSettings = ReviewSettings()
    horizons: dict[str, tuple[Second, Second]] = leaf(
        {"local": (0.5, 2.0), "medium": (2.0, 4.0), "long": (4.0, 8.0)},
        "How far ahead a return is predicted, [from, to]. One is named local; at least one other begins where local "
        "ends or later.",
        unit="s",
        valid="one named local and a longer one, [from, to] in seconds with 0 <= from < to, such as "
        "{local: [0.5, 2], long: [4, 8]}",
        min_length=2,
    )
    probes: ProbeSettings = ProbeSettings()
    screen: ScreenSettings = ScreenSettings()
    candidates: CandidateSettings = CandidateSettings()
    ablation: AblationSettings = AblationSettings()
    verdict: VerdictSettings = VerdictSettings()

    @field_validator("events", mode="wrap")
    @classmethod
    def _fields_of_target(cls, value: Any, handler: ValidatorFunctionWrapHandler, info: ValidationInfo) -> Settings:
        # If the target is not known, nothing can be said about its fields.
        if "target" not in info.data:
            return RecurrenceSettings()
        kind = target_of(info.data["target"]).settings
        if isinstance(value, Settings):
            return value if isinstance(value, kind) else kind()
        return handler(value) if kind is RecurrenceSettings else kind.model_validate(value)

    @property
    def hook_layers(self) -> tuple[int, ...]:
        """All layers that are studied, with and without an SAE, ascending."""
        return tuple(sorted({*self.layers, *self.saes}))

    @property
    def sae_layers(self) -> tuple[int, ...]:
        """The layers with an SAE, ascending."""
        return tuple(sorted(self.saes))

    @property
    def trained_layers(self) -> tuple[int, ...]:
        """The layers whose SAE is trained in the study, ascending."""
        return tuple(layer for layer in self.sae_layers if self.saes[layer] == TRAIN)

    @property
    def longer_roles(self) -> tuple[str, ...]:
        """Roles of the horizons that begin where `local` ends or later, nearest first."""
        end = self.horizons["local"][1]
        return tuple(sorted((r for r, (a, _) in self.horizons.items() if a >= end), key=lambda r: self.horizons[r]))


class ReportSettings(Settings):
    """The report."""

    title: str = leaf("Does the model plan its returns?", "Title of the report.", min_length=1)


class Config(Settings):
    """A validated configuration, with the defaults already merged into its studies."""

    studies: dict[str, Study] = leaf(
        ..., "Studies by name; each has a directory under results/.", valid="at least one study", min_length=1
    )
    report: ReportSettings = ReportSettings()


# Study fields that are merged field by field. All others are replaced as a whole.
GROUPS: dict[str, type[Settings]] = {
    name: field.annotation
    for name, field in Study.model_fields.items()
    if isinstance(field.annotation, type) and issubclass(field.annotation, Settings)
}


def group_of(name: str, target: str) -> type[Settings]:
    """The class of a group of fields, in studies of a target."""
    return target_of(target).settings if name == "events" else GROUPS[name]
