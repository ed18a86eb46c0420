"""The alignment certificate: does this SAE belong to the activations it is to encode?

An SAE fed with the activations of another layer, model or file form still gives codes, and plausible ones. So
before anything is encoded, two things are asked. What the SAE says of itself (hook, width, model, context) must agree
with what was captured. And it must reconstruct the activations of its hook: well enough, sharply better than those of
the hooks around it, with no more active features than its k. `reconstruction_metrics` measures one hook; `certify`
judges; by position it also says where in a clip even a certified SAE does not reconstruct well enough.

The hooks around layer L are the outputs of layers L - 2, L - 1 and L + 1 (so that inputs and outputs of L - 1, L and
L + 1 are among them), and all of these and L itself as the next layer's first norm makes them. An SAE that normalises
its input can't tell the last ones from the others, and they are left out.

Units. FVU, the fraction of variance unexplained: sum |x - x_hat|^2 / sum |x - mean|^2, the mean over all vectors
given; 0 perfect, 1 no better than the mean, above 1 worse. Its parts by position share that mean, so that the whole
is their average weighted by variance. `l0`: features active at a position. `dead_share`: share of features that were
never active. `cosine`: mean cosine of x and x_hat. Sums are float64 and streamed: memory does not grow with clips.

Degenerate input: vectors that are all equal have no variance, FVU is NaN, and `certify` refuses; a position bin
without variance has FVU NaN and is not passed; no vectors at all are an error. A zero vector has cosine 0.
"""

import math
from collections.abc import Iterable, Mapping, Sequence
from itertools import pairwise
from typing import Any, NamedTuple

import numpy as np
import torch

from reprise.sae import Sae, decode, encode
from reprise.sae_forms import before_text

ROWS_AT_ONCE = 4096


class Hook(NamedTuple):
    """Where activations are taken: after layer `layer` (-1: the input embedding), as they are or, `normed`, as the
    next layer's first norm makes them."""

    layer: int
    normed: bool

    @property
    def text(self) -> str:
        where = f"layer {self.layer}" if self.layer >= 0 else "the input embedding"
        return f"{where}, normed," if self.normed else where


@torch.no_grad()
def reconstruction_metrics(
    sae: Sae, batches: Iterable[np.ndarray | torch.Tensor], *, position_edges: Sequence[int] = ()
) -> dict[str, Any]:
    """How well `sae` reconstructs activations, read batch by batch.

    batches: arrays `[clip, position, d_in]`, any float dtype, all with the same positions. position_edges: inner bin
    edges, rising: (100, 200) makes bins 0-99, 100-199 and 200 to the end.
    Returns `fvu`, `l0`, `l0_max`, `dead_share`, `cosine`, `n_vectors` and `bins`: a list of `start`, `stop`
    (positions), `fvu`, `l0`. Raises SaeError for a wrong width or a value that is not finite, ValueError for another
    shape, edges that do not rise, and no vectors.
    """
    edges = [0, *position_edges]
    if any(b <= a for a, b in pairwise(edges)):
        raise ValueError(f"position_edges: {list(position_edges)} must rise from 1 on")
    n_bins, device = len(edges), sae.W_dec.device
    # By bin: vectors, sum of x - b_dec, of its square, of the squared residual, of L0. Taking b_dec off first keeps
    # the sums of squares near the variance, where a large common offset would drown it.
    n, square, residual, active = (torch.zeros(n_bins, dtype=torch.float64, device=device) for _ in range(4))
    total = torch.zeros(n_bins, sae.d_in, dtype=torch.float64, device=device)
    fired = torch.zeros(sae.d_sae, dtype=torch.bool, device=device)
    cosine, l0_max, n_positions = 0.0, 0, 0
    for batch in batches:
        acts = torch.as_tensor(batch)
        if acts.ndim != 3:
            raise ValueError(f"batches: an array of shape {tuple(acts.shape)}; valid: [clip, position, d_in]")
        n_positions = max(n_positions, acts.shape[1])
        bin_of = torch.bucketize(torch.arange(acts.shape[1]), torch.tensor(edges[1:]), right=True)
        bin_of = bin_of.repeat(acts.shape[0]).to(device)
        for x, b in zip(acts.reshape(-1, acts.shape[-1]).split(ROWS_AT_ONCE), bin_of.split(ROWS_AT_ONCE), strict=True):
            x = x.to(device, torch.float32)
            values, indices = encode(sae, x)
            guess = decode(sae, values, indices, x)
            l0 = (values > 0).sum(dim=-1)
            offset = (x - sae.b_dec).double()
            n.index_add_(0, b, torch.ones_like(b, dtype=torch.float64))
            total.index_add_(0, b, offset)
            square.index_add_(0, b, offset.square().sum(dim=-1))
            residual.index_add_(0, b, (x - guess).double().square().sum(dim=-1))
            active.index_add_(0, b, l0.double())
            fired[indices[values > 0].long()] = True
            cosine += float(torch.nn.functional.cosine_similarity(x, guess, dim=-1).double().sum())
            l0_max = max(l0_max, int(l0.max()))
    n_vectors = int(n.sum())
    if n_vectors == 0:
        raise ValueError("batches: no activations; valid: at least one vector")
    mean = total.sum(dim=0) / n_vectors
    variance = square - 2 * total @ mean + n * mean.square().sum()
    # Rounding leaves a little variance in vectors that are all equal.
    variance = torch.where(variance > 1e-12 * square, variance, 0.0)
    fvu, l0 = residual / variance, active / n
    fvu[variance == 0] = torch.nan
    stops = [min(stop, n_positions) for stop in [*edges[1:], n_positions]]
    return {
        "fvu": float(residual.sum() / variance.sum()) if variance.sum() > 0 else math.nan,
        "l0": float(active.sum() / n_vectors),
        "l0_max": l0_max,
        "dead_share": float((~fired).double().mean()),
        "cosine": cosine / n_vectors,
        "n_vectors": n_vectors,
        "bins": [
            {"start": edges[i], "stop": stops[i], "fvu": float(fvu[i]), "l0": float(l0[i])}
            for i in range(n_bins)
            if n[i] > 0
        ],
    }


