"""The report: results in, one self-contained HTML page out.

Conventions. Everything here is a function of what is passed in: no file is read but the template beside this module,
nothing is fetched, and the page holds no date, so equal results give equal bytes. Audio is embedded as FLAC, mono,
16 bit, at most `AUDIO_RATE_HZ`, up to `AUDIO_BYTES` for the whole page; what does not fit is named instead.

Examples are picked by rule, not by ear: see `example_clips`.

Degenerate input: a study without events, candidates or scored probes, and an SAE whose certificate was refused, give
a sentence that says so in the place of the figure. A number that could not be computed (NaN, or null in JSON) is a
dash.
"""

import math
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from markupsafe import Markup

from reprise.config.horizons import horizon_name
from reprise.organisms.truth import GROUND_TRUTH
from reprise.recordings.manifest import Track
from reprise.report.figures import (
    MARKERS,
    NEVER_DATA,
    Axis,
    Row,
    Series,
    Window,
    axis_around,
    clip_figure,
    gate_strip,
    interval,
    interval_plot,
    is_number,
    legend,
    number,
    onset_figure,
    p_text,
    percent,
    seconds_text,
    share_bar,
    xy_plot,
)
from reprise.report.templating import REASONS, Heard, encode_flac, flac_uri, page_template
from reprise.targets.recurrence.matching import Motif, best_match, motif_template
from reprise.verdict.confusion import shares
from reprise.verdict.reasons import count_reasons

AUDIO_BYTES = 8_000_000  # of FLAC in the whole page; base64 makes a third more of it
N_EDITED_CLIPS = 2
N_TAGS = 10
N_LEFT_OUT = 500  # recordings listed as left out; the stores' manifests list all

MEANINGS = {
    "foresight": "Something in the model says far ahead that the motif will return, and taking it out takes the "
    "return away, more than controls that harm the music as much.",
    "entangled": "Something in the model says far ahead that the motif will return, but taking it out does no more to "
    "the return than controls that harm the music as much, or it wrecks the music.",
    "local": "A return can be predicted shortly before it begins, but not further ahead.",
    "correlate": "Something in the model says far ahead that the motif will return, but it was taken out, and that "
    "does not take the return away.",
    "unresolved": "There was too little data, or it was too imprecise, to say whether the model plans its returns.",
    "none": "Nothing that the model learned says far ahead that the motif will return, beyond what position, prompt, "
    "the sound so far, and a memory that random weights have too say already.",
}
NO_EVENTS = "The motif never validly returned, so there was no return to foresee."
MECHANISMS = {
    "stored": "The plan is stored: editing the opening alone keeps {share} of the effect.",
    "recomputed": "The plan is recomputed on the way: editing the opening alone keeps {share} of the effect.",
    "undecided": "Whether the plan is stored or recomputed is open: editing the opening alone keeps {share} of "
    "the effect.",
}
# Title, digits, unit and sense of each gate of reprise.verdict.gates.
GATES = {
    "usable_clips": ("Clips that could be used", 0, "clips", "≥"),
    "events": ("Motifs return", 0, "clips", "≥"),
    "positive_clips": ("Clips with a return", 0, "clips", "≥"),
    "negative_clips": ("Clips without a return", 0, "clips", "≥"),
    "positive_prompts": ("Prompts with a return", 0, "prompts", "≥"),
    "prediction": ("Predicts far ahead", 3, "AUROC", "≥"),
    "learned": ("More than random weights", 3, "AUROC", "≥"),
    "confirmation": ("Holds in new prompts", 3, "AUROC", ">"),
    "effect": ("Removing it removes returns", 2, "of returns", "≥"),
    "damage": ("The music stays intact", 3, "nats per token", "≤"),
    "selectivity": ("More than controls do", 2, "of returns", "≥"),
    "shorter_horizons": ("Predicts at shorter horizons", 3, "AUROC", "≥"),
    "embedding": ("Input embedding stays silent", 3, "AUROC", "<"),
    "random_model": ("Random weights stay silent", 3, "AUROC", "<"),
}
REPRESENTATIONS = {
    "resid": "residual",
    "sae": "SAE codes",
    "embedding": "input embedding",
    "random_dictionary": "random dictionary",
    "random_model": "random weights",
}
KINDS = {
    "target": "candidate feature",
    "mean_difference": "mean difference",
    "matched_feature": "matched feature",
    "random_direction": "random direction",
    "local_feature": "local feature",
    "resampled": "fresh noise",
}
WINDOWS = {"until_event": "Edited until the event", "prefix_only": "Edited in the prefix only"}
# What becomes of a labelled time: style and name.
LABEL_PARTS = {
    "l-yes": "a return follows",
    "l-no": "none follows",
    "l-censored": "censored",
    "l-sounding": "a return sounds",
    "l-early": "too early to ask",
}
UNREVIEWED_PART = ("l-unreviewed", "not reviewed")


class Edited(NamedTuple):
    """One clip continued under one condition; `kind` "baseline" is the untouched one."""

    clip_id: str
    kind: str
    window: str
    audio: np.ndarray
    sample_rate_hz: int
    file: str


