"""The alignment certificate: does this SAE belong to the activations it is to encode?

An SAE fed with the activations of another layer, model or file form still gives latents, and plausible ones. So
before anything is encoded, two things are asked. What the SAE says of itself (hook, width, model, context) must agree
with what was captured. And it must reconstruct the activations of its hook: well enough, sharply better than those of
the hooks around it, with no more active features than its k. That is measured once (reprise/saes/reconstruction.py,
reprise/saes/measurement.py); `certify` judges, by bounds that may change; by position it also says where in a clip
even a certified SAE does not reconstruct well enough. `require_passed` refuses to go on without a certificate.

The hooks around layer L are the outputs of layers L - 2, L - 1 and L + 1 (so that inputs and outputs of L - 1, L and
L + 1 are among them), and all of these and L itself as the next layer's first norm makes them. An SAE that normalises
its input can't tell the last ones from the others, and they are left out.

Degenerate input: activations without variance have an FVU of NaN, and `certify` refuses; a position bin without
variance is not passed.

What reads certificates imports this, so it imports nothing heavy.
"""

import math
from collections.abc import Mapping
from typing import Any

from reprise.saes.errors import SaeError
from reprise.saes.hooks import before_text
from reprise.saes.measurement import Hook, Measurement


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
    FVU, when it is another one), `hooks` (`layer`, `normed`, `fvu`, `l0`, `dead_fraction`, `cosine` of each measured),
    `neighbour_ratio` (the least other FVU over the hook's; null without others), `declared`, the metrics at the hook
    (null if not measured), and `bins`, each with `start_s`, `stop_s`, `passed` (FVU within max_fvu) and `in_context`
    (null if not declared). `context` false does not refuse by itself: those positions must earn it by their FVU.
    Neither does a poor `unconditional` (the same metrics, with `passed`; null if not measured): nothing is encoded
    there.
    """
    own = Hook(expected["hook_layer"], normed=False)
    at_hook = metrics.get(own)
    _, better, ratio = _compared(metrics, own)
    context, n_positions = declared.get("context_size"), expected.get("n_positions")
    agreements = {
        **_agreements(declared, expected),
        "context": None if context is None or n_positions is None else n_positions <= context,
    }
    failures = disagreements(declared, expected)
    failures |= _bad_measures(
        metrics,
        own,
        k=declared.get("k"),
        max_fvu=max_fvu,
        min_neighbour_ratio=min_neighbour_ratio,
        not_measured=not_measured,
    )
    return {
        "passed": not failures,
        "reason": "; ".join(failures.values()),
        "failures": list(failures),
        "hook_layer": own.layer,
        "better_hook": better and better._asdict(),
        "agreements": agreements,
        "declared": dict(declared),
        "hooks": [
            {**hook._asdict(), **{name: m[name] for name in ("fvu", "l0", "dead_fraction", "cosine")}}
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


def _compared(
    metrics: Mapping[Hook, Mapping[str, Any]], own: Hook
) -> tuple[dict[Hook, float], Hook | None, float | None]:
    """The FVU of each hook where it is finite; the hook with the least, when it is another than `own`; and the least
    other FVU over that of `own`, None where either is not known."""
    finite = {hook: m["fvu"] for hook, m in metrics.items() if math.isfinite(m["fvu"])}
    best = min(finite, key=lambda hook: (finite[hook], hook), default=None)
    others = [fvu for hook, fvu in finite.items() if hook != own]
    ratio = min(others) / finite[own] if others and finite.get(own) else None
    return finite, best if best is not None and best != own else None, ratio


def _bad_measures(
    metrics: Mapping[Hook, Mapping[str, Any]],
    own: Hook,
    *,
    k: int | None,
    max_fvu: float,
    min_neighbour_ratio: float,
    not_measured: str,
) -> dict[str, str]:
    """What of the metrics refuses an SAE, by name and in words: measured, l0, best_hook, fvu."""
    at_hook = metrics.get(own)
    finite, better, ratio = _compared(metrics, own)
    others = {hook: fvu for hook, fvu in finite.items() if hook != own}
    if at_hook is None:
        return {"measured": not_measured or f"nothing was measured at layer {own.layer}"}
    if not math.isfinite(at_hook["fvu"]):
        text = f"the activations of layer {own.layer} have no variance, so nothing can be reconstructed"
        return {"measured": text}
    if not others:
        return {"measured": f"no hook beside layer {own.layer} was measured, so it cannot be called the best"}
    failures = {}
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
    return failures


def judge(measurement: Measurement, bounds: Mapping[str, Any]) -> dict[str, Any]:
    """The certificate of what was measured: the record of `certify`, with what it was measured on.

    bounds: the settings `certificate`, of which `max_fvu` and `min_neighbour_ratio` judge; all are kept as `settings`.
    """
    record = certify(
        measurement.declared,
        measurement.expected,
        measurement.metrics,
        max_fvu=bounds["max_fvu"],
        min_neighbour_ratio=bounds["min_neighbour_ratio"],
        unconditional=measurement.unconditional,
        not_measured=measurement.not_measured,
    )
    kept = ("sae", "sae_digest", "n_clips", "n_silent", "all_silent", "trained_here")
    return record | {name: getattr(measurement, name) for name in kept} | {"settings": dict(bounds)}


def require_passed(certificate: Mapping[str, Any], *, see: str) -> None:
    """Raise SaeError where an SAE has no certificate: nothing is encoded with it, and latents that were made under
    other bounds are not used.

    Where nothing is to be heard in any clip this raises nothing: no clip is usable, whatever its latents, and the
    verdict says so. see: the file that says more.
    """
    unheard = bool(certificate["n_silent"]) and certificate["failures"] == ["measured"]
    if certificate["passed"] or (unheard and certificate["all_silent"]):
        return
    valid = (
        "the SAE of this layer, one that is trained here (saes: train), or bounds in `certificate` under which it may "
        "pass, which the report then shows"
    )
    if unheard:
        valid = "a larger certificate.n_clips, so that some are heard, or settings under which the model plays"
    raise SaeError(
        f"{certificate['sae']} has no certificate for layer {certificate['hook_layer']}, so nothing is encoded with "
        f"it and no latents of it are used: {certificate['reason']} (see {see}); valid: {valid}"
    )


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


_METRICS = ("fvu", "l0", "l0_max", "dead_fraction", "cosine", "n_vectors")


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
