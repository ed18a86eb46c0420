"""Read the configuration in a checkpoint of MusicGen or AudioGen: the kind of model, its size, its text encoder.

Conventions. In addition to weights, a checkpoint (`state_dict.bin`, `compression_state_dict.bin`) contains `xp.cfg`,
the configuration from which the model was built. It is YAML text, or in some checkpoints an OmegaConf object. A
codec's checkpoint may instead contain `pretrained`, the hub id of another codec. `read_checkpoint` reads these without
torch and without importing the classes that the pickle names: each is replaced by `Stub`. This takes milliseconds for
any size, so the Snakefile can use it. A value such as "${sample_rate}" is a reference. References are not resolved
here, and count as not set.

Degenerate input: a file that is not a zip archive (torch before 1.6 wrote such files), or that contains something
else, gives an empty result. Its content is checked when it is loaded.
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
# By field: StreamingTransformer's default, and the value that reprise/models/forward.py supports.
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
# Files in transformers' format do not contain the length of the training clips. It is 30 s for all published models.
TRANSFORMERS_MAX_DURATION_S = 30.0
SUPPORTED = (
    "a model with only text conditioning, such as facebook/musicgen-small, -medium or -large; with audiocraft also "
    "facebook/musicgen-stereo-small, -medium or -large and facebook/audiogen-medium"
)


class UnsupportedModelError(ValueError):
    """The kind of model is not supported. The message names the settings."""


class Checkpoint(NamedTuple):
    """Content of an audiocraft checkpoint without its weights.

    `config`: {} if it has none. `pretrained`: the hub id of the codec that the checkpoint names instead.
    """

    config: dict[str, Any]
    pretrained: str | None


def read_package(path: Path) -> Any:
    """What torch saved in a file, with every tensor and object replaced by an empty `Stub`; None if it can't be read.

    Mappings of any class keep their entries.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            (name,) = [name for name in archive.namelist() if name.endswith("/data.pkl")]
            return _Unpickler(io.BytesIO(archive.read(name))).load()
    except Exception:  # an invalid pickle may raise anything
        return None


def read_checkpoint(path: Path) -> Checkpoint:
    """The content of an audiocraft checkpoint without its weights."""
    package = read_package(path)
    try:
        config, pretrained = package.get("xp.cfg"), package.get("pretrained")
        if isinstance(config, str):
            config = yaml.load(config, getattr(yaml, "CSafeLoader", yaml.SafeLoader))
        config = _plain(config)
    except Exception:  # not a package, or invalid YAML
        return Checkpoint({}, None)
    return Checkpoint(config if isinstance(config, dict) else {}, pretrained if isinstance(pretrained, str) else None)


def read_transformers_config(folder: Path) -> dict[str, Any]:
    """A folder's `config.json`; {} if it can't be read."""
    try:
        config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return config if isinstance(config, dict) else {}


