"""Check the content of a model's files by their headers: that they are a complete exported model, and which weights
they contain.

A library that loads weights may ignore unexpected weights and draw missing weights at random. Then the study is about
another model than the intended one. So both are refused here, before any job. Also refused are adapters next to the
weights (they would not be applied), training checkpoints, and a file that contains another part of the model.

Nothing is loaded: the names of weights are in the header of safetensors and in the pickle of a torch file. A file that
can't be read in this way (torch before 1.6) is not checked here. The names are compared with those that the model's
configuration describes before any job (`reprise/checkpoints/name_checks.py`), and again with those of the loaded
modules. Problems are texts that begin with the file's name.
The Snakefile imports this at every parse, so it imports nothing heavy.
"""

import json
import re
from collections.abc import Callable, Collection, Iterable, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any

from reprise.checkpoints.hub import MODEL_FILES, SHARDS
from reprise.checkpoints.variants import Stub, read_checkpoint, read_package
from reprise.checkpoints.weight_names import is_benign, plain

LM_FILE, CODEC_FILE = (names[0] for names in MODEL_FILES["audiocraft"])
_MAX_HEADER = 100_000_000  # the limit of safetensors, in bytes
_SHOWN = 3
# Files that PEFT and other libraries write for adapters, next to the weights of the base model.
_ADAPTER_FILE = re.compile(
    r"adapter_config\.json|adapter_model.*|.*lora.*\.(safetensors|bin|pt|pth|ckpt)", re.IGNORECASE
)
# PEFT's names for the weights of adapters, and of a model that contains adapters.
_ADAPTER_NAME = re.compile(
    r"^base_model\.|(^|\.)(lora|loha|lokr|hada|ia3|oft|boft|vera|adalora|prompt)_|(^|\.)(base_layer|modules_to_save|"
    r"original_module|prompt_encoder)\."
)
_OF_LM = re.compile(r"(emb|linears)\.\d|transformer\.layers\.\d|condition_provider\.")
_OF_CODEC = re.compile(r"((en|de)coder\.model\.\d|quantizer\.)")
_OF_TRANSFORMERS = re.compile(r"(decoder\.model\.decoder|text_encoder|audio_encoder|enc_to_dec_proj)\.")
PARTS = {"text_encoder.": "text encoder", "audio_encoder.": "codec", "decoder.": "language model"}
_PRETRAINED = "//pretrained/"
_HUB_NAME = re.compile(r"[A-Za-z0-9][\w.-]*(/[\w.-]+)?")
_WHOLE = {
    "transformers": "the whole model, as save_pretrained() writes it",
    "audiocraft": "exactly the weights that its xp.cfg describes",
}


def model_content_problems(folder: Path, *, backend: str) -> list[str]:
    """Why the content of a model's files can't be run, for any kind of MusicGen; [] if no problem was found.

    Missing files are not reported here.
    """
    if found := adapters(folder):
        return [_unmerged(found, backend)]
    return _exported_problems(folder) if backend == "audiocraft" else []


def names_problems(
    found: Iterable[str],
    expected: Iterable[str],
    *,
    file: str,
    backend: str,
    allowed: Callable[[str], bool] = is_benign,
    parts: Mapping[str, str] = MappingProxyType({}),
) -> list[str]:
    """Differences between the names of stored weights and those of a model's weights.

    Parameters
    ----------
    found
        Names of the stored weights.
    expected
        Names of the model's weights.
    file
        Name of the file, for the text.
    allowed
        Whether a name may be missing or unexpected.
    parts
        What parts of a model are called, by the prefix of their names.

    Returns
    -------
    list of str
        One text for missing weights and one for unexpected weights, or one for the weights of an adapter.
    """
    given, needed = {plain(name): name for name in found}, {plain(name) for name in expected}
    valid = _WHOLE[backend]
    adapted = sorted(name for name in given.values() if _ADAPTER_NAME.search(name))
    if adapted:
        return [f"{file} contains weights of an adapter: {_some(adapted)}; {_merge(backend)}"]
    problems = []
    if lacking := {name for name in needed - given.keys() if not allowed(name)}:
        problems.append(f"{file} is missing {_lacking_text(lacking, needed, parts)}; valid: {valid}")
    extra = sorted(given[name] for name in given.keys() - needed if not allowed(given[name]))
    if extra:
        problems.append(
            f"{file} contains {_counted(extra)} that the model does not have: {_some(extra)}; valid: {valid}"
        )
    return problems


def stored_names(folder: Path, files: Iterable[str]) -> list[str] | None:
    """The names of all weights in some files of a folder; None if they can't be read from the header of a file."""
    names: list[str] = []
    for file in files:
        path = folder / file
        found = _safetensors_names(path) if path.suffix == ".safetensors" else _torch_names(path)
        if found is None:
            return None
        names += found
    return names


def weights_files(folder: Path) -> list[str]:
    """The files from which transformers reads a folder's weights; [] if there are none."""
    if (folder / "model.safetensors").is_file():
        return ["model.safetensors"]
    if (folder / SHARDS).is_file():
        return shards(folder)
    return ["pytorch_model.bin"] if (folder / "pytorch_model.bin").is_file() else []


