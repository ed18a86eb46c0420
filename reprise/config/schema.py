"""Which fields a configuration has, with their defaults and limits: one typed model.

Conventions. A file has `studies` (name -> study), `defaults` (study fields shared by all studies) and `report`.
A study states only what differs: groups such as `generation` are merged field by field, while lists, `saes` and
`horizons` are replaced as a whole. Times are in seconds (`_s`), shares between 0 and 1; a layer is 0-based. Paths
are relative to `base_dir`, the project's root. `config/schema.json` and `config/config.default.yaml` are generated
from this module by `reprise/config/docs.py`.

How a field is declared: `reprise/config/fields.py`. How a file becomes this model: `reprise/config/validation.py`.
"""

from typing import Annotated, Literal

from pydantic import AfterValidator, Field

from reprise.checkpoints.hub import HUB_SAE
from reprise.config.fields import Second, Settings, leaf, seconds, share, unique

# In `saes`: this layer's SAE is trained on the study's own activations.
TRAIN = "train"
# `organisms` overrides config/organisms.yaml and is read by the training recipe alone.
TOP_LEVEL = ("studies", "defaults", "report", "organisms", "calibration")


class ModelSettings(Settings):
    """The music model."""

    backend: str = leaf(
        "audiocraft",
        "Library that loads the model, from files of its own form. audiocraft and transformers give the same "
        "activations and tokens.",
        valid="one of audiocraft, transformers, or a model family of an installed package",
    )
    name: str = leaf(
        ...,
        "The model: a hub id (with @ and a commit, to pin it), or a directory with state_dict.bin and "
        "compression_state_dict.bin. What is on the hub must have been fetched beforehand.",
        valid="a hub id such as facebook/musicgen-small, or a directory such as resources/planner",
        min_length=1,
    )
    dtype: Literal["float32", "float16", "bfloat16"] = leaf(
        "float32",
        "What the language model computes in. The half-wide ones take half the memory and are for GPUs.",
    )
    device: Literal["auto", "cpu", "cuda"] = leaf("auto", "Where it runs; auto: the GPU if there is one.")


class RecordingSettings(Settings):
    """Real recordings, for the sources audio and continuation: see reprise/recordings/manifest.py and
    reprise/recordings/cutting.py."""

    folder: str = leaf("", "Folder that the manifest's paths are below.", valid="a directory of audio files")
    manifest: str = leaf(
        "",
        "The recordings: a CSV or JSONL file with path, sha256, licence, source, tags and prompt, or a metadata file "
        "of MTG-Jamendo (.tsv).",
        valid="a manifest such as data/recordings.csv",
    )
    checksums: str = leaf(
        "",
        "SHA-256 of the files, in place of the manifest's own: lines with a checksum and a path, as in MTG-Jamendo's.",
        valid="a text file of checksums, or nothing",
    )
    max_tracks: int = leaf(0, "Most tracks of the manifest, drawn by a hash of their names; 0: all.", ge=0)
    max_clips_per_track: int = leaf(4, "Most clips that are cut from a track, spread over it evenly.", ge=1)
    continue_from_s: float = seconds(
        8.0, "For the source continuation: how much of each clip is recorded, before the model goes on.", gt=0
    )


class GenerationSettings(Settings):
    """How clips are generated, and continued under edits."""

    duration_s: float = seconds(16.0, "Length of a clip.", ge=1)
    temperature: float = leaf(0.9, "Sampling temperature.", gt=0)
    top_k: int = leaf(100, "Sample among the k most likely tokens; 0: all.", ge=0)
    top_p: float = share(0.0, "Sample among the likeliest tokens that hold this share together; 0: not so.")
    cfg_coef: float = leaf(1.0, "Classifier-free guidance; 1: none (and half the work).", ge=1)
    n_batches: int = leaf(
        4, "How many stores the clips are split into, by prompt. Changing it reshuffles all clips.", ge=1
    )
    batch_size: int = leaf(64, "Rows of one forward pass: fixed, so that results do not depend on the machine.", ge=1)


class CertificateSettings(Settings):
    """When an SAE is accepted as belonging to its layer."""

    n_clips: int = leaf(16, "Clips that reconstruction is measured on.", ge=2)
    max_fvu: float = leaf(0.5, "Largest fraction of variance unexplained at the declared layer.", gt=0, lt=1)
    min_neighbour_ratio: float = leaf(
        1.2, "By what factor the fraction of variance unexplained must be larger at each neighbouring layer.", ge=1
    )


class SaeTrainingSettings(Settings):
    """How the SAEs that `saes` asks for with `train` are trained: see reprise/saes/training.py."""

    architecture: Literal["topk", "batchtopk", "jumprelu"] = leaf(
        "topk",
        "What makes latents sparse: the k largest at a position, the k times as many largest of a batch, or a learned "
        "threshold for each feature. The last two are saved as jumprelu.",
    )
    expansion: int = leaf(4, "Features for each dimension of the stream, d_sae / d_model.", ge=1)
    k: int = leaf(
        32, "Features active at a position: at most (topk), on average (batchtopk) or aimed at (jumprelu).", ge=1
    )
    n_steps: int = leaf(5000, "Steps of training.", ge=100)
    batch_size: int = leaf(2048, "Positions in a step.", unit="positions", ge=1)
    learning_rate: float | None = leaf(
        None,
        "Peak learning rate; null: 2e-4 * sqrt(16384 / d_sae).",
        valid="a number > 0, or null",
        gt=0,
    )


