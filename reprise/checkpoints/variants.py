"""What a checkpoint of a MusicGen or an AudioGen says of itself: which kind of model it is,
its size, its text encoder.

Conventions. A checkpoint (`state_dict.bin`, `compression_state_dict.bin`) holds beside its weights `xp.cfg`, the
configuration it was built from: YAML text, or in some an OmegaConf object; or, for a codec, `pretrained`: the hub id
of another. `read_checkpoint` takes these out of the file without torch and without what the pickle names, all of which
is replaced by `Stub`: milliseconds, whatever the size, so that the Snakefile can ask. A value such as
"${sample_rate}" is a reference that nothing resolves here: it counts as not said.

Degenerate input: a file that is no zip archive (torch before 1.6 wrote such) or holds something else says nothing:
what it is shows when it is loaded.
"""

import io
import json
import math
import pickle
import zipfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import yaml

_FUSED = {"cross": ["description"], "prepend": [], "sum": [], "input_interpolate": []}
# As StreamingTransformer has them by default, and as reprise/models/forward.py runs them.
_TRANSFORMER = {
    "norm_first": (False, True),
    "causal": (False, True),
    "positional_embedding": ("sin", "sin"),
    "qk_layer_norm": (False, False),
    "qk_layer_norm_cross": (False, False),
    "layer_scale": (None, None),
    "past_context": (None, None),
    "kv_repeat": (1, 1),
}
# The files of transformers' form do not say how long the clips of its training were. All published models had 30 s.
TRANSFORMERS_MAX_DURATION_S = 30.0
SUPPORTED = (
    "a model that reads text alone, such as facebook/musicgen-small, -medium or -large; from audiocraft's files also "
    "facebook/musicgen-stereo-small, -medium or -large and facebook/audiogen-medium"
)


class UnsupportedModelError(ValueError):
    """A model of a kind that is not run here: says in which settings."""


class Checkpoint(NamedTuple):
    """What a checkpoint of audiocraft's says beside its weights: its configuration ({}: nothing), or whose it is."""

    config: dict[str, Any]
    pretrained: str | None


def read_package(path: Path) -> Any:
    """What torch saved in a file, every tensor and object in it replaced by an empty `Stub`; None where it can't be
    told. Mappings of any class keep their entries."""
    try:
        with zipfile.ZipFile(path) as archive:
            (name,) = [name for name in archive.namelist() if name.endswith("/data.pkl")]
            return _Unpickler(io.BytesIO(archive.read(name))).load()
    except Exception:  # a pickle that is none may raise anything
        return None


def read_checkpoint(path: Path) -> Checkpoint:
    """What a checkpoint of audiocraft's says beside its weights."""
    package = read_package(path)
    try:
        config, pretrained = package.get("xp.cfg"), package.get("pretrained")
        if isinstance(config, str):
            config = yaml.load(config, getattr(yaml, "CSafeLoader", yaml.SafeLoader))
        config = _plain(config)
    except Exception:  # of a package that is none, or of YAML that is none
        return Checkpoint({}, None)
    return Checkpoint(config if isinstance(config, dict) else {}, pretrained if isinstance(pretrained, str) else None)


def read_transformers_config(folder: Path) -> dict[str, Any]:
    """A folder's `config.json`; {} where it can't be read."""
    try:
        config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return config if isinstance(config, dict) else {}


class Stub(dict):
    """Stands for any class or function that a pickle names, and for what that would have made."""

    __hash__ = object.__hash__  # type: ignore[assignment]  # some are keys

    def __init__(self, *arguments: Any) -> None:
        super().__init__()

    def __setstate__(self, state: Any) -> None:
        vars(self).update(state if isinstance(state, dict) else {})

    def append(self, item: Any) -> None:
        """As a list's or a deque's; what it holds is not asked for."""

    def extend(self, items: Any) -> None:
        """As `append`."""


