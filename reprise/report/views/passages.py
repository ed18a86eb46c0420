"""The marks of events and of their references in a clip's figure, and the scores below it."""

from reprise.report.figures.chromagrams import Window
from reprise.report.results import Edited, Results
from reprise.report.sound import ExampleClip
from reprise.targets.target import ScoreCurve
from reprise.targets.view import Words


def reference_windows(start_s: float, duration_s: float, words: Words) -> list[Window]:
    """The mark of an event's reference in figures; none if it has no reference."""
    return [Window(start_s, start_s + duration_s, "reference", words.reference)] if duration_s > 0 else []


def found_window(onset_s: float, duration_s: float, score: float, words: Words, *, counts: bool) -> Window:
    """The mark of a candidate, with its score. Onset and duration are in seconds. counts: whether it is an event."""
    style, text = ("event", f"{words.event} {score:.2f}") if counts else ("rejected", f"{score:.2f}")
    return Window(onset_s, onset_s + duration_s, style, text)


def score_curve(study: Results, clip: ExampleClip | Edited, start_s: float, duration_s: float) -> ScoreCurve:
    """The scores of a clip with its own reference, which starts at `start_s` and lasts `duration_s` (seconds)."""
    score = study.target.scorer(
        clip.audio, clip.sample_rate_hz, study.settings["events"], start_s=start_s, duration_s=duration_s
    )
    return score(clip.audio)