class Results(NamedTuple):
    """Everything the report says of one study.

    settings: the study's leaf settings as plain builtins. model, verdict, certificates: the JSON files. card: the
    model's card, {} without one. probes: a row a probe record. events: all events as overruled
    (reprise/review/apply.py). labels: by horizon name. candidates: the candidates table. effects, matched, steered: by
    candidate name. examples: clips as generated. edited: by candidate name. stages: stage, jobs, seconds, peak_mb, a
    row a stage (may be empty). heard: a row a clip, with why it has no events ("" where it has). reviews: the summary
    of imported reviews, {} without any. tracks: the recordings that clips were cut from, none where the model plays
    prompts; left_out: those that could not be used (track_id, path, reason); cuts_left_out: the cuts of others that
    could not (with cut); damaged: those that could not be decoded in some places.
    """

    name: str
    settings: Mapping[str, Any]
    model: Mapping[str, Any]
    card: Mapping[str, Any]
    verdict: Mapping[str, Any]
    certificates: Sequence[Mapping[str, Any]]
    probes: pd.DataFrame
    events: pd.DataFrame
    labels: Mapping[str, pd.DataFrame]
    candidates: pd.DataFrame
    effects: Mapping[str, pd.DataFrame]
    matched: Mapping[str, pd.DataFrame]
    steered: Mapping[str, pd.DataFrame]
    examples: Sequence[Heard]
    edited: Mapping[str, Sequence[Edited]]
    stages: pd.DataFrame
    heard: pd.DataFrame
    reviews: Mapping[str, Any]
    tracks: Sequence[Track] = ()
    left_out: Sequence[Mapping[str, str]] = ()
    cuts_left_out: Sequence[Mapping[str, Any]] = ()
    damaged: Sequence[Mapping[str, str]] = ()


# --- audio ----------------------------------------------------------------------------------------------------


def embed(sounds: Iterable[tuple[np.ndarray, int]], n_bytes: int) -> list[str]:
    """Data URIs of (audio, sample_rate_hz) in turn, "" for each that no longer fits into `n_bytes` of FLAC."""
    uris = []
    for audio, sample_rate_hz in sounds:
        flac = encode_flac(audio, sample_rate_hz)
        fits = len(flac) <= n_bytes
        n_bytes -= len(flac) if fits else 0
        uris.append(flac_uri(flac) if fits else "")
    return uris


