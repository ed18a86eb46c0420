"""Save an SAE in the format of SAELens 6."""

from pathlib import Path
from typing import Any

from safetensors.torch import save_file

from reprise.saes.errors import SaeError
from reprise.saes.formats.saelens import ARCHITECTURES, FORMAT, weight_names
from reprise.saes.formats.tensors import DTYPES
from reprise.saes.sae import Sae
from reprise.storage.files import write_json

SAELENS_VERSION = "6.54.12"  # `save_saelens_v6` writes the format of this version


def save_saelens_v6(folder: Path, sae: Sae, *, metadata: dict[str, Any], dtype: str = "float32") -> None:
    """Write `cfg.json` and `sae_weights.safetensors` in the format of SAELens 6.

    Parameters
    ----------
    folder : Path
        Created if it does not exist.
    sae : Sae
        The SAE.
    metadata : dict
        Should have `hook_name`, `hook_layer`, `model_name`, `model_digest` and `context_size`.
    dtype : str
        Dtype of the weights in the file, one of `DTYPES`.

    Raises
    ------
    SaeError
        For an unknown dtype, and for features in groups, which SAELens does not support.
    """
    if dtype not in DTYPES:
        raise SaeError(f"dtype: {dtype!r} is unknown; valid: {', '.join(DTYPES)}")
    if sae.n_groups > 1:
        raise SaeError(f"sae: n_groups is {sae.n_groups}; valid: 1, as SAELens does not support groups of features")
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
        # If this version is missing or below 6, SAELens reads the file as its older format.
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