class _Unpickler(pickle.Unpickler):
    def find_class(self, module: str, name: str) -> Any:
        return Stub

    def persistent_load(self, identity: Any) -> None:
        return None  # a tensor's storage


def _plain(node: Any) -> Any:
    """The containers and values of an unpickled OmegaConf object."""
    if not isinstance(node, Stub):
        return node
    content = vars(node).get("_content", vars(node).get("_val"))
    if isinstance(content, dict):
        return {_plain(key): _plain(value) for key, value in content.items()}
    return [_plain(value) for value in content] if isinstance(content, list) else content


def unsupported(config: Mapping[str, Any]) -> list[str]:
    """What of a language model's configuration `reprise/models/forward.py` does not run, a field each; [] where it
    runs.

    It runs codebooks that lag behind the first by any steps, none less than the one before, the text as
    cross-attention and nothing else fused in, and pre-norm layers with sinusoidal positions: MusicGen, mono or stereo,
    and AudioGen. So not MusicGen's melody and style models, which put melody and text before the music and move all
    its positions by that, MAGNeT or JASCO.
    """
    if not config:
        return []
    transformer = config.get("transformer_lm") or {}
    pattern, fuser = config.get("codebooks_pattern") or {}, config.get("fuser") or {}
    delay, stereo = pattern.get("delay") or {}, config.get("interleave_stereo_codebooks") or {}
    n_q, delays = transformer.get("n_q"), list(delay.get("delays") or [])
    of_stereo = [
        ("transformer_lm.n_q", n_q, _even(n_q)),
        # Otherwise left and right come one after the other, a frame of sound in two frames of tokens.
        ("interleave_stereo_codebooks.per_timestep", stereo.get("per_timestep", False), False),
    ]
    fields = [
        ("lm_model", config.get("lm_model"), "transformer_lm"),
        # The oldest checkpoints name the pattern in the transformer.
        ("codebooks_pattern.modeling", pattern.get("modeling") or transformer.get("q_modeling"), "delay"),
        ("codebooks_pattern.delay.delays", delays, _valid_delays(delays, n_q)),
        ("codebooks_pattern.delay.flatten_first", delay.get("flatten_first", 0), 0),
        ("codebooks_pattern.delay.empty_initial", delay.get("empty_initial", 0), 0),
        *(of_stereo if _said(stereo.get("use")) and stereo.get("use") else []),
        ("conditioners", sorted(set(config.get("conditioners") or {}) - {"args"}), ["description"]),
        *[(f"fuser.{how}", list(fuser.get(how) or []), only) for how, only in _FUSED.items()],
        ("fuser.cross_attention_pos_emb", fuser.get("cross_attention_pos_emb", False), False),
        # Otherwise torch's own attention is inside, under other names.
        ("transformer_lm.custom", bool(transformer.get("custom") or transformer.get("memory_efficient")), True),
        *[
            (f"transformer_lm.{name}", transformer.get(name, default), runs)
            for name, (default, runs) in _TRANSFORMER.items()
        ],
    ]
    return [
        f"{name} is {value!r} (supported: {runs!r})" for name, value, runs in fields if value != runs and _said(value)
    ]


def _valid_delays(delays: Sequence[Any], n_q: Any) -> Sequence[Any]:
    """`delays`, where `reprise/models/delay_pattern.py` can use them; else those of a plain model. [] stands for
    these, and says nothing wrong."""
    if not delays:
        return delays
    whole = all(type(delay) is int for delay in delays) and delays[0] == 0 and list(delays) == sorted(delays)
    n_codebooks = n_q if type(n_q) is int else len(delays)
    return delays if whole and len(delays) == n_codebooks else list(range(n_codebooks))


def _even(n: Any) -> Any:
    """A number of codebooks that two channels can share: n, or the next that can be."""
    return n + n % 2 if type(n) is int else n


