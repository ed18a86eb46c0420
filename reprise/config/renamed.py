"""Fields that were renamed. The old name still works for one release, with a warning.

Degenerate input: values that are not mappings are left unchanged; `validate` reports them.
"""

from collections.abc import Mapping
from typing import Any

from reprise.config.errors import ConfigError

# Group, old name, new name.
RENAMED = (
    ("generation", "rows", "batch_size"),
    ("ablation", "halves", "cfg_branches"),
    ("ablation", "n_matched", "n_controls"),
    ("ablation", "n_steered", "n_sufficiency"),
    ("events", "surrogate_segment_share", "surrogate_segment_fraction"),
    ("screen", "confirm_share", "confirm_fraction"),
    ("verdict", "min_stored_share", "min_stored_fraction"),
)


def with_new_names(raw: Any) -> tuple[Any, list[str]]:
    """The configuration with the current names, and one warning for each field that has an old name.

    Raises ConfigError if a field is given under both names.
    """
    if not isinstance(raw, Mapping):
        return raw, []
    warnings: list[str] = []
    both: list[str] = []

    def renamed(fields: Any, where: str) -> Any:
        if not isinstance(fields, Mapping):
            return fields
        out = dict(fields)
        for group, old, new in RENAMED:
            inside = out.get(group)
            if not isinstance(inside, Mapping) or old not in inside:
                continue
            text = f"{where}.{group}.{old}"
            if new in inside:
                both.append(f"{text}: also given under its new name {new}; valid: only {new}")
            warnings.append(f"{text} is now called {new}; the old name works until the next release")
            out[group] = {
                new if key == old else key: value for key, value in inside.items() if key != old or new not in inside
            }
        return out

    out = dict(raw)
    if "defaults" in out:
        out["defaults"] = renamed(out["defaults"], "defaults")
    if isinstance(out.get("studies"), Mapping):
        out["studies"] = {name: renamed(study, f"studies.{name}") for name, study in out["studies"].items()}
    if both:
        raise ConfigError(both)
    return out, warnings