class Stub(dict):
    """Replaces every class and function that a pickle names, and every object that they would make."""

    __hash__ = object.__hash__  # type: ignore[assignment]  # some objects are keys of mappings

    def __init__(self, *arguments: Any) -> None:
        super().__init__()

    def __setstate__(self, state: Any) -> None:
        vars(self).update(state if isinstance(state, dict) else {})

    def append(self, item: Any) -> None:
        """Like that of a list or a deque. The items are not needed."""

    def extend(self, items: Any) -> None:
        """Like `append`."""


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
    """Fields of a language model's configuration that `reprise/models/forward.py` does not support, one text each; []
    if all are supported.

    Supported are codebook delays that never decrease, text as cross-attention and no other fused input, and pre-norm
    layers with sinusoidal positions: MusicGen, mono or stereo, and AudioGen. Not supported are MAGNeT, JASCO, and
    MusicGen's melody and style models, which put melody and text before the music and so shift all its positions.
    """
    if not config:
        return []
    transformer = config.get("transformer_lm") or {}
    pattern, fuser = config.get("codebooks_pattern") or {}, config.get("fuser") or {}
    delay, stereo = pattern.get("delay") or {}, config.get("interleave_stereo_codebooks") or {}
    n_q, delays = transformer.get("n_q"), list(delay.get("delays") or [])
    of_stereo = [
        ("transformer_lm.n_q", n_q, _even(n_q)),
        # Otherwise left and right follow each other: one frame of audio takes two frames of tokens.
        ("interleave_stereo_codebooks.per_timestep", stereo.get("per_timestep", False), False),
    ]
    fields = [
        ("lm_model", config.get("lm_model"), "transformer_lm"),
        # The oldest checkpoints have the pattern in the transformer's settings.
        ("codebooks_pattern.modeling", pattern.get("modeling") or transformer.get("q_modeling"), "delay"),
        ("codebooks_pattern.delay.delays", delays, _valid_delays(delays, n_q)),
        ("codebooks_pattern.delay.flatten_first", delay.get("flatten_first", 0), 0),
        ("codebooks_pattern.delay.empty_initial", delay.get("empty_initial", 0), 0),
        *(of_stereo if _said(stereo.get("use")) and stereo.get("use") else []),
        ("conditioners", sorted(set(config.get("conditioners") or {}) - {"args"}), ["description"]),
        *[(f"fuser.{how}", list(fuser.get(how) or []), only) for how, only in _FUSED.items()],
        ("fuser.cross_attention_pos_emb", fuser.get("cross_attention_pos_emb", False), False),
        # Otherwise torch's attention is used. It has other weight names.
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
    """`delays`, if `reprise/models/delay_pattern.py` supports them; otherwise 0, 1, 2, ... An empty list is valid: it
    means these defaults."""
    if not delays:
        return delays
    whole = all(type(delay) is int for delay in delays) and delays[0] == 0 and list(delays) == sorted(delays)
    n_codebooks = n_q if type(n_q) is int else len(delays)
    return delays if whole and len(delays) == n_codebooks else list(range(n_codebooks))


def _even(n: Any) -> Any:
    """The smallest even number of codebooks that is at least n, since two channels share them."""
    return n + n % 2 if type(n) is int else n


def unsupported_in_transformers(config: Mapping[str, Any]) -> list[str]:
    """Fields of transformers' `config.json` that show an unsupported kind of model, one text each; [] if none.

    transformers itself would load MusicGen's melody model as a plain one, and draw the missing weights at random.
    """
    decoder = config.get("decoder") or {}
    fields = [
        ("model_type", config.get("model_type"), "musicgen"),
        ("decoder.audio_channels", decoder.get("audio_channels", 1), 1),
    ]
    return [f"{name} is {value!r} (supported: {runs!r})" for name, value, runs in fields if value != runs]


def text_encoders(config: Mapping[str, Any]) -> list[str]:
    """The hub names of the T5 models that encode prompts in a configuration."""
    conditioners = (config.get("conditioners") or {}).values()
    of_t5 = [c["t5"] for c in conditioners if isinstance(c, Mapping) and c.get("model") == "t5"]
    return sorted({t5["name"] for t5 in of_t5})


def read_facts(folder: Path, *, backend: str = "audiocraft") -> dict[str, Any]:
    """The facts about a model that `results/corpora/<corpus>/model.json` will contain, read from its configuration:
    `n_layers`, `d_model`, `n_codebooks`, `codebook_size`, `max_duration_s`, `sample_rate_hz`, `frame_rate_hz`. Facts
    that the configuration does not contain are left out."""
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
    """Settings of a study that a model does not support.

    Parameters
    ----------
    facts
        `n_layers` and `max_duration_s` of the model. A missing one is not checked.
    name
        The model's name, for the text.
    layers
        Layers of the study's SAEs (0-based).
    duration_s
        Length of a clip in seconds.

    Returns
    -------
    list of tuple
        (path of the study's field, text of the problem).
    """
    problems: list[tuple[tuple[str, ...], str]] = []
    n_layers, longest_s = facts.get("n_layers"), facts.get("max_duration_s")
    for layer in layers:
        if n_layers is not None and not 0 <= layer < n_layers:
            valid = f"0 to {n_layers - 1} (0-based: some papers count the same layer as {layer + 1})"
            problems.append((("saes",), f"layer {layer} is not in {name}; valid: {valid}"))
    if longest_s is not None and duration_s > longest_s:
        valid = f"at most {longest_s:g}, the longest clip that {name} supports"
        problems.append((("generation", "duration_s"), f"got {duration_s:g}; valid: {valid}"))
    return problems


def _said(value: Any) -> bool:
    return not (isinstance(value, str) and value.startswith("${"))
