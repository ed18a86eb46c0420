"""What was already known when the study's settings were declared?"""

from collections.abc import Mapping
from typing import Any

KNOWN = {
    "nothing": "before any result was known",
    "events": "after events and certificates were known",
    "screens": "after screens were known",
    "probes": "after probes' results were known",
    "confirmations": "after candidates were confirmed",
    "effects": "after effects were known",
}


def declared_late(verdict: Mapping[str, Any]) -> list[str]:
    """Declarations that were made when results were already known, each as a sentence; [] if there are none."""
    entries = (verdict.get("preregistration") or {}).get("declarations", [])
    late = [entry for entry in entries if entry["known"] != "nothing"]
    return [f"{KNOWN[entry['known']]}: {'; '.join(entry['changed']) or 'the first declaration'}" for entry in late]