def certify(
    declared: Mapping[str, Any],
    expected: Mapping[str, Any],
    metrics: Mapping[Hook, Mapping[str, Any]],
    *,
    max_fvu: float,
    min_neighbour_ratio: float,
    unconditional: Mapping[str, Any] | None = None,
    not_measured: str = "",
) -> dict[str, Any]:
    """Judge whether an SAE belongs to a hook. Never raises for a misfit: a refusal is a result.

    declared: `Sae.declared`. expected: what was captured, `hook_layer`, `d_model`, `frame_rate_hz`, and, where known,
    `model_name`, `model_digest`, `n_positions`. metrics: `reconstruction_metrics` at the hook and at others around it;
    may be empty when the widths differ, or for the reason `not_measured`. max_fvu: bound at the hook.
    min_neighbour_ratio: by what factor the FVU at every other hook must exceed that at this one. unconditional:
    `reconstruction_metrics` at the hook in rows without a prompt, which guidance runs beside the others.

    Returns `passed`, `reason` ("" or all failures, in words), `failures` (their names, in the order tested: hook,
    width, model, measured, l0, best_hook, fvu), `agreements` (`hook`, `width`, `model`, `context`: true, false, or
    null where one side does not say), `hook_layer`, `better_hook` (`layer` and `normed` of the hook with the least
    FVU, when it is another one), `hooks` (`layer`, `normed`, `fvu`, `l0`, `dead_share`, `cosine` of each measured),
    `neighbour_ratio` (the least other FVU over the hook's; null without others), `declared`, the metrics at the hook
    (null if not measured), and `bins`, each with `start_s`, `stop_s`, `passed` (FVU within max_fvu) and `in_context`
    (null if not declared). `context` false does not refuse by itself: those positions must earn it by their FVU.
    Neither does a poor `unconditional` (the same metrics, with `passed`; null if not measured): nothing is encoded
    there.
    """
    own = Hook(expected["hook_layer"], normed=False)
    at_hook = metrics.get(own)
    finite = {hook: m["fvu"] for hook, m in metrics.items() if math.isfinite(m["fvu"])}
    best = min(finite, key=lambda hook: (finite[hook], hook), default=None)
    better = best if best is not None and best != own else None
    others = {hook: fvu for hook, fvu in finite.items() if hook != own}
    ratio = min(others.values()) / finite[own] if others and finite.get(own) else None
    context, n_positions = declared.get("context_size"), expected.get("n_positions")
    agreements = {
        **_agreements(declared, expected),
        "context": None if context is None or n_positions is None else n_positions <= context,
    }

    failures = disagreements(declared, expected)
    if at_hook is None:
        failures["measured"] = not_measured or f"nothing was measured at layer {own.layer}"
    elif not math.isfinite(at_hook["fvu"]):
        failures["measured"] = (
            f"the activations of layer {own.layer} have no variance, so nothing can be reconstructed"
        )
    elif not others:
        failures["measured"] = f"no hook beside layer {own.layer} was measured, so it cannot be called the best"
    else:
        k = declared.get("k")
        if k is not None and at_hook["l0_max"] > k:
            failures["l0"] = (
                f"up to {at_hook['l0_max']} features are active at a position (mean {at_hook['l0']:.1f}), "
                f"the SAE declares k = {k}: it was not loaded as a top-k SAE"
            )
        if better is not None:
            failures["best_hook"] = (
                f"{better.text} is the better hook: FVU {finite[better]:.3f} there, {at_hook['fvu']:.3f} at {own.text}"
            )
        elif ratio is not None and ratio < min_neighbour_ratio:
            close = min(others, key=lambda hook: (others[hook], hook))
            failures["best_hook"] = (
                f"{own.text} is not sharply the best hook: FVU {at_hook['fvu']:.3f} there, {finite[close]:.3f} at "
                f"{close.text}, {ratio:.2f} times as much; at least {min_neighbour_ratio:g} times is asked for"
            )
        if at_hook["fvu"] > max_fvu:
            failures["fvu"] = f"FVU at {own.text} is {at_hook['fvu']:.3f}; at most {max_fvu:g} is asked for"

    return {
        "passed": not failures,
        "reason": "; ".join(failures.values()),
        "failures": list(failures),
        "hook_layer": own.layer,
        "better_hook": better and better._asdict(),
        "agreements": agreements,
        "declared": dict(declared),
        "hooks": [
            {**hook._asdict(), **{name: m[name] for name in ("fvu", "l0", "dead_share", "cosine")}}
            for hook, m in sorted(metrics.items())
        ],
        "neighbour_ratio": ratio,
        **{name: (at_hook or {}).get(name) for name in _METRICS},
        "unconditional": unconditional
        and {name: unconditional[name] for name in _METRICS} | {"passed": unconditional["fvu"] <= max_fvu},
        "bins": [
            {
                **b,
                "start_s": b["start"] / expected["frame_rate_hz"],
                "stop_s": b["stop"] / expected["frame_rate_hz"],
                "passed": b["fvu"] <= max_fvu,  # False for NaN too
                "in_context": None if context is None else b["stop"] <= context,
            }
            for b in (at_hook or {}).get("bins", [])
        ],
    }


