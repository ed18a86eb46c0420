"""What happens when a candidate feature is removed, or turned up?

Degenerate input: without measured effects the panels and sentences that need them are empty.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import pandas as pd
from markupsafe import Markup

from reprise.report.figures.curves import Series, xy_plot
from reprise.report.figures.intervals import Row, interval_plot
from reprise.report.figures.svg import Axis, axis_around, legend
from reprise.report.numbers import NEVER_DATA, interval, is_number, number
from reprise.report.results import Results
from reprise.report.views.edits import KINDS, MARKERS, WINDOWS, dose_text
from reprise.report.views.heads import heads_view
from reprise.report.views.maps import map_view
from reprise.report.views.verdict import gate_view
from reprise.targets.view import Words


def ablation_view(study: Results, name: str) -> dict[str, Any]:
    """Figures and tables of one candidate's ablation."""
    matched, effects = study.matched[name], study.effects.get(name, pd.DataFrame())
    if "arm" in effects:
        effects = effects[effects["arm"] == "necessity"]
    needed, words = study.settings["verdict"], study.target.view.words
    judged: Mapping[str, Any] = next((c for c in study.verdict["candidates"] if c["name"] == name), {})
    edited = matched[matched["kind"].isin(KINDS)]
    target = edited[edited["kind"] == "target"]
    top = target[["effect", "effect_high"]].to_numpy(float)
    controls = edited.loc[edited["kind"] != "target", "effect"].to_numpy(float)
    effect_axis = axis_around(
        [*top.ravel(), *target["effect_low"], *controls], include=(0.0, needed["min_effect"] * 1.2, 0.5), margin=0.04
    )
    # For controls far beyond the allowed damage it does not matter how far: they are drawn on the edge.
    reach = max([2 * needed["max_damage"], *(1.1 * target["damage"].dropna())])
    doses = sorted(target["dose"].unique())
    # In the prefix only the candidate is edited, at one dose, so a sentence says it.
    panels = []
    if "until_event" in set(edited["window"]):
        panels.append(
            _panel(
                edited, effects, "until_event", words, needed=needed, reach=reach, doses=doses, effect_axis=effect_axis
            )
        )
    keys = [(f"s-{k}", MARKERS[k], v) for k, v in KINDS.items() if k in set(edited["kind"])]
    about = ""
    if len(effects):
        n_clips, n_prompts = effects["clip_id"].nunique(), effects["prompt_id"].nunique()
        from_s = study.settings["ablation"]["prefix_s"]
        about = f"{n_clips} clips of {n_prompts} prompts in which {words.happens} were continued from {from_s:g} s."
        n_own = effects.loc[effects["found_baseline"] == 1, "clip_id"].nunique()
        about += f" The {n_own} with {words.an_event} in the untouched continuation too count for the gates."
    return {
        "name": name,
        "title": judged.get("title", name),
        "verdict": judged.get("verdict", ""),
        "reason": judged.get("reason", ""),
        "gates": [gate_view(g, words) for g in judged.get("gates", [])],
        "about": about,
        "panels": panels,
        "legend": legend(keys),
        "prefix_only": prefix_text(matched, words),
        "sufficiency": sufficiency_text(study.sufficiency.get(name, pd.DataFrame()), words),
        "map": map_view(study, name),
        "heads": heads_view(study, name),
    }


def _panel(
    edited: pd.DataFrame,
    effects: pd.DataFrame,
    window: str,
    words: Words,
    *,
    needed: Mapping[str, float],
    reach: float,
    doses: Sequence[float],
    effect_axis: Axis,
) -> dict[str, Any]:
    """Figures and tables of the edits in one window.

    reach: the most damage on the axis; controls with more damage are drawn on its edge.
    """
    rows = edited[edited["window"] == window]
    kinds = [k for k in KINDS if k in set(rows["kind"])]
    one = rows[(rows["kind"] == "target") & (rows["dose"] == 1)]
    at_one = one.iloc[0].to_dict() if len(one) else {}
    luck = float(rows.loc[rows["kind"] == "resampled", "effect"].mean())
    n_beyond = int((rows["damage"] > reach).sum())
    beyond = f"On the right edge: {n_beyond} control dose{'s' if n_beyond > 1 else ''} with more damage, up to "
    beyond += f"{rows['damage'].max():.2g} nats per token."
    points = "; ".join(
        f"dose {r.dose:g} loses {interval(r.effect, r.effect_low, r.effect_high)} at {r.damage:.3f} nats"
        for r in rows[rows["kind"] == "target"].sort_values("dose").itertuples()
    )
    common: dict[str, Any] = {
        "y_label": f"fall in the rate of {words.events}",
        "y_needed": needed["min_effect"],
        "luck": luck,
    }
    curves = [k for k in kinds if k not in ("resampled", "second_target")]
    damage = xy_plot(
        _series(rows, "damage", curves),
        Axis(0.0, reach, root=True),
        effect_axis,
        label=f"{WINDOWS[window]}, fall in the rate of {words.events} against damage, candidate: {points}",
        x_label="damage, nats per token (root scale)",
        x_needed=needed["max_damage"],
        **common,
    )
    dose = xy_plot(
        _series(rows, "dose", curves),
        Axis(0.0, 1.06 * max(doses, default=1.0)),
        effect_axis,
        label=f"{WINDOWS[window]}, fall in the rate of {words.events} by dose, candidate: {points}",
        x_label="dose (1: at the target)",
        x_ticks=[0, *doses],
        x_text=dose_text,
        **common,
    )
    return {
        "title": WINDOWS[window],
        "damage": damage,
        "dose": dose,
        "selectivity": _selectivity_plot(at_one, needed, words, WINDOWS[window])
        if is_number(at_one.get("selectivity"))
        else "",
        "beyond": beyond if n_beyond else "",
        "by_lag": _by_lag(effects, window),
        "rows": _what_else_changed(effects, window),
    }


