"""Which file forms of an SAE there are, by the files that a folder holds, and what its description says of the hook:
whether it is a residual stream, and of which layer. Nothing heavy is imported here: the Snakefile asks this at every
parse. They are read in reprise/saes/files.py.

Conventions. A hook is the residual stream after a layer (0-based). What TransformerLens calls
`blocks.5.hook_resid_pre` comes into layer 5, so it is that of layer 4. A name that says no more than a layer
("hook_layers.11", "transformer.layers.11") means its output.
"""

import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

# Name of the form: what describes the SAE, and its weights.
SAE_FORMS = {
    "SAELens": ("cfg.json", "sae_weights.safetensors"),
    "sparsify": ("cfg.json", "sae.safetensors"),
    "dictionary_learning": ("config.json", "ae.pt"),
    "DC-SAE": ("model.json", "model.safetensors"),
}
# What SAELens may put beside them.
SCALER_FILE = "activation_scaler.json"
# Fields that SAELens 6 writes of an SAE in training, and not of one that is saved for use.
_TRAINING_FIELDS = {
    "decoder_init_norm",
    "l1_warm_up_steps",
    "l0_coefficient",
    "l0_warm_up_steps",
    "pre_act_loss_coefficient",
    "jumprelu_sparsity_loss_mode",
    "aux_loss_coefficient",
    "use_sparse_activations",
    "topk_threshold_lr",
    "matryoshka_widths",
}
_TRAINING_ARCHITECTURES = ("batchtopk", "matryoshka_batchtopk")
_RESIDUAL = "valid: a residual stream, as blocks.N.hook_resid_post, blocks.N.hook_resid_pre or the name of a layer"
_TRANSCODER = "a transcoder reconstructs another hook than it reads; valid: an SAE of a residual stream"
_BEFORE = re.compile(r"(hook_)?resid_pre")
# Parts of a layer, by what TransformerLens, transformers and audiocraft call them, and other hooks of TransformerLens.
_INSIDE = re.compile(
    r".*(attn|attention|mlp|norm|feed_forward).*|ln_?\w*|fc\d|linear\d|ffn?\d?|\w+_proj|[qkvz]|(hook_)?resid_mid|"
    r"hook_(?!resid_(pre|post)$).*"
)
_OUTSIDE = re.compile(r"(hook_)?(pos_)?emb(ed\w*)?|lm_heads?|linears|unembed|.*norm.*|ln_\w+")


def sae_form(folder: Path) -> str | None:
    """The form of the SAE in a folder, or None where the files of none are there."""
    return next((form for form, files in SAE_FORMS.items() if all((folder / file).is_file() for file in files)), None)


def said_layer(folder: Path) -> tuple[int | None, str]:
    """The layer that an SAE says it is of, as far as a look at its description tells, and in words why, where that is
    not the number that it says."""
    about = _about(_description(folder, "SAELens"))
    layer = hook_layer(about)
    return (layer, before_text(about.get("hook_name"))) if type(layer) is int else (None, "")


def hook_layer(about: Mapping[str, Any]) -> Any:
    """The layer after which an SAE's hook is, by `hook_name` ("hook_layers.11") or else `hook_layer` of SAELens'
    description; None where neither says."""
    name, layer = about.get("hook_name"), about.get("hook_layer")
    number = layer if layer is not None else numbered_layer(name)
    return number - 1 if type(number) is int and is_before(name) else number


def numbered_layer(name: Any) -> int | None:
    """The one number in a hook's name; None where there is none, or more."""
    numbers = [int(part) for part in _parts(name) if part.isdigit()]
    return numbers[0] if len(numbers) == 1 else None


def is_before(name: Any) -> bool:
    """Whether a hook's name means what comes into a layer, which is the residual stream of the one below."""
    return any(map(_BEFORE.fullmatch, _parts(name)))


def before_text(name: Any) -> str:
    """In words what such a name means; "" for any other."""
    number = numbered_layer(name)
    return f" ({name} is what comes into layer {number}, so the output of the layer below)" if is_before(name) else ""


def hook_problem(name: Any) -> str | None:
    """Why a hook's name is none of a residual stream after a layer; None where it may be."""
    parts = _parts(name)
    at = next((i for i, part in enumerate(parts) if part.isdigit()), len(parts))
    if is_before(name) and numbered_layer(name) == 0:
        return f"hook_name is {name!r}, the input embedding, which is no layer's output; {_RESIDUAL}"
    if any(map(_INSIDE.fullmatch, parts[at + 1 :])) or any(map(_OUTSIDE.fullmatch, parts[:at])):
        return f"hook_name is {name!r}, which is no residual stream; {_RESIDUAL}"
    return None