def example_clips(events: pd.DataFrame, clip_ids: Sequence[str]) -> list[tuple[str, str]]:
    """Up to three (clip_id, why), by rule: a typical return, no return, and the nearest miss.

    The accepted event of median score; the first clip in order of name in which no passage was accepted or comes near;
    and, among clips without an accepted event, the one whose rejected candidate scores highest.
    """
    events = events.sort_values(["score", "clip_id"], kind="stable")
    ok = events["accepted"].astype(bool)
    returning, rejected = events[ok], events[~ok]
    missed = rejected[~rejected["clip_id"].isin(returning["clip_id"])]
    chosen = []
    if len(returning):
        median = str(returning["clip_id"].iloc[(len(returning) - 1) // 2])
        chosen.append((median, "A typical return: the valid return of median score."))
    near = str(missed["clip_id"].iloc[-1]) if len(missed) else ""
    silent = [c for c in sorted(clip_ids) if c not in set(returning["clip_id"]) and c != near]
    # Clips in which nothing was even listed come first.
    silent.sort(key=lambda c: c in set(missed["clip_id"]))
    if silent:
        chosen.append((silent[0], "No return: the first clip, in order of name, without one."))
    if near:
        chosen.append((near, "The nearest miss: the best match that was rejected, among clips without a return."))
    return chosen


# --- view models ----------------------------------------------------------------------------------------------


def gate_view(gate: Mapping[str, Any]) -> dict[str, Any]:
    """A gate as a row of the table."""
    name = gate["name"]
    title, digits, unit, sense = GATES.get(name, (name.replace("_", " ").capitalize(), 3, "", "≥"))
    value = interval(gate["value"], gate["low"], gate["high"], digits)
    outcome = gate["outcome"]
    return {
        "title": title,
        "name": name,
        "value": f"{value} {unit}".strip() if is_number(gate["value"]) else NEVER_DATA,
        "needed": f"{sense} {gate['threshold']:g}" if is_number(gate["threshold"]) else NEVER_DATA,
        "outcome": outcome,
        "mark": {"passed": "✓", "failed": "✗", "undecided": "?", "not reached": "·"}[outcome],
        "style": outcome.replace(" ", "-"),
        "sentence": gate["sentence"] if outcome != "not reached" else "",
        "strip": gate_strip(gate),
    }


def is_organism(card: Mapping[str, Any]) -> bool:
    """Whether a model's card says that it is a model organism: calibration, not evidence."""
    return str(card.get("kind", "")).startswith("model organism")


def verdict_view(study: Results) -> dict[str, Any]:
    """The verdict in sentences, and how far the gates got."""
    verdict, gates = study.verdict, [gate_view(g) for g in study.verdict["gates"]]
    name = verdict["verdict"]
    no_events = any(g["name"] == "events" and g["outcome"] == "failed" for g in gates)
    deciding = next((c for c in verdict["candidates"] if c["verdict"] == name), None)
    mechanism = ""
    if deciding and deciding.get("mechanism"):
        share = percent(deciding.get("stored_share"))
        mechanism = MECHANISMS.get(deciding["mechanism"], "{share}").format(share=share)
    failed = [g["title"].lower() for g in gates if g["outcome"] in ("failed", "undecided")]
    passed = sum(g["outcome"] == "passed" for g in gates)
    # What an organism was built to be shows in its own music.
    known = is_organism(study.card) and study.settings["source"] == "prompts"
    truth = study.card.get("ground_truth", {}) if known else {}
    should = truth.get("verdict", "")
    return {
        "name": name,
        "meaning": NO_EVENTS if name == "none" and no_events else MEANINGS.get(name, ""),
        "reason": str(verdict["reason"]),
        "mechanism": mechanism,
        "gates": gates,
        "checks": [gate_view(g) for g in verdict.get("checks", [])],
        "progress": f"{passed} of {len(gates)} gates passed" + (f"; first not to: {failed[0]}" if failed else ""),
        "numbers": {g["name"]: interval(g["value"], g["low"], g["high"]) for g in verdict["gates"]},
        "truth": should,
        "because": truth.get("because", ""),
        "agrees": should == name if should else None,
    }


def horizons_view(study: Results) -> list[dict[str, Any]]:
    """role, name (as in paths) and text of each horizon, nearest first."""
    return [
        {"role": role, "name": horizon_name(a, b), "text": f"{role}, {a:g}–{b:g} s ahead"}
        for role, (a, b) in sorted(study.settings["horizons"].items(), key=lambda item: tuple(item[1]))
    ]


GAIN_MARKS = {
    "resid": ("s-target", "circle", "residual stream"),
    "sae": ("s-target", "square", "SAE codes"),
    "embedding": ("s-check", "diamond", "input embedding, a check"),
    "random_dictionary": ("s-check", "square", "random dictionary"),
    "random_model": ("s-check", "circle", "random weights"),
}


def gain_view(study: Results) -> dict[str, Any]:
    """Conditional gain: one plot a horizon on a common scale, and the table behind it."""
    table = study.probes
    numbers = [c for c in table.columns if c.startswith(("gain_", "swap_gain_", "p_", "auroc_", "n_"))]
    table = table.assign(**{c: pd.to_numeric(table[c], errors="coerce") for c in numbers})
    order = {name: i for i, name in enumerate(("embedding", "resid", "random_model", "sae", "random_dictionary"))}
    table = table.assign(order=table["representation"].map(order)).sort_values(["order", "hook"])
    needed = study.settings["verdict"]["min_gain_auroc"]
    alpha = study.settings["probes"]["alpha"]
    spread = table[["gain_auroc", "gain_auroc_low", "gain_auroc_high", "swap_gain_q50", "swap_gain_q95"]]
    axis = axis_around(spread.to_numpy(float).ravel(), include=(0.0, needed))
    panels, rows = [], []
    for horizon in horizons_view(study):
        lines = []
        for r in table[table["horizon"] == horizon["name"]].to_dict("records"):
            what = REPRESENTATIONS.get(r["representation"], r["representation"])
            name = what if r["hook"] == "embedding" else f"{what}, L{r['hook'].removeprefix('layer')}"
            value, low, high = (r[f"gain_auroc{end}"] for end in ("", "_low", "_high"))
            shows = bool(is_number(low) and low > 0 and is_number(r["p_gain"]) and r["p_gain"] <= alpha)
            lines.append(
                Row(
                    name,
                    value,
                    low,
                    high,
                    number(value, 3, sign=True) if is_number(value) else "not scored",
                    *GAIN_MARKS.get(r["representation"], GAIN_MARKS["embedding"])[:2],
                    shows,
                    (r["swap_gain_q50"], r["swap_gain_q95"]),
                )
            )
            rows.append(
                {
                    "horizon": horizon["role"],
                    "what": name,
                    "auroc": " / ".join(number(r[f"auroc_{k}"], 3) for k in ("B", "R", "BR")),
                    "gain": interval(value, low, high, 3),
                    "bits": interval(*(r[f"gain_bits{end}"] for end in ("", "_low", "_high")), 3),
                    "p": p_text(r["p_swap"]),
                    "p_within": p_text(r.get("p_swap_within_prompt", math.nan)),
                    "clips": f"{number(r['n_positive_clips'], 0)} of {number(r['n_clips'], 0)}",
                    "note": r.get("note") or "",
                }
            )
        if lines:
            told = "; ".join(f"{x.label} {interval(x.value, x.low, x.high, 3)}" for x in lines)
            label = f"Conditional gain, {horizon['text']}: {told}"
            right = 56 if all(is_number(x.value) for x in lines) else 78
            svg = interval_plot(lines, axis, label=label, threshold=needed, x_label="gain in AUROC", right=right)
            panels.append({"title": horizon["text"], "svg": svg})
    return {
        "panels": panels,
        "legend": legend(GAIN_MARKS.values()),
        "rows": rows,
        "learned": [
            {
                "what": f"{REPRESENTATIONS[r['representation']]}, L{r['layer']}",
                "learned": interval(*(r[f"learned_auroc{end}"] for end in ("", "_low", "_high")), 3),
                "p": p_text(r["p_learned"]),
            }
            for r in study.verdict.get("learned", [])
        ],
        "needed": needed,
        "alpha": alpha,
        "scored": bool(table["gain_auroc"].notna().any()),
    }


def labels_view(study: Results) -> list[dict[str, Any]]:
    """Class balance and what was left out, per horizon."""
    rows = []
    for horizon in horizons_view(study):
        table = study.labels.get(horizon["name"])
        if table is None or table.empty:
            continue
        usable = table["reason"] == ""
        positive = usable & (table["y"] == 1)
        left_out = [table["reason"] == reason for reason in ("censored", "sounding")]
        shares = [float(mask.mean()) for mask in (positive, usable & ~positive, *left_out)]
        unreviewed = float((table["reason"] == "unreviewed").mean())
        shares.append(max(0.0, 1 - sum(shares) - unreviewed))
        parts = [(*part, share) for part, share in zip(LABEL_PARTS.items(), shares, strict=True)]
        if unreviewed:
            parts.append((*UNREVIEWED_PART, unreviewed))
        by_clip = positive[usable].groupby(table.loc[usable, "clip_id"]).any()
        rows.append(
            {
                "horizon": horizon["text"],
                "usable": f"{int(usable.sum()):,}".replace(",", " "),
                "positive": percent(positive.sum() / usable.sum()) if usable.any() else NEVER_DATA,
                "clips": f"{int(by_clip.sum())} / {int((~by_clip).sum())}",
                "prompts": str(table.loc[positive, "prompt_id"].nunique()),
                **{name.replace(" ", "_"): percent(s) for _, name, s in parts[2:]},
                "bar": share_bar(parts, label=", ".join(f"{name} {percent(s)}" for _, name, s in parts)),
            }
        )
    return rows


def certificate_view(study: Results) -> list[dict[str, Any]]:
    """One certificate a layer: words, FVU at the hook and beside it, FVU by position."""
    views = []
    for c in sorted(study.certificates, key=lambda c: c["hook_layer"]):
        asked = c.get("settings") or study.settings["certificate"]
        worst = max([1.0, *(x["fvu"] for x in c["hooks"] if is_number(x["fvu"]))])
        axis = Axis(0.0, min(worst, 3.0) * 1.06)
        rows = []
        for x in c["hooks"]:
            name = ("input" if x["layer"] < 0 else f"layer {x['layer']}") + ", normed" * x["normed"]
            own = x["layer"] == c["hook_layer"] and not x["normed"]
            style = "s-target" if own else "s-control"
            text = number(x["fvu"], 3)
            rows.append(Row(name + ", hook" * own, x["fvu"], text=text, style=style, filled=own))
        label = f"FVU by hook: {', '.join(f'{r.label} {r.text}' for r in rows)}."
        rate = study.model["frame_rate_hz"]
        bins = [
            Row(
                f"{b['start'] / rate:g}–{b['stop'] / rate:.3g} s" + ("" if b["in_context"] is not False else " *"),
                b["fvu"],
                text=f"{number(b['fvu'], 3)}, L0 {number(b['l0'], 1)}",
                filled=bool(b["passed"]),
            )
            for b in c["bins"]
        ]
        bins_label = f"FVU by position: {', '.join(f'{r.label} {r.text}' for r in bins)}."
        common = {"threshold": asked["max_fvu"], "x_label": "FVU", "zero": False}
        ratio = f"{number(c['neighbour_ratio'], 2)} × (at least {asked['min_neighbour_ratio']:g})"
        active = f"{number(c['l0'], 1)}, {number(c['l0_max'], 0)} (k = {c['declared'].get('k', NEVER_DATA)})"
        agreements = {True: "agrees", False: "disagrees", None: "not stated"}
        views.append(
            {
                "layer": c["hook_layer"],
                "passed": c["passed"],
                "reason": c["reason"],
                "neighbours": rows and interval_plot(rows, axis, label=label, right=52, **common),
                "positions": bins and interval_plot(bins, axis, label=bins_label, right=96, **common),
                "beyond_context": any(b["in_context"] is False for b in c["bins"]),
                "facts": [
                    ("FVU at the hook", f"{number(c['fvu'], 3)} (at most {asked['max_fvu']:g})"),
                    ("at a neighbour", ratio),
                    ("L0, mean and most", active),
                    ("never active", percent(c["dead_share"])),
                    ("cosine", number(c["cosine"], 3)),
                    *([("FVU without a prompt", number(c["unconditional"]["fvu"], 3))] if c["unconditional"] else []),
                    *((name, agreements[agreed]) for name, agreed in c["agreements"].items() if name != "context"),
                    *([("trained here", _training_text(c["trained_here"]))] if c["trained_here"] else []),
                ],
            }
        )
    return views


def _training_text(training: Mapping[str, Any]) -> str:
    """On what an SAE of the study's own was trained."""
    none = "no clip or prompt" if training["prompts_apart"] else "no clip"
    return f"on {training['n_positions']:,} positions of {training['n_clips']} clips; {none} of them is measured here"


def candidates_view(study: Results) -> list[dict[str, Any]]:
    """The features that the screen proposed, with what became of them."""
    judged = {(c["layer"], c["feature"]): c for c in study.verdict["candidates"]}
    rows = []
    for c in study.candidates.to_dict("records"):
        found = judged.get((c["layer"], c["feature"]), {})
        rows.append(
            {
                "feature": f"layer {c['layer']}, feature {c['feature']}",
                "horizon": c["horizon"].removeprefix("h").replace("-", "–") + " s",
                "z": number(c["z"], 1),
                "p": p_text(c["p"]),
                "q": p_text(c["q"]),
                "auroc": number(c["auroc"], 3),
                "active": percent(c["active_share"]),
                "gain": interval(*(c[f"confirm_gain_auroc{end}"] for end in ("", "_low", "_high")), 3),
                "confirm_p": p_text(c["confirm_p_adjusted"]),
                "verdict": found.get("verdict", "") if c["confirmed"] else "not confirmed",
            }
        )
    return rows


def dose_text(dose: float) -> str:
    """A dose as short as can be: ½, 1."""
    return {0.25: "¼", 0.5: "½", 0.75: "¾"}.get(dose, f"{dose:g}")


def _series(rows: pd.DataFrame, x: str, kinds: Sequence[str]) -> list[Series]:
    made = []
    for kind in kinds:
        for control, part in rows[rows["kind"] == kind].groupby("control", sort=True):
            part = part.dropna(subset=[x, "effect"]).sort_values("dose")
            labels = [dose_text(d) for d in part["dose"]]
            columns = [part[c].tolist() for c in (x, "effect", "effect_low", "effect_high")]
            name = KINDS[kind] + (f" {control + 1}" if control else "")
            made.append(Series(name, *columns, labels, f"s-{kind}", MARKERS[kind], kind == "target"))
    return made


def ablation_view(study: Results, name: str) -> dict[str, Any]:
    """Figures and tables of one candidate's ablation."""
    matched, effects = study.matched[name], study.effects.get(name, pd.DataFrame())
    if "arm" in effects:
        effects = effects[effects["arm"] != "steer"]
    needed = study.settings["verdict"]
    layer, feature = (int(matched[c].iloc[0]) for c in ("layer", "feature")) if len(matched) else (-1, -1)
    judged = next((c for c in study.verdict["candidates"] if (c["layer"], c["feature"]) == (layer, feature)), {})
    edited = matched[matched["kind"].isin(KINDS)]
    target = edited[edited["kind"] == "target"]
    top = target[["effect", "effect_high"]].to_numpy(float)
    controls = edited.loc[edited["kind"] != "target", "effect"].to_numpy(float)
    y_axis = axis_around(
        [*top.ravel(), *target["effect_low"], *controls], include=(0.0, needed["min_effect"] * 1.2, 0.5), margin=0.04
    )
    # Far beyond what is allowed, how far does not matter: such controls lie on the edge.
    reach = max([2 * needed["max_damage"], *(1.1 * target["damage"].dropna())])
    x_axis = Axis(0.0, reach, root=True)
    doses = sorted(target["dose"].unique())
    panels = []
    for window in (w for w in WINDOWS if w in set(edited["window"])):
        rows = edited[edited["window"] == window]
        kinds = [k for k in KINDS if k in set(rows["kind"])]
        one = rows[(rows["kind"] == "target") & (rows["dose"] == 1)]
        at_one = one.iloc[0].to_dict() if len(one) else {}
        luck = float(rows.loc[rows["kind"] == "resampled", "effect"].mean())
        n_beyond = int((rows["damage"] > reach).sum())
        beyond = f"On the right edge: {n_beyond} control dose{'s' if n_beyond > 1 else ''} of more damage, up to "
        beyond += f"{rows['damage'].max():.2g} nats."
        told = "; ".join(
            f"dose {r.dose:g} loses {interval(r.effect, r.effect_low, r.effect_high)} at {r.damage:.3f} nats"
            for r in rows[rows["kind"] == "target"].sort_values("dose").itertuples()
        )
        common = {"y_label": "fall in the rate of returns", "y_needed": needed["min_effect"], "luck": luck}
        curves = [k for k in kinds if k != "resampled"]
        damage = xy_plot(
            _series(rows, "damage", curves),
            x_axis,
            y_axis,
            label=f"{WINDOWS[window]}, fall in the rate of returns against damage, candidate: {told}",
            x_label="damage, nats a token (root scale)",
            x_needed=needed["max_damage"],
            **common,
        )
        dose = xy_plot(
            _series(rows, "dose", curves),
            Axis(0.0, 1.06 * max(doses, default=1.0)),
            y_axis,
            label=f"{WINDOWS[window]}, fall in the rate of returns by dose, candidate: {told}",
            x_label="dose (1: the feature is removed)",
            x_ticks=[0, *doses],
            x_text=dose_text,
            **common,
        )
        panels.append(
            {
                "title": WINDOWS[window],
                "damage": damage,
                "dose": dose,
                "selectivity": _selectivity_plot(at_one, needed, WINDOWS[window]) if at_one else "",
                "beyond": beyond if n_beyond else "",
                "by_lag": _by_lag(effects, window),
                "rows": _what_else_changed(effects, window),
            }
        )
    keys = [(f"s-{k}", MARKERS[k], v) for k, v in KINDS.items() if k in set(edited["kind"])]
    about = ""
    if len(effects):
        n_clips, n_prompts = effects["clip_id"].nunique(), effects["prompt_id"].nunique()
        from_s = study.settings["ablation"]["prefix_s"]
        about = f"{n_clips} clips of {n_prompts} prompts that return were continued from {from_s:g} s on."
        n_own = effects.loc[effects["found_baseline"] == 1, "clip_id"].nunique()
        about += f" {n_own} are judged: those in which the untouched continuation returns."
    return {
        "name": name,
        "title": f"layer {layer}, feature {feature}",
        "layer": layer,
        "feature": feature,
        "verdict": judged.get("verdict", ""),
        "reason": judged.get("reason", ""),
        "gates": [gate_view(g) for g in judged.get("gates", [])],
        "about": about,
        "panels": panels,
        "legend": legend(keys),
        "steered": steering_text(study.steered.get(name, pd.DataFrame())),
    }


def steering_text(steered: pd.DataFrame) -> str:
    """What turning the feature up did to clips that do not return; empty where none was steered."""
    if steered.empty:
        return ""
    row = steered.iloc[0]

    def told(name: str) -> str:
        return interval(*(float(row[f"{name}{end}"]) for end in ("", "_low", "_high")))

    return (
        f"Turned up in {row['n_clips']:.0f} clips of {row['n_prompts']:.0f} prompts that do not return, from the "
        f"opening on, the feature brings the return to {told('rate_steered')} of them, against "
        f"{told('rate_untouched')} untouched and {told('rate_random')} by a random direction of the same size, at "
        f"{told('damage_steered')} nats a token of damage."
    )


def _by_lag(effects: pd.DataFrame, window: str) -> dict[str, Markup]:
    """Two plots by seconds since the prefix's end, of the edits at dose 1: how far they move what the model would play
    next (KL on the untouched clip's tokens), and how far the best match falls before its window."""
    if effects.empty:
        return {}
    edited = effects[(effects["window"] == window) & (effects["dose"] == 1)]
    plots = {}
    for prefix, y_label, what in (
        ("kl_lag", "KL, nats a token", "how far the edit moves what is played next"),
        ("effect_score_lag", "fall of the best match", "fall of the match before its window"),
    ):
        lags = sorted((float(c.removeprefix(prefix)), c) for c in effects.columns if c.startswith(prefix))
        if not lags:
            continue
        series = []
        for kind in (k for k in KINDS if k in set(edited["kind"])):
            mean = edited.loc[edited["kind"] == kind, [c for _, c in lags]].mean()
            points = [(lag, float(mean[c])) for lag, c in lags if is_number(mean[c])]
            x, y = [p[0] for p in points], [p[1] for p in points]
            labels = [f"{lag:g} s" for lag in x]
            series.append(Series(KINDS[kind], x, y, y, y, labels, f"s-{kind}", MARKERS[kind], kind == "target"))
        values = [v for one in series for v in one.y]
        told = "; ".join(f"{one.name} {', '.join(number(v, 2) for v in one.y)}" for one in series)
        plots[prefix] = xy_plot(
            series,
            Axis(0.0, 1.06 * max([lag for lag, _ in lags] + [1.0])),
            axis_around(values, include=(0.0, 0.1), margin=0.04),
            label=f"{WINDOWS[window]}, {what} by second: {told}",
            x_label="seconds from the prefix's end",
            y_label=y_label,
        )
    return plots


def _selectivity_plot(row: Mapping[str, Any], needed: Mapping[str, float], title: str) -> Markup:
    """The candidate at dose 1, each control at the same damage, and the excess."""
    values = {kind: row.get(f"{kind}_effect") for kind in ("matched_feature", "random_direction", "resampled")}
    effect, selectivity = ([row.get(f"{n}{end}") for end in ("", "_low", "_high")] for n in ("effect", "selectivity"))
    lines = [Row("candidate", *effect, number(effect[0]), needed=needed["min_effect"])]
    lines += [
        Row(KINDS[k], v, text=number(v), style=f"s-{k}", shape=MARKERS[k]) for k, v in values.items() if is_number(v)
    ]
    shows = is_number(selectivity[1]) and selectivity[1] > 0 and selectivity[0] >= needed["min_selectivity"]
    text = number(selectivity[0], 2, sign=True)
    last = Row(
        "selectivity", *selectivity, text, shape="diamond", filled=bool(shows), needed=needed["min_selectivity"]
    )
    lines.append(last)
    axis = axis_around([v for r in lines for v in (r.value, r.low, r.high)], include=(0.0, *needed.values()))
    label = f"{title}, at equal damage: " + "; ".join(f"{r.label} {interval(r.value, r.low, r.high)}" for r in lines)
    return interval_plot(lines, axis, label=label, x_label="fall in the rate of returns", right=46)


def _what_else_changed(effects: pd.DataFrame, window: str) -> list[dict[str, str]]:
    """Mean over clips of effects, damage and acoustic shifts at dose 1, a row a kind of condition."""
    if effects.empty:
        return []
    lags = [c for c in effects.columns if c.startswith("effect_score_lag")]
    rows = []
    for kind, text in KINDS.items():
        inside = (effects["kind"] == kind) & effects["window"].isin([window, "none"])
        part = effects[inside & ((effects["dose"] == 1) | (kind == "resampled"))]
        if part.empty:
            continue
        mean = part.select_dtypes("number").mean()
        rows.append(
            {
                "condition": text,
                "rate": number(mean["effect_rate"]),
                "score": number(mean["effect_score"]),
                "before": number(float(mean[lags].mean())) if lags else NEVER_DATA,
                "damage": number(mean["damage_nats"], 3),
                "kl": number(mean["kl_nats"], 3) if "kl_nats" in mean else NEVER_DATA,
                "loudness": number(mean["shift_loudness_db"], 1, sign=True),
                "centroid": number(mean["shift_centroid_hz"], 0, sign=True),
                "onsets": number(mean["shift_onset_rate_hz"], 2, sign=True),
                "silence": number(mean["shift_silence_share"], 2, sign=True),
                "first": number(part["first_difference_s"].median(), 1),
            }
        )
    return rows


def motif_window(start_s: float, duration_s: float) -> Window:
    """Where the motif is, as it is marked in figures."""
    return Window(start_s, start_s + duration_s, "motif", "motif")


def _found_window(onset_s: float, duration_s: float, score: float, counts: bool) -> Window:
    """The mark of a match, with its score."""
    style, text = ("return", f"return {score:.2f}") if counts else ("rejected", f"{score:.2f}")
    return Window(onset_s, onset_s + duration_s, style, text)


def _template(clip: Heard | Edited, motif: Window) -> Motif:
    duration_s = motif.stop_s - motif.start_s
    return motif_template(clip.audio, clip.sample_rate_hz, start_s=motif.start_s, duration_s=duration_s)


def nothing_because(heard: pd.DataFrame) -> list[str]:
    """Why clips have no candidates, the commonest reason first."""
    counted = count_reasons(heard.loc[heard["no_events_because"] != "", "no_events_because"])
    return [f"{n} {'clip' if n == 1 else 'clips'}: {why}" for why, n in counted.items()]


def events_view(study: Results) -> dict[str, Any]:
    """The recurrences found: over all clips, and example clips with players."""
    settings, events = study.settings["events"], study.events
    told_motif = motif_window(settings["motif_start_s"], settings["motif_duration_s"])
    unknown = events["unknown"].astype(bool)
    n_unknown, events = int(unknown.sum()), events[~unknown]
    ok = events["accepted"].astype(bool)
    reasons = events.loc[~ok, "reason"].str.split(", ").explode().value_counts()
    duration_s = study.settings["generation"]["duration_s"]
    clips = []
    for heard in study.examples:
        found = study.events[study.events["clip_id"] == heard.clip_id].sort_values("onset_s")
        places = found[["motif_start_s", "motif_duration_s"]].drop_duplicates()
        windows = [motif_window(*place) for place in places.itertuples(index=False)] or [told_motif]
        motif, told = windows[0], []
        for e in found.itertuples():
            windows.append(_found_window(e.onset_s, e.duration_s, e.score, bool(e.accepted)))
            what = "valid return" if e.accepted else "unreviewed" if e.unknown else "rejected"
            what += " by review" if e.review == "accept" else ""
            why = "" if e.accepted else f" ({', '.join(REASONS.get(r, r) for r in e.reason.split(', '))})"
            told.append(
                f"{what} at {e.onset_s:.1f} s, score {e.score:.2f}, p {p_text(e.p_value)}, gap {e.gap_s:.1f} s, "
                f"timbre {e.timbre_score:.2f}, transposed by {e.transposition}{why}"
            )
        clips.append(
            {
                "title": f"{heard.clip_id}: {heard.prompt}" if heard.prompt else heard.clip_id,
                "why": heard.why,
                "svg": clip_figure(
                    heard.audio,
                    heard.sample_rate_hz,
                    _template(heard, motif),
                    windows,
                    min_score=settings["min_score"],
                    label=f"Chromagram of {heard.clip_id}. " + ("; ".join(told) or "no candidate for a return"),
                ),
                "told": told or ["no passage comes near the motif"],
                "sound": (heard.audio, heard.sample_rate_hz),
                "file": heard.file,
            }
        )
    return {
        "n_clips": len(study.heard),
        "n_returning": int(events.loc[ok, "clip_id"].nunique()),
        "n_accepted": int(ok.sum()),
        "n_rejected": int((~ok).sum()),
        "n_unreviewed": n_unknown,
        "nothing_because": nothing_because(study.heard),
        "reasons": ", ".join(f"{REASONS.get(r, r)} {n}" for r, n in reasons.items()),
        "svg": onset_figure(events, duration_s, told_motif[:2] if settings["motif"] == "opening" else None)
        if len(events)
        else "",
        "clips": clips,
        "min_score": settings["min_score"],
    }


def recordings_view(study: Results) -> dict[str, Any]:
    """The recordings behind the clips, their licences, those that were left out, and whose are heard on the page; {}
    where the model plays prompts."""
    if not study.tracks:
        return {}
    gone = {left["track_id"] for left in study.left_out}
    used = {track.track_id: track for track in study.tracks if track.track_id not in gone}
    licences = Counter(track.licence or "not stated" for track in used.values())
    tags = Counter(tag for track in used.values() for tag in track.tags)
    of_clip = dict(zip(study.heard["clip_id"], study.heard["prompt_id"], strict=True))
    played = [clip.clip_id for clip in (*study.examples, *(e for edited in study.edited.values() for e in edited))]
    heard = [used[track_id] for track_id in dict.fromkeys(of_clip[clip_id] for clip_id in played)]
    lists = {
        "Recordings that were left out": [f"{left['path']}: {left['reason']}" for left in study.left_out],
        "Cuts that were left out": [f"{left['path']}: {left['reason']}" for left in study.cuts_left_out],
        "Recordings that are damaged": [f"{one['path']}: {one['reason']}" for one in study.damaged],
    }
    return {
        "source": study.settings["source"],
        "from_s": f"{study.settings['recordings']['continue_from_s']:g}",
        "n_tracks": len(study.tracks),
        "n_used": len(used),
        "n_clips": len(study.heard),
        "facts": [
            ("licences", "; ".join(f"{licence}: {n}" for licence, n in licences.most_common())),
            *([("tags", ", ".join(f"{tag} {n}" for tag, n in tags.most_common(N_TAGS)))] if tags else []),
        ],
        "credits": [
            f"{track.track_id}: {track.source or 'source not stated'} ({track.licence or 'licence not stated'})"
            for track in heard
        ],
        "kinds": _kinds(study.left_out),
        "n_left_out": len(study.left_out),
        "cuts_kinds": _kinds(study.cuts_left_out),
        "n_cuts_left_out": len(study.cuts_left_out),
        "lists": [
            {"title": title, "lines": lines[:N_LEFT_OUT], "n": len(lines)} for title, lines in lists.items() if lines
        ],
    }


def _kinds(left_out: Sequence[Mapping[str, Any]]) -> str:
    """What kinds of reasons there are, with their numbers."""
    kinds = Counter(left["reason"].partition(":")[0].partition(",")[0] for left in left_out)
    return ", ".join(f"{kind} {n}" for kind, n in kinds.most_common())


def reviews_view(study: Results) -> dict[str, Any]:
    """What reviewers decided, in words; {} where nobody did."""
    summary = study.reviews
    if not summary:
        return {}
    pairs = [
        f"{' and '.join(pair['reviewers'])}: kappa {number(pair['kappa'])} over {pair['n']} events, "
        f"{percent(pair['alike'])} alike" + (f" ({pair['note']})" if pair["note"] else "")
        for pair in summary["agreement"]
    ]
    lost = [
        f"{d['reviewer']}: {d['decision']}, {d['clip_id'] or 'clip not stated'} at {d['onset_s']:.2f} s "
        f"(event {d['event_id']})"
        for d in summary["orphaned"]
    ]
    return {
        **{name: value for name, value in summary.items() if name.startswith("n_")},
        "reviewers": ", ".join(r["name"] for r in summary["reviewers"]),
        "agreement": pairs,
        "orphaned": lost,
        "notes": [
            f"{d['reviewer']}, {d['clip_id'] or 'clip not stated'} at {d['onset_s']:.2f} s "
            f"({d['decision'] or 'no decision'}): {d['note']}"
            for d in summary["notes"]
        ],
        "only": study.settings["labels"]["reviewed_only"],
    }


def players_view(study: Results, name: str) -> list[dict[str, Any]]:
    """Baseline and edited continuations of a candidate's first clips, side by side."""
    edited, effects = study.edited.get(name, ()), study.effects.get(name, pd.DataFrame())
    min_score, prefix_s = study.settings["events"]["min_score"], study.settings["ablation"]["prefix_s"]
    titles = {"baseline": "Untouched", **{k: v.capitalize() for k, v in KINDS.items()}, "target": "Feature removed"}
    groups = []
    for clip_id in list(dict.fromkeys(e.clip_id for e in edited))[:N_EDITED_CLIPS]:
        of_clip = {e.kind: e for e in edited if e.clip_id == clip_id and e.window in ("", "until_event")}
        if "baseline" not in of_clip:
            continue
        # The motif as the untouched clip plays it, as in the measured effects.
        baseline = _effect_row(effects, clip_id, "baseline")
        motif = motif_window(baseline["motif_start_s"], baseline["motif_duration_s"])
        template = _template(of_clip["baseline"], motif)
        cards = []
        for kind in (k for k in titles if k in of_clip):
            e = of_clip[kind]
            row = _effect_row(effects, clip_id, kind)
            score, found = row.get("score"), row.get("found")
            start, stop = (row.get(f"target_{end}_s", math.nan) for end in ("start", "stop"))
            windows = [motif]
            if is_number(start):
                match = best_match(e.audio, template, start_s=start, stop_s=stop)
                windows.append(Window(start, stop, "expected", ""))
                if match.score > 0:
                    counts = match.score >= min_score
                    windows.append(_found_window(match.onset_s, match.duration_s, match.score, counts))
            told = f"best match {number(score)}: {'returns' if found else 'does not return'}"
            if kind != "baseline" and is_number(row.get("damage_nats")):
                told += f"; damage {number(row['damage_nats'], 3)} nats"
            cards.append(
                {
                    "title": titles[kind],
                    "told": told,
                    "svg": clip_figure(
                        e.audio,
                        e.sample_rate_hz,
                        template,
                        windows,
                        min_score=min_score,
                        label=f"Chromagram of {clip_id}, {titles[kind].lower()}. {told}",
                        prefix_s=prefix_s,
                    ),
                    "sound": (e.audio, e.sample_rate_hz),
                    "file": e.file,
                }
            )
        groups.append({"clip": clip_id, "cards": cards})
    return groups


def _effect_row(effects: pd.DataFrame, clip_id: str, kind: str) -> dict[str, Any]:
    """The row of what is played: dose 1, until the event, first control; or the untouched baseline."""
    if effects.empty:
        return {}
    of_kind = effects["kind"] == ("untouched" if kind == "baseline" else kind)
    rows = effects[of_kind & (effects["clip_id"] == clip_id)]
    if kind != "baseline":
        rows = rows[(rows["window"] == "until_event") & (rows["dose"] == 1) & (rows["control"] == 0)]
    return rows.iloc[0].to_dict() if len(rows) else {}


KNOWN = {
    "nothing": "before any result was known",
    "events": "after events and certificates were known",
    "screens": "after screens were known",
    "probes": "after probes' results were known",
    "confirmations": "after candidates were confirmed",
    "effects": "after effects were known",
}


def declared_late(verdict: Mapping[str, Any]) -> list[str]:
    """Declarations that were made when results were known already, each in words; [] where there is none."""
    entries = (verdict.get("preregistration") or {}).get("declarations", [])
    late = [entry for entry in entries if entry["known"] != "nothing"]
    return [f"{KNOWN[entry['known']]}: {'; '.join(entry['changed']) or 'the first declaration'}" for entry in late]


def run_view(study: Results) -> dict[str, Any]:
    """What was run: model, SAEs, seeds, versions, settings, times."""
    model, verdict = study.model, study.verdict
    declared = verdict.get("preregistration") or {}
    duration_s = study.settings["generation"]["duration_s"]
    codebooks = f"{model['n_codebooks']} codebooks of {model['card']}"
    seeds = ", ".join(map(str, verdict["seeds"]))
    sound = f"{model['sample_rate_hz']} Hz, {model['frame_rate_hz']:g} positions a second"
    model_facts = [
        ("model", model["name"]),
        ("weights", model["weights_digest"]),
        ("size", f"{model['n_layers']} layers of width {model['d_model']}; {codebooks}"),
        ("sound", f"{sound}, clips of {duration_s:g} s"),
        ("clips", f"{len(study.heard)}" + (f", seeds {seeds}" if study.settings["source"] != "audio" else "")),
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


def study_view(study: Results, audio_bytes: int) -> dict[str, Any]:
    """Everything the template shows of one study."""
    verdict = verdict_view(study)
    ablations = [ablation_view(study, name) for name in sorted(study.matched) if len(study.matched[name])]
    never = [len(effects) for name, effects in study.effects.items() if not len(study.matched.get(name, ()))]
    # The candidate that decided comes first, and is the only one that is played.
    ablations.sort(key=lambda a: a["verdict"] != verdict["name"])
    events = events_view(study)
    players = players_view(study, ablations[0]["name"]) if ablations else []
    cards = [*events["clips"], *(card for group in players for card in group["cards"])]
    for card, uri in zip(cards, embed([card["sound"] for card in cards], audio_bytes), strict=True):
        card["audio"] = uri
    return {
        "name": study.name,
        "model": study.model["name"],
        "organism": is_organism(study.card),
        "verdict": verdict,
        "gain": gain_view(study),
        "recordings": recordings_view(study),
        "events": events,
        "reviews": reviews_view(study),
        "labels": labels_view(study),
        "certificates": certificate_view(study),
        "candidates": candidates_view(study),
        "ablations": ablations,
        "nothing_to_take": any(never),
        "players": players,
        "played": ablations[0]["title"] if players else "",
        "run": run_view(study),
        "declared_late": declared_late(study.verdict),
        "altered": (study.verdict.get("preregistration") or {}).get("problems", []),
    }


def calibration_view(counts: Mapping[str, Mapping[str, int]]) -> list[dict[str, Any]]:
    """One row an organism: what it was built to be, and how often each verdict was given."""
    truth = {name: known["verdict"] for name, known in GROUND_TRUTH.items()}
    rows = []
    for r in shares(counts, truth).to_dict("records") if counts else []:
        given = [f"{verdict} {n}" for verdict, n in counts[r["organism"]].items() if n]
        right, foresight = (
            f"{percent(r[f'{name}_share'])} ({percent(r[f'{name}_low'])} to {percent(r[f'{name}_high'])})"
            for name in ("right", "foresight")
        )
        row = {"organism": r["organism"], "truth": r["truth"], "runs": r["n_runs"], "verdicts": ", ".join(given)}
        rows.append(row | {"right": right, "foresight": foresight})
    return rows


def render(
    studies: Sequence[Results], *, title: str, calibration: Mapping[str, Mapping[str, int]] | None = None
) -> str:
    """The whole page. Organisms come after other models, and are kept apart from them. `calibration`: how often each
    organism got each verdict, `{organism: {verdict: count}}`."""
    share = AUDIO_BYTES // max(1, len(studies))
    views = [study_view(study, share) for study in studies]
    organisms = [v for v in views if v["organism"]]
    return page_template("report.html.j2").render(
        title=title,
        organisms=organisms,
        others=[v for v in views if not v["organism"]],
        calibration=calibration_view(calibration or {}),
        n_agree=sum(v["verdict"]["agrees"] is True for v in organisms),
        n_known=sum(v["verdict"]["agrees"] is not None for v in organisms),
        meanings=MEANINGS,
        label_parts=LABEL_PARTS,
        unreviewed_part=UNREVIEWED_PART,
    )
