"""The tables of the README and of the docs, from committed results."""

import json
import re
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from scipy.stats import binomtest

from reprise.organisms.truth import GROUND_TRUTH
from reprise.verdict.confusion import shares


def rewrite_pages(root: Path) -> None:
    """Put every table between its markers, in the README and in the pages of `docs/` of the project in `root`.

    A page without the markers of a table is left without it. Markers of an unknown table are an error.
    """
    tables = all_tables(root / "benchmarks")
    for path in (root / "README.md", *sorted((root / "docs").rglob("*.md"))):
        before = path.read_text(encoding="utf-8")
        text = with_tables(before, tables)
        if text != before:
            path.write_text(text, encoding="utf-8")


def with_tables(text: str, tables: Mapping[str, str]) -> str:
    """A page's text with each table between its markers: `<!-- NAME: who writes it -->` and `<!-- /NAME -->`.

    Raises ValueError for the markers of an unknown table.
    """
    unknown = set(re.findall(r"^<!-- /(\w+) -->$", text, re.MULTILINE)) - tables.keys()
    if unknown:
        raise ValueError(f"table: {', '.join(sorted(unknown))} unknown; valid: {', '.join(tables)}")
    for name, table in tables.items():
        pattern = rf"(<!-- {name}: [^\n]*-->\n).*?(<!-- /{name} -->)"
        text = re.sub(pattern, lambda found, table=table: f"{found[1]}\n{table}\n{found[2]}", text, flags=re.DOTALL)
    return text


def all_tables(measured: Path) -> dict[str, str]:
    """Every table by name, from the JSON files in the folder `measured`."""

    def read(name: str) -> Any:
        path = measured / f"{name}.json"
        return json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}

    return {
        "demo_short": demo_short_table(read("demo")),
        "demo": demo_table(read("demo")),
        "calibration": calibration_table(read("calibration")),
        "calibration_methods": calibration_methods_table(read("calibration_methods")),
        "candidate_costs": candidate_costs_table(read("demo")),
        "candidates": candidates_table(read("candidates")),
        "null_fits": null_fits_table(read("candidates")),
        "gpu": gpu_table(read("gpu")),
        "organisms": organisms_table(read("organisms")),
        "scale": scale_table(read("scale")),
        "seeds": seeds_table(read("seeds")),
        "speed": speed_table(read("results") or []),
        "labels": labels_table(read("labels")),
        "sections": sections_table(read("targets").get("section", {})),
        "releases": releases_table(read("targets").get("tension", {})),
        "discovery": discovery_table(read("targets").get("recurrence", {})),
        "true_size": true_size_table(read("true_size")),
        "statistics": statistics_table(read("statistics")),
    }


def statistics_table(found: dict[str, Any]) -> str:
    """One row per simulated rate."""
    if not found:
        return "Not measured yet.\n"
    lines = ["| simulated | of | share | 95 % interval | n |", "|---|---|---|---|---|"]
    for name, record in found.items():
        of_record = record.items() if "value" not in record else [("", record)]
        for what, r in of_record:
            lines.append(f"| {name} | {what} | {r['value']:.3f} | {r['low']:.3f} to {r['high']:.3f} | {r['n']} |")
    return "\n".join(lines) + "\n"