def disagreements(declared: Mapping[str, Any], expected: Mapping[str, Any]) -> dict[str, str]:
    """Where an SAE says of itself that it is of something else: `hook`, `width`, `model`, each with a text.

    Arguments as in `certify`; what one side does not say is no disagreement.
    """
    agreements, failures = _agreements(declared, expected), {}
    if agreements["hook"] is False:
        failures["hook"] = (
            f"the SAE declares hook layer {declared['hook_layer']}{before_text(declared.get('hook_name'))}, the "
            f"activations are of layer {expected['hook_layer']}"
        )
    if agreements["width"] is False:
        failures["width"] = f"the SAE declares d_in {declared.get('d_in')}, the model's width is {expected['d_model']}"
    if agreements["model"] is False:
        names = [_model_text(side) for side in (declared, expected)]
        failures["model"] = f"the SAE was trained on {names[0]}, the activations are of {names[1]}"
    return failures


_METRICS = ("fvu", "l0", "l0_max", "dead_share", "cosine", "n_vectors")


def _agreements(declared: Mapping[str, Any], expected: Mapping[str, Any]) -> dict[str, bool | None]:
    return {
        "hook": _agree(declared.get("hook_layer"), expected.get("hook_layer")),
        "width": _agree(declared.get("d_in"), expected.get("d_model")),
        "model": _model_agrees(declared, expected),
    }


def _agree(declared: Any, expected: Any) -> bool | None:
    return None if declared is None or expected is None else declared == expected


def _model_agrees(declared: Mapping[str, Any], expected: Mapping[str, Any]) -> bool | None:
    """By the weights' digest where both sides have one, for a directory may have any name; else by name."""
    by_digest = _agree(declared.get("model_digest"), expected.get("model_digest"))
    return by_digest if by_digest is not None else _agree(declared.get("model_name"), expected.get("model_name"))


def _model_text(side: Mapping[str, Any]) -> str:
    digest = side.get("model_digest")
    return f"model {side.get('model_name') or 'of unknown name'}" + (f" (weights {digest})" if digest else "")
