"""The README's tables, from committed results."""

import re
from pathlib import Path
from typing import Any


def rewrite_readme(path: Path, records: list[dict[str, Any]], demo: dict[str, Any]) -> None:
    """Put the tables between their markers in the README."""
    text = path.read_text()
    for name, table in (("demo", demo_table(demo)), ("speed", speed_table(records))):
        pattern = rf"(<!-- {name}: [^\n]*-->\n).*?(<!-- /{name} -->)"
        text = re.sub(pattern, lambda found, table=table: f"{found[1]}{table}{found[2]}", text, flags=re.DOTALL)
    path.write_text(text)


def demo_table(demo: dict[str, Any]) -> str:
    """One row a gate and study: value, interval, threshold."""
    lines = ["| study | verdict | gate | value | interval | needed | passed |", "|---|---|---|---|---|---|---|"]
    for study, record in demo.items():
        for i, gate in enumerate(record["gates"]):
            head = (study, f"**{record['verdict']}**") if i == 0 else ("", "")
            interval = "" if gate["low"] is None else f"{gate['low']:.3g} to {gate['high']:.3g}"
            value = "" if gate["value"] is None else f"{gate['value']:.3g}"
            needed = "" if gate["threshold"] is None else f"{gate['threshold']:.3g}"
            passed = {True: "yes", False: "no", None: "not reached"}[gate["passed"]]
            lines.append(
                f"| {head[0]} | {head[1]} | {gate['name'].replace('_', ' ')} | {value} | {interval} | "
                f"{needed} | {passed} |"
            )
    return "\n".join(lines) + "\n"


def speed_table(records: list[dict[str, Any]]) -> str:
    """One row a benchmark."""
    lines = ["| benchmark | what | ours | against | ratio |", "|---|---|---|---|---|"]
    for r in records:
        lines.append(
            f"| `{r['name']}` | {r['what']} | {r['ours']} {r['unit']} | {r['against']} {r['unit']} | {r['ratio']} |"
        )
    if records:
        lines.append("")
        lines.append(f"Measured on {records[0]['machine']}.")
    return "\n".join(lines) + "\n"
