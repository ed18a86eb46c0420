"""Which file forms of an SAE there are, by the files that a folder holds. Nothing heavy is imported here: the
Snakefile asks this at every parse. They are read in reprise/sae_files.py."""

import json
from pathlib import Path

# Name of the form: what describes the SAE, and its weights.
SAE_FORMS = {
    "SAELens": ("cfg.json", "sae_weights.safetensors"),
    "sparsify": ("cfg.json", "sae.safetensors"),
    "dictionary_learning": ("config.json", "ae.pt"),
    "DC-SAE": ("model.json", "model.safetensors"),
}
# What SAELens may put beside them.
SCALER_FILE = "activation_scaler.json"


def sae_form(folder: Path) -> str | None:
    """The form of the SAE in a folder, or None where the files of none are there."""
    return next((form for form, files in SAE_FORMS.items() if all((folder / file).is_file() for file in files)), None)


def said_layer(folder: Path) -> int | None:
    """The layer that an SAE says it is of, as far as a look at its description tells."""
    try:
        cfg = json.loads((folder / SAE_FORMS["SAELens"][0]).read_text(encoding="utf-8"))
        layer = {**cfg, **(cfg.get("metadata") or {})}.get("hook_layer")
    except (OSError, ValueError, TypeError, AttributeError):
        return None
    return layer if type(layer) is int else None


def missing_files(folder: Path) -> str:
    """What a folder lacks, in words."""
    known = sorted({file for files in SAE_FORMS.values() for file in files})
    found = [file for file in known if (folder / file).is_file()]
    valid = "; ".join(f"{form}: {' and '.join(files)}" for form, files in SAE_FORMS.items())
    return f"has {'only ' + ', '.join(found) if found else 'no file of an SAE'}; valid: {valid}"
