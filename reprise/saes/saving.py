"""Save an SAE as SAELens 6 does."""

from pathlib import Path
from typing import Any

from safetensors.torch import save_file

from reprise.saes.errors import SaeError
from reprise.saes.formats.saelens import ARCHITECTURES, FORMAT, weight_names
from reprise.saes.formats.tensors import DTYPES
from reprise.saes.sae import Sae
from reprise.storage.files import write_json

SAELENS_VERSION = "6.54.12"  # whose form `save_saelens_v6` writes


def save_saelens_v6(folder: Path, sae: Sae, *, metadata: dict[str, Any], dtype: str = "float32") -> None:
    """Write `cfg.json` and `sae_weights.safetensors` as SAELens 6 does; `dtype` is one of `DTYPES`.

    `metadata` should say `hook_name`, `hook_layer`, `model_name`, `model_digest` and `context_size`. Raises SaeError
    for features in groups, which SAELens does not know.
    """
    if dtype not in DTYPES:
        raise SaeError(f"dtype: {dtype!r} is unknown; valid: {', '.join(DTYPES)}")
    if sae.n_groups > 1:
        raise SaeError(f"sae: its features form {sae.n_groups} groups; SAELens has no such form")
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    architectures = {activation: name for name, activation in ARCHITECTURES.items()}
    cfg = {
        "architecture": architectures[sae.activation],
        "d_in": sae.d_in,
        "d_sae": sae.d_sae,
        "dtype": dtype,
        "device": "cpu",
        "apply_b_dec_to_input": sae.apply_b_dec_to_input,
        "normalize_activations": sae.normalize_activations,
        "reshape_activations": "none",
        # Without a version of 6 or more SAELens takes the file for its older form.
        "metadata": {"sae_lens_version": SAELENS_VERSION, "sae_lens_training_version": None, **metadata},
    }
    if sae.k is not None:
        cfg |= {"k": sae.k, "rescale_acts_by_decoder_norm": False}
    kept = {ours: getattr(sae, ours) for ours in weight_names(sae.activation)}
    partial = folder / ".sae_weights.safetensors.partial"
    names = weight_names(sae.activation)
    save_file({names[n]: w.to("cpu", DTYPES[dtype]).contiguous() for n, w in kept.items()}, partial)
    partial.replace(folder / FORMAT.weights)
    write_json(folder / FORMAT.description, cfg)
