"""Which layer's residual stream a hook's name means, and which names do not mean a residual stream.

Conventions. A hook is the residual stream after a layer (0-based). TransformerLens' `blocks.5.hook_resid_pre` is the
input of layer 5, so it is the residual stream after layer 4. A name that gives only a layer ("hook_layers.11",
"transformer.layers.11") means the output of that layer.
"""

import re
from collections.abc import Mapping
from typing import Any

_RESIDUAL = "valid: a residual stream, such as blocks.N.hook_resid_post, blocks.N.hook_resid_pre or a layer's name"
_BEFORE = re.compile(r"(hook_)?resid_pre")
# Names of a layer's parts in TransformerLens, transformers and audiocraft, and of other hooks in TransformerLens.
_INSIDE = re.compile(
    r".*(attn|attention|mlp|norm|feed_forward).*|ln_?\w*|fc\d|linear\d|ffn?\d?|\w+_proj|[qkvz]|(hook_)?resid_mid|"
    r"hook_(?!resid_(pre|post)$).*"
)
_OUTSIDE = re.compile(r"(hook_)?(pos_)?emb(ed\w*)?|lm_heads?|linears|unembed|.*norm.*|ln_\w+")


def hook_layer(about: Mapping[str, Any]) -> Any:
    """The layer after which an SAE's hook is, from SAELens' description.

    It is `hook_layer`, or else the number in `hook_name` ("hook_layers.11"); None if both are missing. It is one less
    if `hook_name` means the input of a layer.
    """
    name, layer = about.get("hook_name"), about.get("hook_layer")
    number = layer if layer is not None else numbered_layer(name)
    return number - 1 if type(number) is int and is_before(name) else number


def numbered_layer(name: Any) -> int | None:
    """The number in a hook's name; None if there is none or more than one."""
    numbers = [int(part) for part in _parts(name) if part.isdigit()]
    return numbers[0] if len(numbers) == 1 else None


def is_before(name: Any) -> bool:
    """Whether a hook's name means the input of a layer, which is the residual stream after the layer below."""
    return any(map(_BEFORE.fullmatch, _parts(name)))


def before_text(name: Any) -> str:
    """What such a name means, in words; "" for any other name."""
    number = numbered_layer(name)
    return f" ({name} is the input of layer {number}, so the output of the layer below)" if is_before(name) else ""


def hook_problem(name: Any) -> str | None:
    """Why a hook's name cannot mean a residual stream after a layer; None if it can."""
    parts = _parts(name)
    at = next((i for i, part in enumerate(parts) if part.isdigit()), len(parts))
    if is_before(name) and numbered_layer(name) == 0:
        return f"hook_name is {name!r}, the input embedding, which is not the output of a layer; {_RESIDUAL}"
    if any(map(_INSIDE.fullmatch, parts[at + 1 :])) or any(map(_OUTSIDE.fullmatch, parts[:at])):
        return f"hook_name is {name!r}, which is not a residual stream; {_RESIDUAL}"
    return None


def _parts(name: Any) -> list[str]:
    return name.split(".") if isinstance(name, str) else []