class DescriptorSettings(Settings):
    """Causal acoustic features: what the baseline can hear."""

    context_s: float = seconds(3.0, "How far back the baseline hears; times nearer to the motif are left out.", ge=0.5)


class EventSettings(Settings):
    """What counts as a recurrence of the motif: see reprise/targets/recurrence/events.py."""

    motif: Literal["opening", "beats", "discovered"] = leaf(
        "opening",
        "Which passage may return: the one that motif_start_s and motif_duration_s name, the same with its ends on "
        "beats, or whatever the clip itself repeats for motif_duration_s.",
    )
    motif_start_s: float = seconds(2.0, "Where the motif begins; not used when it is discovered.")
    motif_duration_s: float = seconds(2.0, "How long the motif is.", ge=0.8)
    min_score: float = share(0.75, "Least match score (1: identical).")
    max_p_value: float = leaf(0.05, "Largest p-value against surrogates.", gt=0, lt=1)
    n_surrogates: int = leaf(99, "Surrogates of the clip that a match is compared with.", ge=1)
    surrogate_segment_fraction: float = share(
        0.5, "Length of the segments that surrogates are shuffled in, relative to the motif.", gt=0
    )
    others: Annotated[tuple[Literal["prompt", "group"], ...], AfterValidator(unique)] = leaf(
        (),
        "Other clips that a match must also beat, where enough share a batch: of the same prompt with another seed, "
        "or of other prompts of its group (a third column of the prompts file). Leave out those that are meant to "
        "have the same melody.",
    )
    min_gap_s: float = seconds(2.0, "Shortest stretch without a match before a recurrence.")
    gap_max_score: float = share(0.7, "Highest match score inside that gap.")
    timbre_margin: float = share(0.1, "By how much the match score must exceed the timbre score.")
    min_entropy_bits: float = leaf(1.5, "Least pitch-class entropy of a motif.", unit="bits", ge=0, le=3.585)
    min_onsets: int = leaf(3, "Fewest note onsets of a motif.", ge=1)
    candidate_score: float = share(0.4, "Matches that score less are not even listed.")


class LabelSettings(Settings):
    """Times at which the question is asked."""

    step_s: float = seconds(0.5, "Time between two labelled positions.", ge=0.01)
    reviewed_only: bool = leaf(
        False,
        "Whether only a reviewer's accept makes a recurrence count; times that rest on any other are left out.",
        strict=True,
    )


class ReviewSettings(Settings):
    """The review page, and the reviews that overrule the tests of events: see reprise/review/decisions.py."""

    files: Annotated[tuple[Annotated[str, Field(min_length=1)], ...], AfterValidator(unique)] = leaf(
        (),
        "Decisions downloaded from the study's review page, one file a reviewer.",
        valid="a list of JSON files downloaded from the study's review page",
    )
    max_events: int = leaf(100, "Most events on the review page, the uncertain ones first.", ge=1)
    context_s: float = seconds(0.5, "What is played before and after a passage.", le=10)


class ProbeSettings(Settings):
    """Linear probes, their folds and their null."""

    representations: Annotated[
        tuple[Literal["resid", "sae", "embedding", "random_dictionary", "random_model"], ...], AfterValidator(unique)
    ] = leaf(
        ("resid", "sae", "embedding", "random_dictionary", "random_model"),
        "What is probed. Evidence are resid and sae; the others say what those are worth: embedding, the input to "
        "layer 0; random_dictionary, latents by random directions; random_model, the stream of the same model with "
        "random weights, dumped for it.",
        min_length=1,
    )
    n_folds: int = leaf(5, "Folds of cross-fitting, grouped by prompt.", ge=2)
    n_swaps: int = leaf(
        199, "Pseudosession swaps of the null. A candidate is confirmed with as many as its correction needs.", ge=1
    )
    n_bootstrap: int = leaf(2000, "Bootstrap resamples of the prompts.", ge=100)
    alpha: float = leaf(0.05, "Largest p-value of the null.", gt=0, lt=1)


class ScreenSettings(Settings):
    """How candidate features are found and confirmed."""

    min_active: float = share(0.01, "Smallest share of clips in which a feature is active.")
    max_active: float = share(0.6, "Largest share of clips in which a feature is active.")
    fdr: float = leaf(0.05, "False discovery rate over features, layers and horizons.", gt=0, lt=1)
    confirm_fraction: float = leaf(0.5, "Share of the prompts kept for confirmation.", unit="share", gt=0, lt=1)
    max_tried: int = leaf(
        4,
        "Most features taken to confirmation, the screen's first. Each that is tried counts in the correction.",
        ge=1,
    )
    max_candidates: int = leaf(2, "Most confirmed features taken on to the ablation.", ge=1)


