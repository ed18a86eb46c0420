"""Which layer's residual stream a hook's name means, and which names mean no residual stream at all.

Conventions. A hook is the residual stream after a layer (0-based). What TransformerLens calls
`blocks.5.hook_resid_pre` comes into layer 5, so it is that of layer 4. A name that says no more than a layer
("hook_layers.11", "transformer.layers.11") means its output.
"""

import re
from collections.abc import Mapping
from typing import Any

_RESIDUAL = "valid: a residual stream, as blocks.N.hook_resid_post, blocks.N.hook_resid_pre or the name of a layer"
_BEFORE = re.compile(r"(hook_)?resid_pre")
# Parts of a layer, by what TransformerLens, transformers and audiocraft call them, and other hooks of TransformerLens.
_INSIDE = re.compile(
    r".*(attn|attention|mlp|norm|feed_forward).*|ln_?\w*|fc\d|linear\d|ffn?\d?|\w+_proj|[qkvz]|(hook_)?resid_mid|"
    r"hook_(?!resid_(pre|post)$).*"
)
_OUTSIDE = re.compile(r"(hook_)?(pos_)?emb(ed\w*)?|lm_heads?|linears|unembed|.*norm.*|ln_\w+")


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


def _parts(name: Any) -> list[str]:
    return name.split(".") if isinstance(name, str) else []
