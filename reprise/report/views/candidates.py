"""Which candidates were tried, and what happened to them?"""

from typing import Any

from reprise.report.numbers import interval, number, p_text, percent
from reprise.report.results import Results
from reprise.saes.seed_stability import FOUND_AGAIN


def candidates_view(study: Results) -> list[dict[str, Any]]:
    """Every candidate that was tried, with its outcome."""
    judged = {c["title"]: c for c in study.verdict["candidates"]}
    rows = []
    for c in study.candidates.to_dict("records"):
        found = judged.get(c["title"], {})
        rows.append(
            {
                "candidate": c["title"],
                "horizon": c["horizon"].removeprefix("h").replace("-", "–") + " s",
                "z": number(c["z"], 1),
                "p": p_text(c["p"]),
                "q": p_text(c["q"]),
                "auroc": number(c["auroc"], 3),
                "active": percent(c["active_fraction"]),
                "gain": interval(
                    c["confirm_gain_auroc"], c["confirm_gain_auroc_low"], c["confirm_gain_auroc_high"], 3
                ),
                "confirm_p": p_text(c["confirm_p_adjusted"]),
                "again": found_again(study, c["layer"], [int(latent) for latent in c["latents"].split()]),
                "verdict": found.get("verdict", "") if c["confirmed"] else "not confirmed",
            }
        )
    return rows


def found_again(study: Results, layer: int, latents: list[int]) -> str:
    """How many of a candidate's latents come back in SAEs from other seeds, over all of them; "" if it has none."""
    if layer not in study.seeds or not latents:
        return ""
    table = study.seeds[layer]
    mine = table[table["latent"].isin(latents)]
    return f"{(mine['cosine'] >= FOUND_AGAIN).sum()} of {len(mine)}"


def seeds_text(study: Results) -> str:
    """What to compare `found_again` with; "" if every layer has one SAE only."""
    if not study.seeds:
        return ""
    n_seeds = next(iter(study.seeds.values()))["seed"].max() + 1
    of_all = [
        f"{percent((table['cosine'] >= FOUND_AGAIN).mean())} at layer {layer}" for layer, table in study.seeds.items()
    ]
    return (
        f"{n_seeds} SAEs were trained for each layer. A latent is found again in another SAE if one of its decoder "
        f"directions has a cosine of {FOUND_AGAIN:g} or more. Of all latents, the share found again is "
        f"{' and '.join(of_all)}."
    )