def shards(folder: Path) -> list[str]:
    """The files that an index names; [] if the index can't be read."""
    try:
        return sorted(set(json.loads((folder / SHARDS).read_text(encoding="utf-8"))["weight_map"].values()))
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return []


def safetensors_header(path: Path) -> tuple[int, dict[str, Any] | None] | None:
    """(position in bytes where the weights of a safetensors file begin, its header; None if the header is cut off).
    None if the file does not begin with a safetensors header."""
    with open(path, "rb") as file:
        length = int.from_bytes(file.read(8), "little")
        if not 2 <= length <= _MAX_HEADER:
            return None
        text = file.read(length)
    if len(text) < length:
        return 8 + length, None
    try:
        header = json.loads(text)
    except ValueError:
        return None
    return (8 + length, header) if isinstance(header, dict) else None


# --- adapters -------------------------------------------------------------------------------------------------


def adapters(folder: Path) -> list[str]:
    """Files of adapters in a model's folder and in its subfolders, where PEFT puts all adapters except the first."""
    files = (path for path in (*folder.glob("*"), *folder.glob("*/*")) if _ADAPTER_FILE.fullmatch(path.name))
    return sorted(path.relative_to(folder).as_posix() for path in files if path.is_file())


def is_of_adapter(name: str) -> bool:
    """Whether a weight's name is one that PEFT gives to weights of adapters."""
    return bool(_ADAPTER_NAME.search(name))


def _unmerged(found: Collection[str], backend: str) -> str:
    return (
        f"{_some(sorted(found))}: an adapter, which would not be applied to the base model; {_merge(backend)}, in a "
        "folder without the adapter's files"
    )


def _merge(backend: str) -> str:
    if backend == "audiocraft":
        saved = 'its state_dict() saved as "best_state" of state_dict.bin'
    else:
        saved = "the result saved with save_pretrained()"
    return f"valid: the adapter merged into the model with PEFT's merge_and_unload(), then {saved}"


# --- audiocraft's files ---------------------------------------------------------------------------------------


def _exported_problems(folder: Path) -> list[str]:
    packages = {file: read_package(folder / file) for file in (LM_FILE, CODEC_FILE)}
    kinds = {file: _kind(package, read_checkpoint(folder / file).config) for file, package in packages.items()}
    if (kinds[LM_FILE], kinds[CODEC_FILE]) == ("codec", "language model"):
        return [
            f"{LM_FILE} contains a codec and {CODEC_FILE} a language model: they are swapped; valid: each under the "
            "other's name"
        ]
    problems = []
    for file, wanted in ((LM_FILE, "language model"), (CODEC_FILE, "codec")):
        # None is a file of torch before 1.6. It is checked when it is loaded.
        if packages[file] is not None and (problem := _package_problem(packages[file], folder / file, wanted, kinds)):
            problems.append(f"{file} {problem}")
    return problems


def _package_problem(package: Any, path: Path, wanted: str, kinds: Mapping[str, str | None]) -> str | None:
    """Why the content of a torch file is not an exported language model or codec."""
    kind = kinds[path.name] or wanted
    if isinstance(package, Stub) or not isinstance(package, dict):
        if _is_weights(package):
            return f"contains only weights, without the model's configuration; {_own_export(kind)}"
        return (
            f"contains a pickled {'object' if isinstance(package, Stub) else type(package).__name__}; "
            f"{_own_export(kind)}"
        )
    if "pytorch-lightning_version" in package:
        return f"is a checkpoint of PyTorch Lightning{_prefixed(package)}; {_own_export(kind)}"
    state = package.get("best_state")
    nested = isinstance(state, dict) and any(map(_is_weights, state.values()))
    if nested or package.get("fsdp_best_state"):
        return f"is a training checkpoint of audiocraft, not an exported one; {_export(package, path, kind)}"
    if "pretrained" in package:
        return _pretrained_problem(package["pretrained"], path, wanted)
    if "best_state" not in package:
        if _is_weights(package):
            form = " in transformers format" if any(map(_OF_TRANSFORMERS.match, _names(package))) else ""
            return f"contains only weights{form}, without the model's configuration; {_own_export(kind)}"
        held = _some(sorted(map(str, package)))
        return f"is a training checkpoint of another program ({held}){_prefixed(package)}; {_own_export(kind)}"
    if "xp.cfg" not in package:
        return f"does not contain the model's configuration (xp.cfg); {_own_export(kind)}"
    if kind != wanted:
        return f"contains a {kind}, not a {wanted}; valid: the {wanted}'s exported checkpoint"
    return None