def description_problem(folder: Path) -> str | None:
    """Why an SAE is of a kind that can't be used, by what its description says: the file and what is wrong. It was
    saved in the course of its training, is a transcoder, or its hook is no residual stream. None: nothing shows."""
    form = sae_form(folder)
    cfg = _description(folder, form)
    problem = _PROBLEMS[form](cfg, folder) if form in _PROBLEMS else None
    return problem and f"{SAE_FORMS[str(form)][0]}: {problem}"


def _saelens_problem(cfg: Mapping[str, Any], folder: Path) -> str | None:
    about, architecture = _about(cfg), cfg.get("architecture")
    if "transcoder" in str(architecture):
        return f"architecture is {architecture!r}: {_TRANSCODER}"
    for out, of in (("hook_name_out", "hook_name"), ("hook_layer_out", "hook_layer"), ("d_out", "d_in")):
        if about.get(out) not in (None, "", about.get(of)):
            return f"{out} is {about[out]!r}, and {of} {about.get(of)!r}: {_TRANSCODER}"
    training = sorted(_TRAINING_FIELDS & cfg.keys())
    if training or architecture in _TRAINING_ARCHITECTURES:
        said = f"{', '.join(training)} say" if training else f"architecture {architecture!r} says"
        return f"{said} that SAELens saved it for its training (save_model); {_for_use(cfg, folder)}"
    return hook_problem(about.get("hook_name"))


def _for_use(cfg: Mapping[str, Any], folder: Path) -> str:
    """How an SAE of a training is saved for use, as a command. The factor that activations were multiplied by lies
    beside the weights, and is not in what is saved unless it is folded in."""
    scaler, folded = folder / SCALER_FILE, ""
    if cfg.get("normalize_activations") == "expected_average_only_in":
        factor = f"json.load(open({str(scaler)!r}))['scaling_factor']"
        folded = f"sae.fold_activation_norm_scaling_factor({factor}); "
    program = (
        "import json, reprise.models.library_setup; from sae_lens import TrainingSAE; "
        f"sae = TrainingSAE.load_from_disk({str(folder)!r}); {folded}"
        f"sae.save_inference_model({f'{folder.name}-for-use'!r})"
    )
    lacking = f", with {SCALER_FILE} of the training beside it" if folded and not scaler.is_file() else ""
    return f'valid: what python -c "{program}" writes{lacking}'


def _sparsify_problem(cfg: Mapping[str, Any], folder: Path) -> str | None:
    field = next((field for field in ("transcode", "skip_connection") if cfg.get(field)), None)
    return field and f"{field} is {cfg[field]!r}: {_TRANSCODER}"


def _dictionary_problem(cfg: Mapping[str, Any], folder: Path) -> str | None:
    trainer, buffer = (cfg.get(part) if isinstance(cfg.get(part), dict) else {} for part in ("trainer", "buffer"))
    kind, name = str(trainer.get("dict_class")), trainer.get("submodule_name")
    if re.search("transcoder|crosscoder", kind, re.IGNORECASE):
        return f"trainer.dict_class is {kind!r}: {_TRANSCODER}"
    if buffer.get("io") == "in_and_out":
        return f"buffer.io is 'in_and_out': {_TRANSCODER}"
    if re.search("attn|attention|mlp", str(name)):
        return f"trainer.submodule_name is {name!r}, which is no residual stream; valid: one of a residual stream"
    return None


_PROBLEMS = {"SAELens": _saelens_problem, "sparsify": _sparsify_problem, "dictionary_learning": _dictionary_problem}


def _description(folder: Path, form: str | None) -> dict[str, Any]:
    """What describes an SAE of a form; {} where it can't be read."""
    try:
        cfg = json.loads((folder / SAE_FORMS[str(form)][0]).read_text(encoding="utf-8"))
    except (OSError, ValueError, KeyError):
        return {}
    return cfg if isinstance(cfg, dict) else {}


def _about(cfg: Mapping[str, Any]) -> dict[str, Any]:
    """SAELens' description: v5 keeps it beside the maths, v6 under `metadata`."""
    metadata = cfg.get("metadata")
    return {**cfg, **(metadata if isinstance(metadata, dict) else {})}


def _parts(name: Any) -> list[str]:
    return name.split(".") if isinstance(name, str) else []


def missing_files(folder: Path) -> str:
    """What a folder lacks, in words."""
    known = sorted({file for files in SAE_FORMS.values() for file in files})
    found = [file for file in known if (folder / file).is_file()]
    valid = "; ".join(f"{form}: {' and '.join(files)}" for form, files in SAE_FORMS.items())
    return f"has {'only ' + ', '.join(found) if found else 'no file of an SAE'}; valid: {valid}"
