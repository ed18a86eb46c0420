"""The words and marks of every kind of edit: what was edited, and when."""

KINDS = {
    "target": "candidate",
    "second_target": "second target",
    "swapped_fit": "fit on swapped labels",
    "matched_feature": "matched features",
    "random_subspace": "random subspace",
    "local_feature": "local feature",
    "resampled": "fresh noise",
}
MARKERS = {
    "target": "circle",
    "second_target": "diamond",
    "swapped_fit": "diamond",
    "matched_feature": "square",
    "random_subspace": "triangle",
    "local_feature": "square",
    "resampled": "bar",
}
WINDOWS = {"until_event": "Edited until the event", "prefix_only": "Edited in the prefix only"}


def dose_text(dose: float) -> str:
    """A dose as short text: ½, 1."""
    return {0.25: "¼", 0.5: "½", 0.75: "¾"}.get(dose, f"{dose:g}")
