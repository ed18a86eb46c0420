"""The words and marks of every kind of edit: what was edited, and when."""

KINDS = {
    "target": "candidate feature",
    "mean_difference": "mean difference",
    "matched_feature": "matched feature",
    "random_direction": "random direction",
    "local_feature": "local feature",
    "resampled": "fresh noise",
}
MARKERS = {
    "target": "circle",
    "mean_difference": "diamond",
    "matched_feature": "square",
    "random_direction": "triangle",
    "local_feature": "square",
    "resampled": "bar",
}
WINDOWS = {"until_event": "Edited until the event", "prefix_only": "Edited in the prefix only"}


def dose_text(dose: float) -> str:
    """A dose as short text: ½, 1."""
    return {0.25: "¼", 0.5: "½", 0.75: "¾"}.get(dose, f"{dose:g}")