def _series(rows: pd.DataFrame, x: str, kinds: Sequence[str]) -> list[Series]:
    made = []
    for kind in kinds:
        for control, part in rows[rows["kind"] == kind].groupby("control", sort=True):
            part = part.dropna(subset=[x, "effect"]).sort_values("dose")
            labels = [dose_text(d) for d in part["dose"]]
            at, effect, low, high = (part[c].tolist() for c in (x, "effect", "effect_low", "effect_high"))
            name = KINDS[kind] + (f" {control + 1}" if control else "")
            made.append(Series(name, at, effect, low, high, labels, f"s-{kind}", MARKERS[kind], kind == "target"))
    return made


def _selectivity_plot(row: Mapping[str, Any], needed: Mapping[str, float], words: Words, title: str) -> Markup:
    """The candidate at dose 1, each control at the same damage, and the selectivity."""
    values: dict[str, Any] = {
        kind: row.get(f"{kind}_effect") for kind in ("matched_feature", "swapped_fit", "random_subspace", "resampled")
    }
    effect, selectivity = (_with_interval(row, name) for name in ("effect", "selectivity"))
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
    axis = axis_around(
        [v for r in lines for v in (r.value, r.low, r.high)],
        include=(0.0, needed["min_effect"], needed["min_selectivity"]),
    )
    label = f"{title}, at equal damage: " + "; ".join(f"{r.label} {interval(r.value, r.low, r.high)}" for r in lines)
    return interval_plot(lines, axis, label=label, x_label=f"fall in the rate of {words.events}", right=46)


def _with_interval(row: Mapping[str, Any], name: str) -> tuple[Any, Any, Any]:
    return row.get(name), row.get(f"{name}_low"), row.get(f"{name}_high")


def _by_lag(effects: pd.DataFrame, window: str) -> dict[str, Markup]:
    """Two plots by seconds since the prefix's end, of the edits at dose 1.

    They show how much the edit changes what the model would play next (KL on the untouched clip's tokens), and how
    much the best match falls before the target window.
    """
    if effects.empty:
        return {}
    edited = effects[(effects["window"] == window) & (effects["dose"] == 1)]
    plots = {}
    for prefix, y_label, what in (
        ("kl_lag", "KL, nats per token", "how much the edit changes what is played next"),
        ("effect_score_lag", "fall of the best score", "fall of the score before the target window"),
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
        points_text = "; ".join(f"{one.name} {', '.join(number(v, 2) for v in one.y)}" for one in series)
        plots[prefix] = xy_plot(
            series,
            Axis(0.0, 1.06 * max([lag for lag, _ in lags] + [1.0])),
            axis_around(values, include=(0.0, 0.1), margin=0.04),
            label=f"{WINDOWS[window]}, {what} by second: {points_text}",
            x_label="seconds from the prefix's end",
            y_label=y_label,
        )
    return plots


def _what_else_changed(effects: pd.DataFrame, window: str) -> list[dict[str, str]]:
    """Mean over clips of effects, damage and acoustic shifts at dose 1, one row per kind of condition."""
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
                "silence": number(mean["shift_silence_fraction"], 2, sign=True),
                "first": number(part["first_difference_s"].median(), 1),
            }
        )
    return rows


def prefix_text(matched: pd.DataFrame, words: Words) -> str:
    """What editing the prefix alone does; empty if it was not tried."""
    rows = matched[(matched["window"] == "prefix_only") & (matched["kind"] == "target") & (matched["dose"] == 1)]
    if rows.empty:
        return ""
    effect, low, high = _with_interval(rows.iloc[0], "effect")
    return f"Edited in the prefix only, it takes away {interval(effect, low, high)} of the {words.events}."


def sufficiency_text(summary: pd.DataFrame, words: Words) -> str:
    """What the edit did to clips without an event; empty if it was not tried."""
    if summary.empty:
        return ""
    row = summary.iloc[0]

    def text(name: str) -> str:
        return interval(float(row[name]), float(row[f"{name}_low"]), float(row[f"{name}_high"]))

    return (
        f"Sufficiency: {row['n_clips']:.0f} clips of {row['n_prompts']:.0f} prompts in which {words.does_not_happen} "
        f"were given the candidate's value in clips with {words.an_event}. Then {text('rate_edited')} of them have "
        f"{words.an_event}, compared with {text('rate_untouched')} untouched: {text('gained')} more, and "
        f"{text('more_than_controls')} more than under the strongest control. The damage is {text('damage')} nats per "
        "token."
    )
