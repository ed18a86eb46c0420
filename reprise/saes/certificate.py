"""The alignment certificate: does this SAE belong to the activations that it will encode?

An SAE also gives plausible latents for the wrong layer or model, or if its file is read in the wrong format. So two
things are checked before anything is encoded:

- What the SAE declares (hook, width, model, context) agrees with what was captured.
- It reconstructs the activations of its hook well enough, clearly better than those of the neighbouring hooks, and
  with no more active features than its k.

Reconstruction is measured separately (reprise/saes/reconstruction.py, reprise/saes/measurement.py). `certify` compares
the measurement with bounds, which may be changed later. It also shows by position where in a clip a certified SAE does
not reconstruct well enough. `require_passed` raises an error if an SAE has no certificate.

The neighbouring hooks of layer L are the outputs of layers L - 2, L - 1 and L + 1. Together with L they are the inputs
and outputs of layers L - 1, L and L + 1. Each of these four is also measured after the first norm of the next layer
(`normed`). An SAE that normalises its input cannot tell the two forms apart, so only the first is measured for it.

Degenerate input: activations without variance have an FVU of NaN, and `certify` refuses the SAE. A position bin
without variance does not pass.

Nothing heavy is imported here, because every module that reads certificates imports this one.
"""

import math
from collections.abc import Mapping
from typing import Any

from reprise.saes.errors import SaeError
from reprise.saes.hook_names import before_text
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
    """Decide whether an SAE belongs to a hook. A refusal is a result: it raises no error.

    An SAE is not refused because `context` is false: positions beyond its context are judged by their FVU. It is also
    not refused for a poor `unconditional`, because nothing is encoded without a prompt.

    Parameters
    ----------
    declared : mapping
        `Sae.declared`.
    expected : mapping
        What was captured: `hook_layer`, `d_model`, `frame_rate_hz` and, if known, `model_name`, `model_digest`,
        `n_positions`.
    metrics : mapping of Hook
        `reconstruction_metrics` at the hook and at its neighbours. May be empty if the widths differ, or if there is
        a reason `not_measured`.
    max_fvu : float
        Largest FVU at the hook.
    min_neighbour_ratio : float
        The FVU at every other hook must be at least this many times the FVU at the hook.
    unconditional : mapping, optional
        `reconstruction_metrics` at the hook without a prompt, as in the second branch of guidance.
    not_measured : str
        Why nothing was measured; "" if no reason is known.

    Returns
    -------
    dict
        - `passed`, and `reason`: all failures in words, "" if there are none.
        - `failures`: their names, in the order tested: hook, width, model, measured, l0, best_hook, fvu.
        - `agreements`: `hook`, `width`, `model`, `context`; true, false, or null if one side does not give a value.
        - `hook_layer`, `declared`.
        - `better_hook`: `layer` and `normed` of the hook with the smallest FVU, if it is another one, else null.
        - `hooks`: `layer`, `normed`, `fvu`, `l0`, `dead_fraction`, `cosine` of each measured hook.
        - `neighbour_ratio`: the smallest FVU of the other hooks divided by that of the hook; null without others.
        - `fvu`, `l0`, `l0_max`, `dead_fraction`, `cosine`, `n_vectors` at the hook, null if not measured.
        - `unconditional`: the same metrics without a prompt, and `passed`; null if not measured.
        - `bins`: those of the metrics, with `start_s` and `stop_s` (seconds), `passed` (FVU at most max_fvu) and
          `in_context` (null if the context is not declared).
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
    """Compare `own` with the other hooks by FVU.

    Returns the finite FVUs by hook; the hook with the smallest FVU, or None if it is `own`; and the smallest FVU of
    the others divided by that of `own`, or None if either is unknown.
    """
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
    """The failures that the metrics show, as texts by name: measured, l0, best_hook, fvu."""
    at_hook = metrics.get(own)
    finite, better, ratio = _compared(metrics, own)
    others = {hook: fvu for hook, fvu in finite.items() if hook != own}
    if at_hook is None:
        return {"measured": not_measured or f"nothing was measured at layer {own.layer}"}
    if not math.isfinite(at_hook["fvu"]):
        text = f"the activations of layer {own.layer} have no variance, so nothing can be reconstructed"
        return {"measured": text}
    if not others:
        return {"measured": f"no hook other than layer {own.layer} was measured, so there is no comparison"}
    failures = {}
    if k is not None and at_hook["l0_max"] > k:
        failures["l0"] = (
            f"up to {at_hook['l0_max']} features are active at a position (mean {at_hook['l0']:.1f}), "
            f"but the SAE declares k = {k}: it was not loaded as a top-k SAE"
        )
    if better is not None:
        failures["best_hook"] = (
            f"{better.text} is the better hook: FVU {finite[better]:.3f} there, {at_hook['fvu']:.3f} at {own.text}"
        )
    elif ratio is not None and ratio < min_neighbour_ratio:
        close = min(others, key=lambda hook: (others[hook], hook))
        failures["best_hook"] = (
            f"{own.text} is not clearly the best hook: FVU {at_hook['fvu']:.3f} there, {finite[close]:.3f} at "
            f"{close.text}, {ratio:.2f} times as much; at least {min_neighbour_ratio:g} times is required"
        )
    if at_hook["fvu"] > max_fvu:
        failures["fvu"] = f"FVU at {own.text} is {at_hook['fvu']:.3f}; at most {max_fvu:g} is allowed"
    return failures


def judge(measurement: Measurement, bounds: Mapping[str, Any]) -> dict[str, Any]:
    """The certificate of a measurement: the record of `certify`, with facts about the SAE and the clips.

    bounds: the settings `certificate`. `max_fvu` and `min_neighbour_ratio` are applied. All are kept as `settings`.
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
    """Raise SaeError if an SAE has no certificate.

    Then nothing is encoded with it, and its latents that were made under other bounds are not used. There is no error
    if all clips of the study are silent: no clip is usable then, whatever its latents, and the verdict says so.
    see: the file with the details, for the message.
    """
    unheard = bool(certificate["n_silent"]) and certificate["failures"] == ["measured"]
    if certificate["passed"] or (unheard and certificate["all_silent"]):
        return
    valid = (
        "the SAE of this layer, one that the study trains (saes: train), or bounds in `certificate` that let it pass "
        "(the report shows them)"
    )
    if unheard:
        valid = (
            "a larger certificate.n_clips, so that some clips are not silent, or settings with which the model makes "
            "sound"
        )
    raise SaeError(
        f"{certificate['sae']} has no certificate for layer {certificate['hook_layer']}, so nothing is encoded with "
        f"it and no latents of it are used: {certificate['reason']} (see {see}); valid: {valid}"
    )


def disagreements(declared: Mapping[str, Any], expected: Mapping[str, Any]) -> dict[str, str]:
    """Where an SAE's declaration differs from what was captured: `hook`, `width`, `model`, each with a text.

    Parameters as in `certify`. A value that one side does not give is no disagreement.
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
    """By the weights' digest if both sides have one, because a directory may have any name; else by name."""
    by_digest = _agree(declared.get("model_digest"), expected.get("model_digest"))
    return by_digest if by_digest is not None else _agree(declared.get("model_name"), expected.get("model_name"))


def _model_text(side: Mapping[str, Any]) -> str:
    digest = side.get("model_digest")
    return f"model {side.get('model_name') or 'of unknown name'}" + (f" (weights {digest})" if digest else "")