class AblationSettings(Settings):
    """Continuations under an edit."""

    n_clips: int = leaf(24, "Clips continued under every condition.", ge=2)
    prefix_s: float = seconds(8.0, "Length of the clip's own opening that a continuation starts from.", gt=0)
    return_window_s: tuple[Second, Second] = leaf(
        (1.5, 4.5),
        "When a return of a continuation counts, [from, to] after the prefix's end. It should leave room before or "
        "after: damage is measured there.",
        unit="s",
        valid="[from, to] in seconds after the prefix's end, with 0 <= from < to",
    )
    n_matched: int = leaf(1, "Matched features that each candidate is compared with.", ge=1)
    doses: Annotated[tuple[Annotated[float, Field(ge=0, le=10)], ...], AfterValidator(unique)] = leaf(
        (0.25, 0.5, 1.0, 2.0),
        "Strengths of the edit, 1 among them: the feature is removed. 0 is a check: no token may change.",
        min_length=1,
    )
    windows: Annotated[tuple[Literal["until_event", "prefix_only"], ...], AfterValidator(unique)] = leaf(
        ("until_event", "prefix_only"),
        "Edited positions: until_event asks whether it is used, prefix_only whether it is stored.",
        min_length=1,
    )
    cfg_branches: Literal["both", "conditional"] = leaf("both", "With guidance: which half of the batch is edited.")
    target: Literal["zero", "mean", "resample"] = leaf(
        "zero",
        "What a feature's activation is moved to: 0, its mean, or its value at the same position of a clip of another "
        "prompt that does not return.",
    )
    n_steered: int = leaf(
        12, "Most clips without a return that are continued with the feature turned up; 0: none.", ge=0
    )


class VerdictSettings(Settings):
    """Thresholds of the gates. They are set before any result is seen."""

    min_positive_clips: int = leaf(20, "Fewest clips with a return in the horizon; with fewer: unresolved.", ge=1)
    min_negative_clips: int = leaf(20, "Fewest clips without a return in the horizon; with fewer: unresolved.", ge=1)
    min_positive_prompts: int = leaf(10, "Fewest prompts with a return in the horizon; with fewer: unresolved.", ge=2)
    min_gain_auroc: float = leaf(
        0.05, "Least conditional gain in AUROC; its interval must lie above 0.", unit="AUROC", gt=0, le=0.5
    )
    max_missed_gain_auroc: float = leaf(
        0.15, "Gain that the interval must exclude before its absence is concluded.", unit="AUROC", gt=0, le=0.5
    )
    min_learned_gain_auroc: float = leaf(
        0.025,
        "Least gain in AUROC over the same model with random weights; its interval must lie above 0.",
        unit="AUROC",
        gt=0,
        le=0.5,
    )
    min_effect: float = share(
        0.2, "Least fall in the rate of returns under the edit; its interval must lie above 0.", gt=0
    )
    min_selectivity: float = share(
        0.1, "Least excess over the controls at matched damage; its interval must lie above 0.", gt=0
    )
    max_damage: float = leaf(
        0.5,
        "Most damage an edit may do: rise of the unedited model's loss. Its whole interval must lie at or below this.",
        unit="nats per token",
        gt=0,
        lt=1,
    )
    min_stored_fraction: float = share(
        0.5,
        "Share of the effect that all of the prefix-only edit's interval must reach for a plan to count as stored.",
        gt=0,
    )


class Study(Settings):
    """One study: a model, its prompts or recordings and everything asked of them."""

    model: ModelSettings
    source: Literal["prompts", "audio", "continuation"] = leaf(
        "prompts",
        "Where clips come from. prompts: the model plays them. audio: they are cut from recordings, and the model "
        "reads them. continuation: the model goes on from the opening of each cut.",
    )
    prompts: str = leaf(
        "config/prompts.tsv",
        "Prompts: a tab-separated file with the columns prompt_id and prompt.",
        valid="a tab-separated file such as config/prompts.tsv",
        min_length=1,
    )
    recordings: RecordingSettings = RecordingSettings()
    seeds: Annotated[tuple[Annotated[int, Field(ge=0)], ...], AfterValidator(unique)] = leaf(
        (0, 1, 2, 3), "One clip is generated for each prompt, or for each cut of a recording, and seed.", min_length=1
    )
    generation: GenerationSettings = GenerationSettings()
    saes: dict[Annotated[int, Field(ge=0)], Annotated[str, Field(min_length=1)]] = leaf(
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
    horizons: dict[str, tuple[Second, Second]] = leaf(
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

    title: str = leaf("Does the model plan its returns?", "Title of the report.", min_length=1)


class Config(Settings):
    """A validated configuration, its defaults already merged into its studies."""

    studies: dict[str, Study] = leaf(
        ..., "Studies by name; each has its directory under results/.", valid="at least one study", min_length=1
    )
    report: ReportSettings = ReportSettings()


# Study fields that are merged field by field; every other one is replaced as a whole.
GROUPS: dict[str, type[Settings]] = {
    name: field.annotation
    for name, field in Study.model_fields.items()
    if isinstance(field.annotation, type) and issubclass(field.annotation, Settings)
}
