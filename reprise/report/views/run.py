"""What was run? Model, SAEs, seeds, versions, settings, times."""

from collections.abc import Mapping
from typing import Any

from reprise.report.numbers import NEVER_DATA, is_number, seconds_text
from reprise.report.results import Results
from reprise.report.views.declarations import KNOWN


def run_view(study: Results) -> dict[str, Any]:
    """What was run: model, SAEs, seeds, versions, settings, times."""
    model, verdict = study.model, study.verdict
    declared = verdict.get("preregistration") or {}
    duration_s = study.settings["generation"]["duration_s"]
    codebooks = f"{model['n_codebooks']} codebooks of {model['codebook_size']}"
    seeds = ", ".join(map(str, verdict["seeds"]))
    sound = f"{model['sample_rate_hz']} Hz, {model['frame_rate_hz']:g} positions per second"
    model_facts = [
        ("model", model["name"]),
        ("weights", model["weights_digest"]),
        ("size", f"{model['n_layers']} layers of width {model['d_model']}; {codebooks}"),
        ("sound", f"{sound}, clips of {duration_s:g} s"),
        (
            "clips",
            f"{len(study.clip_summaries)}" + (f", seeds {seeds}" if study.settings["source"] != "audio" else ""),
        ),
        *(
            (f"SAE, layer {c['hook_layer']}", f"{c.get('sae', '')} {c.get('sae_digest', '')}".strip())
            for c in study.certificates
        ),
    ]
    if declared.get("digest"):
        model_facts.append(("declared settings", declared["digest"]))
    for nth, entry in enumerate(declared.get("declarations", []), start=1):
        changed = f"; changed: {', '.join(entry['changed'])}" if entry["changed"] else ""
        model_facts.append((f"declaration {nth}", f"{KNOWN[entry['known']]}{changed}"))
    model_facts.append(("versions", ", ".join(f"{k} {v}" for k, v in sorted(verdict.get("versions", {}).items()))))
    stages = [
        {
            "stage": s.stage.replace("_", " "),
            "jobs": int(s.jobs),
            "time": seconds_text(s.seconds),
            "peak": f"{s.peak_mb:.0f} MB" if is_number(s.peak_mb) else NEVER_DATA,
        }
        for s in study.stages.itertuples()
    ]
    return {
        "facts": model_facts,
        "stages": stages,
        "total": seconds_text(float(study.stages["seconds"].sum())) if stages else "",
        "settings": flat_settings(study.settings),
    }


def flat_settings(settings: Mapping[str, Any], prefix: str = "") -> list[tuple[str, str]]:
    """(dotted name, value) of every leaf."""
    out: list[tuple[str, str]] = []
    for key, value in settings.items():
        if isinstance(value, Mapping):
            out += flat_settings(value, f"{prefix}{key}.")
        else:
            text = (", ".join(map(str, value)) or "none") if isinstance(value, list | tuple) else str(value)
            out.append((f"{prefix}{key}", text))
    return out