def _pretrained_problem(pretrained: Any, path: Path, wanted: str) -> str | None:
    """Why a checkpoint that names another model, and has no weights itself, cannot be used; None if it can."""
    if wanted != "codec":
        return f'only names another model, "{pretrained}"; valid: the language model\'s exported checkpoint'
    again = "export_pretrained_compression_model({}, {})"
    if isinstance(pretrained, str) and pretrained.startswith(_PRETRAINED):
        name = pretrained.removeprefix(_PRETRAINED)
        command = _python(again.format(repr(name), repr(str(path))))
        return (
            f'names its codec in training format, "{pretrained}", which is not a hub id (the hub id is "{name}"); '
            f"valid: what {command} writes"
        )
    if not isinstance(pretrained, str) or not _HUB_NAME.fullmatch(pretrained):
        return (
            f'names its codec as "{pretrained}", which is not a hub id; valid: a hub id such as '
            "facebook/encodec_32khz, or the exported codec itself (audiocraft.utils.export.export_encodec)"
        )
    return None


def _kind(package: Any, config: Mapping[str, Any]) -> str | None:
    """Whether a checkpoint contains a language model or a codec, by its weights' names or by its configuration."""
    names = [re.sub(r"^(module|model|lm|net|compression_model)\.(?!\d)", "", name) for name in _names(package)]
    for kind, of in (("language model", _OF_LM), ("codec", _OF_CODEC)):
        if any(map(of.match, names)):
            return kind
    if "transformer_lm" in config or "lm_model" in config:
        return "language model"
    return "codec" if "seanet" in config or "compression_model" in config else None


def _names(package: Any) -> list[str]:
    """The names of the weights in the content of a torch file, at any of the usual places."""
    if _is_weights(package):
        return list(package)
    if not isinstance(package, dict):
        return []
    for key in ("best_state", "fsdp_best_state", "state_dict", "model_state_dict", "model", "module", "ema"):
        if names := _names(package.get(key)):
            return names
    return []


def _is_weights(node: Any) -> bool:
    """Whether an unpickled object is a mapping of names to tensors and has no other values."""
    return (
        isinstance(node, dict)
        and len(node) > 0
        and all(isinstance(name, str) for name in node)
        and all(isinstance(value, Stub) and not value for value in node.values())
    )


def _prefixed(package: Mapping[str, Any]) -> str:
    """The common prefix of the weights' names in a training checkpoint, in words; "" if there is none."""
    heads = {name.partition(".")[0] for name in _names(package)}
    if len(heads) == 1 and not (heads & {"emb", "transformer", "encoder", "decoder", "quantizer"}):
        return f', with the prefix "{heads.pop()}." in the names of its weights'
    return ""


def _export(package: Mapping[str, Any], path: Path, kind: str) -> str:
    # `export_lm` needs both kinds of best states.
    if kind == "language model" and "fsdp_best_state" not in package:
        return _own_export(kind)
    function = "export_lm" if kind == "language model" else "export_encodec"
    exported = path.parent / "exported" / path.name
    return f"valid: what {_python(f'{function}({str(path)!r}, {str(exported)!r})')} writes"


def _python(call: str) -> str:
    """A shell command that calls one of audiocraft's export functions."""
    function = call.partition("(")[0]
    return (
        f'python -c "import reprise.models.audiocraft_setup; from audiocraft.utils.export import {function}; {call}"'
    )


def _own_export(kind: str) -> str:
    made = (
        "audiocraft.utils.export.export_lm" if kind == "language model" else "audiocraft.utils.export.export_encodec"
    )
    return (
        f'valid: the {kind} as {made} writes it, torch.save({{"best_state": its state_dict() with '
        'audiocraft\'s names, "xp.cfg": its audiocraft configuration as YAML}, ...)'
    )


# --- names and words ------------------------------------------------------------------------------------------


def _safetensors_names(path: Path) -> list[str] | None:
    try:
        found = safetensors_header(path)
    except OSError:
        return None
    return None if found is None or found[1] is None else [name for name in found[1] if name != "__metadata__"]


def _torch_names(path: Path) -> list[str] | None:
    """The names of the weights in a torch file: those in a checkpoint's best state, or else all of the file."""
    package = read_package(path)
    if isinstance(package, dict) and isinstance(package.get("best_state"), dict):
        package = package["best_state"]
    return [name for name in package if isinstance(name, str)] if isinstance(package, dict) else None


def _lacking_text(lacking: Collection[str], needed: Collection[str], parts: Mapping[str, str]) -> str:
    """The missing weights of a model in words: whole parts, then other weights by name."""
    texts = []
    for prefix, part in parts.items():
        of_part = [name for name in needed if name.startswith(prefix)]
        gone = sorted(name for name in lacking if name.startswith(prefix))
        if of_part and len(gone) == len(of_part):
            texts.append(f"the whole {part} ({prefix}*)")
            lacking = [name for name in lacking if not name.startswith(prefix)]
    some = sorted(lacking)
    if len(some) == len(needed):
        return "all of the model's weights"
    return " and ".join([*texts, *([f"{_counted(some)}: {_some(some)}"] if some else [])])


def _counted(names: Collection[str]) -> str:
    return f"{len(names)} weight{'s' if len(names) > 1 else ''}"


def _some(names: Collection[str]) -> str:
    shown = list(names)[:_SHOWN]
    more = len(names) - len(shown)
    return ", ".join(shown) + (f" and {more} more" if more else "")