def demo_short_table(demo: dict[str, Any]) -> str:
    """One row per study: its verdict, and the four numbers behind it."""
    lines = [
        "| model organism | verdict | gain, AUROC | over random weights | returns removed | beyond controls |",
        "|---|---|---|---|---|---|",
    ]
    for study, record in sorted(demo.items(), reverse=True):
        gates = {gate["name"]: gate for gate in record["gates"]}
        cells = [_interval(gates[name]) for name in ("prediction", "learned", "effect", "selectivity")]
        lines.append(f"| {study.partition('-')[0]} | `{record['verdict']}` | {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"


def _interval(gate: Mapping[str, Any]) -> str:
    """A gate's value with its interval, or a dash if it was not reached."""
    if gate["value"] is None:
        return "–"
    return f"{gate['value']:.2f} ({gate['low']:.2f} to {gate['high']:.2f})"


def demo_table(demo: dict[str, Any]) -> str:
    """One row per gate and study: value, interval, threshold."""
    lines = ["| study | verdict | gate | value | interval | needed | outcome |", "|---|---|---|---|---|---|---|"]
    for study, record in demo.items():
        for i, gate in enumerate(record["gates"]):
            head = (study, f"**{record['verdict']}**") if i == 0 else ("", "")
            interval = "" if gate["low"] is None else f"{gate['low']:.3g} to {gate['high']:.3g}"
            value = "" if gate["value"] is None else f"{gate['value']:.3g}"
            needed = "" if gate["threshold"] is None else f"{gate['threshold']:.3g}"
            lines.append(
                f"| {head[0]} | {head[1]} | {gate['name'].replace('_', ' ')} | {value} | {interval} | "
                f"{needed} | {gate['outcome']} |"
            )
    return "\n".join(lines) + "\n"


def candidate_costs_table(demo: dict[str, Any]) -> str:
    """One row per candidate of the demo that was edited: seconds of each stage that follows it."""
    stages = ("ablate", "effects", "heads", "map")
    lines = [f"| candidate | continuations | {' | '.join(f'{s}, s' for s in stages)} |", "|---|---|---|---|---|---|"]
    for study, record in demo.items():
        for cost in record.get("costs", []):
            cells = [f"{cost[s]:.0f}" if s in cost else "" for s in stages]
            lines.append(f"| {study}: {cost['title']} | {cost['continuations']} | {' | '.join(cells)} |")
    return "\n".join(lines) + "\n" if len(lines) > 2 else "Not measured yet.\n"


def candidates_table(found: dict[str, Any]) -> str:
    """One row per kind of study in which candidates were sought, then the verdicts at other settings."""
    if not found:
        return "Not measured yet.\n"
    own = Counter(one["verdict"] for one in found["studies"]["own_sae"].values())
    rows = {"planner, SAEs trained on its own clips": own}
    rows |= {f"{model}, no SAE": Counter(counts) for model, counts in found["no_sae"].items()}
    rows |= {f"planner, {name.replace('-', ' ')}": Counter([verdict]) for name, verdict in found["settings"].items()}
    lines = ["| studies of | runs | verdicts | `foresight` |", "|---|---|---|---|"]
    for title, counts in rows.items():
        if n := counts.total():
            named = ", ".join(f"{verdict} {k}" for verdict, k in counts.most_common())
            lines.append(f"| {title} | {n} | {named} | {_share(counts['foresight'], n)} |")
    by_kind = found["own_sae"]["by_kind"]
    if own.total():
        named = ", ".join(f"{kind.replace('_', ' ')} in {k}" for kind, k in sorted(by_kind.items()))
        lines += ["", f"With SAEs trained on its own clips, `foresight` was shown by: {named or 'no kind'}."]
    if heads := found["heads"]:
        lines += [
            "",
            f"Heads: attribution ranks them as patching every one of them does to {heads['rank_correlation']:.2f} "
            f"(Spearman), at {heads['cost_ratio']:.2f} of the cost, with {heads['n_heads']} heads.",
        ]
    return "\n".join(lines) + "\n"


def null_fits_table(found: dict[str, Any]) -> str:
    """One row per model and kind: how far fits on exchanged labels came."""
    lines = [
        "| model | kind | fits | confirmed | effective too | selective too | share |",
        "|---|---|---|---|---|---|---|",
    ]
    for model, kinds in found.get("null_fits", {}).items():
        for kind, n in kinds.items():
            counts = " | ".join(str(n[what]) for what in ("fits", "confirmed", "effective", "selective"))
            lines.append(f"| {model} | {kind.replace('_', ' ')} | {counts} | {_share(n['selective'], n['fits'])} |")
    return "\n".join(lines) + "\n" if len(lines) > 2 else "Not measured yet.\n"


def _share(k: int, n: int) -> str:
    """A share with its exact 95 % interval (Clopper & Pearson 1934)."""
    ends = binomtest(k, n).proportion_ci(method="exact")
    return f"{k / n:.2f} ({ends.low:.2f} to {ends.high:.2f})"


def gpu_table(found: dict[str, Any]) -> str:
    """What was measured on a GPU: correctness first, then seconds of music per second."""
    if not found:
        return "Not run on a GPU yet.\n"
    versions = ", ".join(f"{name} {version}" for name, version in found["versions"].items())
    lines = [f"Measured on {found['card']}, {versions}.", ""]
    for part in ("tokens", "dose_0", "half", "memory", "capture", "study"):
        lines.append(f"- {part.replace('_', ' ')}: {json.dumps(found.get(part, 'not run'))}")
    speeds = {size: of for size, of in found.get("generation", {}).items() if isinstance(of, dict)}
    if speeds:
        lines += ["", "| model | clips | ours | transformers | audiocraft |", "|---|---|---|---|---|"]
    for size, libraries in speeds.items():
        for rows in libraries["ours"]:
            cells = [str(libraries.get(name, {}).get(rows, "")) for name in ("ours", "transformers", "audiocraft")]
            lines.append(f"| {size} | {rows} | {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"


def scale_table(found: dict[str, Any]) -> str:
    """How long a study of 10,000 prompts would take, and its disk."""
    if not found:
        return "Not simulated yet.\n"
    disk = ", ".join(f"{name} {size:,} GB" for name, size in found["disk_gb"].items())
    hours = ", ".join(f"{stage} {value:,} h" for stage, value in found["total_hours"].items())
    said = "estimates" if found["card"] == "estimated" else f"measurements on {found['card']}"
    lines = [
        f"{found['n_clips']:,} clips, {found['n_jobs']:,} jobs, planned in {found['planned_s']:g} s. Seconds on a "
        f"card are {said}.",
        "",
        f"| cards, each with {found['cores_a_card']} cores | hours |",
        "|---|---|",
        *(f"| {n} | {value:,} |" for n, value in found["hours"].items()),
        "",
        f"All jobs of a stage together: {hours}.",
        "",
        f"Disk: {disk}.",
    ]
    return "\n".join(lines) + "\n"


def seeds_table(measured: dict[str, Any]) -> str:
    """One row per study of the demo at other seeds, and the predicted and the measured power."""
    if not measured:
        return "Not measured yet.\n"
    lines = [
        "| study, seeds | verdict | gain | over random weights | effect | selectivity |",
        "|---|---|---|---|---|---|",
    ]
    for study, record in measured["verdicts"].items():
        gates = {gate["name"]: gate for gate in record["gates"]}
        cells = [
            "" if gates[name]["value"] is None else _interval(gates[name])
            for name in ("prediction", "learned", "effect", "selectivity")
        ]
        lines.append(f"| {study.replace('-', ' ', 1)} | {record['verdict']} | {' | '.join(cells)} |")
    found = measured["power"]
    if found["n"]:
        lines += [
            "",
            f"Power: pilots of 24 prompts promised {found['promised']:.0%} for the sizes that they advised; of "
            f"{found['n']} studies of these sizes {found['value']:.0%} decided "
            f"({found['low']:.0%} to {found['high']:.0%}).",
        ]
    return "\n".join(lines) + "\n"


def calibration_table(counts: dict[str, dict[str, int]]) -> str:
    """One row per organism: truth, verdicts and fractions with their intervals, from `snakemake calibration`."""
    if not counts:
        return "Not counted yet.\n"
    lines = ["| organism | built to be | runs | verdicts | right | `foresight` |", "|---|---|---|---|---|---|"]
    truth = {name: known["verdict"] for name, known in GROUND_TRUTH.items()}
    for r in shares(counts, truth).to_dict("records"):
        given = ", ".join(f"{verdict} {n}" for verdict, n in counts[r["organism"]].items() if n)
        right, foresight = (
            f"{100 * r[f'{name}_fraction']:.0f}% ({100 * r[f'{name}_low']:.0f} to {100 * r[f'{name}_high']:.0f})"
            for name in ("right", "foresight")
        )
        lines.append(f"| {r['organism']} | {r['truth']} | {r['n_runs']} | {given} | {right} | {foresight} |")
    return "\n".join(lines) + "\n"


def calibration_methods_table(found: dict[str, dict[str, dict[str, int]]]) -> str:
    """One row per method: how often it is right about each organism, and says foresight where there is none."""
    if not found:
        return "Not counted yet.\n"
    truth = {name: known["verdict"] for name, known in GROUND_TRUTH.items()}
    organisms = list(next(iter(found.values())))
    heads = " | ".join(f"{name} (`{truth[name]}`)" for name in organisms)
    lines = [f"| method | {heads} | false `foresight` |", f"|---|{'---|' * (len(organisms) + 1)}"]
    for method, counts in found.items():
        runs = {name: sum(of.values()) for name, of in counts.items()}
        right = [f"{counts[name].get(truth[name], 0)} of {runs[name]}" for name in organisms]
        others = [name for name in organisms if truth[name] != "foresight"]
        k, n = sum(counts[name].get("foresight", 0) for name in others), sum(runs[name] for name in others)
        low, high = binomtest(k, n).proportion_ci() if n else (0.0, 1.0)
        false = f"{k} of {n} ({100 * low:.0f}% to {100 * high:.0f}%)"
        lines.append(f"| {method.replace('_', ' ')} | {' | '.join(right)} | {false} |")
    return "\n".join(lines) + "\n"


def organisms_table(found: dict[str, Any]) -> str:
    """One row per gate of each organism."""
    if not found:
        return "Not checked yet.\n"
    lines = ["| organism | figure | value | needed | passed |", "|---|---|---|---|---|"]
    for name, of in found.items():
        for gate in of["gates"]:
            figure, needed = gate["figure"].replace("_", " "), f"{gate['needed']} {gate['threshold']:g}"
            passed = "yes" if gate["passed"] else "no"
            lines.append(f"| {name} | {figure} | {gate['value']:.2f} | {needed} | {passed} |")
    return "\n".join(lines) + "\n"


def speed_table(records: list[dict[str, Any]]) -> str:
    """One row per benchmark."""
    lines = ["| benchmark | what | ours | against | ratio |", "|---|---|---|---|---|"]
    for r in records:
        lines.append(
            f"| `{r['name']}` | {r['what']} | {r['ours']} {r['unit']} | {r['against']} {r['unit']} | {r['ratio']} |"
        )
    if records:
        lines.append("")
        lines.append(f"Measured on {records[0]['machine']}.")
    return "\n".join(lines) + "\n"


def true_size_table(measured: dict[str, Any]) -> str:
    """One row per stage on a model of musicgen-small's size: jobs, seconds, peak memory."""
    if not measured:
        return "Not measured yet.\n"
    edited = measured["ablation"]
    stages = measured["stages"] | {"ablate (by itself)": {"jobs": 1, **edited}}
    lines = ["| stage | jobs | time | peak memory of a job |", "|---|---|---|---|"]
    lines += [
        f"| {stage.replace('_', ' ')} | {of['jobs']:.0f} | {of['seconds']:.0f} s | {of['peak_mb']:.0f} MB |"
        for stage, of in stages.items()
    ]
    found = measured["certificate"]
    lines += [
        "",
        f"{measured['n_clips']} clips of {measured['duration_s']:g} s with guidance; the ablation continued "
        f"{edited['rows']:.0f} rows. The SAE, trained on those few clips, has FVU {found['fvu']:.2f} at L0 "
        f"{found['l0']:.0f} on others.",
    ]
    return "\n".join(lines) + "\n"


# Rows of the labels table: section, comparison in it, title.
LABEL_ROWS = (
    ("tunes", "after_other_music", "tunes, as written"),
    ("tunes", "in_another_key_and_tempo", "the same, then in another key and tempo"),
    ("planted", "against_plain", "planted returns and decoys, with noise"),
    ("sonatas", "after_other_music", "Beethoven sonatas, annotated"),
    ("sonatas_sampled", "after_other_music", "the same, played by a sampled piano"),
)
METHODS = {"ours": "ours", "plain": "plain", "plain_any_key": "plain, any key"}


def labels_table(labels: dict[str, Any]) -> str:
    """One row per comparison and method, then a sentence on planted returns and decoys."""

    def cell(number: dict[str, float]) -> str:
        return f"{number['value']:.2f} ({number['low']:.2f} to {number['high']:.2f})"

    lines = ["| returns in | n | method | precision | recall | F1 |", "|---|---|---|---|---|---|"]
    for section, comparison, title in LABEL_ROWS:
        if section not in labels:
            continue
        record = labels[section][comparison]["all"]
        for method, name in METHODS.items():
            first = method == "ours"
            head = f"{title} | {record['n_returns']} in {record['n_clips']} clips" if first else " | "
            numbers = " | ".join(cell(record[method][rate]) for rate in ("precision", "recall", "f1"))
            lines.append(f"| {head} | {name} | {numbers} |")
    if "planted" in labels:
        planted = labels["planted"]
        recalls = [planted["returns"][kind]["10 dB"] for kind in ("exact", "transposed")]
        worst_s = max(r["median_onset_error_s"] for r in recalls)
        shares = {
            kind: planted["against_plain"][kind]["plain_any_key"]["clips_with_a_false_event"]
            for kind in planted["decoys"]
        }
        n_plain = {kind: round(r["value"] * r["n"]) for kind, r in shares.items()}
        n = sum(r["n"] for r in shares.values())
        lines += [
            "",
            f"Of planted returns at 10 dB of signal to noise, exact ones are found in {_percent(recalls[0])} and",
            f"transposed ones in {_percent(recalls[1])}, the median onset off by {worst_s:.2f} s.",
            "Decoys (drones, loops, the same chords, another tune, too slow or too fast) give a false event in",
            f"{_percent(planted['all_decoys'])}; by the plain method in any key, in {sum(n_plain.values())} of {n},",
            f"of which {n_plain['loop']} are loops.",
        ]
    return "\n".join(lines) + "\n"


SECTION_ROWS = {
    "timbre": "another instrument",
    "key": "another key",
    "texture": "chords come or go",
    "material": "another riff",
    "strains": "the second strain of a tune",
}
DECOY_ROWS = {
    "odd_bar": "one odd bar",
    "fade": "a fade",
    "noise": "noise",
    "drift": "one instrument becomes another, slowly",
    "tune": "a tune",
    "loop": "a riff",
    "chords": "a tune with chords",
    "all_decoys": "all of these",
}


def sections_table(sections: dict[str, Any]) -> str:
    """One row per kind of section with what each method finds, and a sentence on clips without one."""
    if not sections:
        return "Not measured yet.\n"
    near, far = "found_within_0.5_s", "found_within_3_s"
    lines = ["| what changes | n | method | found within 0.5 s | within 3 s |", "|---|---|---|---|---|"]
    for kind, title in SECTION_ROWS.items():
        record = sections[kind]
        for method, name in {"": "ours", "novelty_": "novelty", "librosa_": "librosa, told that there is one"}.items():
            head = f"{title} | {record[near]['n']}" if not method else " | "
            lines.append(f"| {head} | {name} | {_cell(record[method + near])} | {_cell(record[method + far])} |")
    return "\n".join([*lines, *_decoy_lines("nothing begins", sections, DECOY_ROWS)]) + "\n"


RELEASE_ROWS = {
    "cadence": "a cadence",
    "soft_cadence": "a cadence, after a swell and then soft",
}
OPEN_ROWS = {
    "unresolved": "the build-up goes on",
    "deceptive": "another chord of the key comes and stays",
    "wandering": "chords of other keys follow",
    "reverse": "rest first, then the build-up",
    "opening": "the tonic with short chords between",
    "swell": "the same, louder and then soft",
    "key_chords": "chords of the key without its dominant",
    "any_chords": "chords on any note",
    "tune": "a melody alone",
    "drone": "a fifth",
    "noise": "noise",
    "all_decoys": "all of these",
}


def releases_table(releases: dict[str, Any]) -> str:
    """One row per kind of release with what each method finds, and one per kind of clip without one."""
    if not releases:
        return "Not measured yet.\n"
    near = "found_within_0.5_s"
    lines = ["| the release | n | found within 0.5 s | by tensile strain | another event |", "|---|---|---|---|---|"]
    for kind, title in RELEASE_ROWS.items():
        record = releases[kind]
        cells = (_cell(record[name]) for name in (near, f"strain_{near}", "clips_with_a_false_event"))
        lines.append(f"| {title} | {record[near]['n']} | {' | '.join(cells)} |")
    return "\n".join([*lines, *_decoy_lines("nothing is released", releases, OPEN_ROWS)]) + "\n"


DISCOVERED_ROWS = {
    "exact": "unchanged",
    "transposed": "in another key",
    "tempo": "at another tempo",
    "tempo_transposed": "at another tempo and in another key",
    "drone": "no return: a drone",
    "loop": "no return: one bar again and again",
    "chords": "no return: the same chords, another melody",
    "tune": "no return: other tunes",
    "stretched": "no return: too fast or too slow",
}
PATTERN_METHODS = {"ours": "ours", "chance": "chance", "diagonals": "diagonals (Nieto and Farbood 2014)"}


def discovery_table(measured: dict[str, Any]) -> str:
    """One row per kind of planted clip, and one per method on whole movements."""
    if not measured:
        return "Not measured yet.\n"
    kinds = {kind: measured[f"discovered_{kind}"] for kind in DISCOVERED_ROWS}
    counts = sorted(int(name.split("_")[2]) for name in kinds["exact"])
    heads = " | ".join(f"{n} surrogates" for n in counts)
    lines = [f"| the motif comes back | n | {heads} |", "|---|---|---|---|"]
    for kind, title in DISCOVERED_ROWS.items():
        found = [next(v for name, v in kinds[kind].items() if name.split("_")[2] == str(n)) for n in counts]
        lines.append(f"| {title} | {found[0]['n']} | {' | '.join(map(_cell, found))} |")
    movements = measured.get("movements")
    if movements:
        scores = {
            "establishment_f1": "establishment F1",
            "occurrence_f1": "occurrence F1",
            "three_layer_f1": "three-layer F1",
        }
        lines += [
            "",
            f"| patterns of a movement | {' | '.join(scores.values())} | patterns |",
            "|---|---|---|---|---|",
        ]
        for method, name in PATTERN_METHODS.items():
            cells = [_cell(movements[f"{method}_{score}"]) for score in scores]
            lines.append(f"| {name} | {' | '.join(cells)} | {movements[f'{method}_patterns']['value']:.0f} |")
        cost = movements["seconds_for_a_minute"]
        lines += ["", f"{cost['n']} movements; a minute of music took {cost['value']:.1f} s (median)."]
    return "\n".join(lines) + "\n"


def _decoy_lines(title: str, measured: dict[str, Any], rows: dict[str, str]) -> list[str]:
    """A table of false events in clips without any event, one row per kind."""
    head = ["", f"| {title} | clips with a false event |", "|---|---|"]
    return head + [f"| {name} | {_cell(measured[kind]['clips_with_a_false_event'])} |" for kind, name in rows.items()]


def _cell(number: dict[str, float]) -> str:
    return f"{number['value']:.2f} ({number['low']:.2f} to {number['high']:.2f})"


def _percent(number: dict[str, float]) -> str:
    low, high = 100 * number["low"], 100 * number["high"]
    return f"{100 * number['value']:.1f}% of {number['n']} clips ({low:.1f} to {high:.1f})"