def unsupported_in_transformers(config: Mapping[str, Any]) -> list[str]:
    """What in a `config.json` of transformers' says that the model is of another kind, a field each; [] where nothing.

    transformers itself would load MusicGen's melody model as the plain one, and draw the weights that it lacks.
    """
    decoder = config.get("decoder") or {}
    fields = [
        ("model_type", config.get("model_type"), "musicgen"),
        ("decoder.audio_channels", decoder.get("audio_channels", 1), 1),
    ]
    return [f"{name} is {value!r} (supported: {runs!r})" for name, value, runs in fields if value != runs]


def text_encoders(config: Mapping[str, Any]) -> list[str]:
    """The hub names of the T5 models that a configuration reads prompts with."""
    conditioners = (config.get("conditioners") or {}).values()
    of_t5 = [c["t5"] for c in conditioners if isinstance(c, Mapping) and c.get("model") == "t5"]
    return sorted({t5["name"] for t5 in of_t5})


def read_facts(folder: Path, *, backend: str = "audiocraft") -> dict[str, Any]:
    """What `results/corpora/<corpus>/model.json` will say of a model, as far as its files' configurations do:
    `n_layers`, `d_model`, `n_codebooks`, `codebook_size`, `max_duration_s`, `sample_rate_hz`, `frame_rate_hz`."""
    facts = _audiocraft_facts(folder) if backend == "audiocraft" else _transformers_facts(folder)
    rate_hz, ratios = facts["sample_rate_hz"], facts.pop("ratios")
    facts["frame_rate_hz"] = rate_hz / math.prod(ratios) if ratios and isinstance(rate_hz, int) else None
    return {name: value for name, value in facts.items() if isinstance(value, int | float)}


def _audiocraft_facts(folder: Path) -> dict[str, Any]:
    config, codec = (read_checkpoint(folder / f"{part}state_dict.bin").config for part in ("", "compression_"))
    transformer = config.get("transformer_lm") or {}
    return {
        "n_layers": transformer.get("num_layers"),
        "d_model": transformer.get("dim"),
        "n_codebooks": transformer.get("n_q"),
        "codebook_size": transformer.get("card"),
        "max_duration_s": (config.get("dataset") or {}).get("segment_duration"),
        "sample_rate_hz": codec.get("sample_rate"),
        "ratios": (codec.get("seanet") or {}).get("ratios"),
    }


def _transformers_facts(folder: Path) -> dict[str, Any]:
    config = read_transformers_config(folder)
    decoder, codec = config.get("decoder") or {}, config.get("audio_encoder") or {}
    return {
        "n_layers": decoder.get("num_hidden_layers"),
        "d_model": decoder.get("hidden_size"),
        "n_codebooks": decoder.get("num_codebooks"),
        "codebook_size": decoder.get("vocab_size"),
        "max_duration_s": TRANSFORMERS_MAX_DURATION_S,
        "sample_rate_hz": codec.get("sampling_rate"),
        "ratios": codec.get("upsampling_ratios"),
    }


def compatibility_errors(
    facts: Mapping[str, Any], *, name: str, layers: Sequence[int], duration_s: float
) -> list[tuple[tuple[str, ...], str]]:
    """Where a study asks for what a model does not have: (the study's field, what is wrong) each.

    facts: `n_layers` and `max_duration_s` of the model; one that is not there is not checked. name: the model's, for
    the text.
    """
    problems: list[tuple[tuple[str, ...], str]] = []
    n_layers, longest_s = facts.get("n_layers"), facts.get("max_duration_s")
    for layer in layers:
        if n_layers is not None and not 0 <= layer < n_layers:
            valid = f"0 to {n_layers - 1} (0-based: some papers count the same layer as {layer + 1})"
            problems.append((("saes",), f"layer {layer} is not in {name}; valid: {valid}"))
    if longest_s is not None and duration_s > longest_s:
        valid = f"at most {longest_s:g}, which {name} can see at once"
        problems.append((("generation", "duration_s"), f"got {duration_s:g}; valid: {valid}"))
    return problems


def _said(value: Any) -> bool:
    return not (isinstance(value, str) and value.startswith("${"))
