"""The marks of the motif and its returns in a clip's figure, and the motif to compare with."""

from reprise.report.figures.chromagrams import Window
from reprise.report.results import Edited
from reprise.report.sound import ExampleClip
from reprise.targets.recurrence.matching import Motif, motif_template


def motif_window(start_s: float, duration_s: float) -> Window:
    """The mark of the motif in figures."""
    return Window(start_s, start_s + duration_s, "motif", "motif")


def found_window(onset_s: float, duration_s: float, score: float, counts: bool) -> Window:
    """The mark of a match, with its score."""
    style, text = ("return", f"return {score:.2f}") if counts else ("rejected", f"{score:.2f}")
    return Window(onset_s, onset_s + duration_s, style, text)


def template_of(clip: ExampleClip | Edited, motif: Window) -> Motif:
    duration_s = motif.stop_s - motif.start_s
    return motif_template(clip.audio, clip.sample_rate_hz, start_s=motif.start_s, duration_s=duration_s)
