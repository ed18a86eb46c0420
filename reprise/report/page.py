"""The report: from results to one self-contained HTML page.

Conventions. The page is a function of the arguments only. No file is read except the template next to this module,
nothing is fetched, and the page contains no date, so equal results give equal bytes. Audio is embedded as FLAC, mono,
16 bit, at most `reprise.report.sound.AUDIO_RATE_HZ`, up to `AUDIO_BYTES` for the whole page. For audio that does not
fit, the page names the file instead.

The content of each section is in reprise/report/views/, with one module per section. The figures are drawn in
reprise/report/figures/.

Degenerate input: a study without events, candidates or scored probes, and an SAE whose certificate was refused, give a
sentence that says so instead of the figure. A number that could not be computed (NaN, or null in JSON) is a dash.
"""

from collections.abc import Mapping, Sequence
from typing import Any

from reprise.report.results import Results
from reprise.report.sound import embed
from reprise.report.templating import page_template
from reprise.report.views.ablations import ablation_view
from reprise.report.views.calibration import calibration_view
from reprise.report.views.candidates import candidates_view, seeds_text
from reprise.report.views.certificates import certificate_view
from reprise.report.views.deciding import deciding_view
from reprise.report.views.declarations import declared_late
from reprise.report.views.events import events_view
from reprise.report.views.gain import gain_view
from reprise.report.views.labels import UNREVIEWED_PART, label_parts, labels_view
from reprise.report.views.players import players_view
from reprise.report.views.recordings import recordings_view
from reprise.report.views.reviews import reviews_view
from reprise.report.views.run import run_view
from reprise.report.views.verdict import is_organism, verdict_view
from reprise.targets.view import Words
from reprise.verdict.meanings import meanings

AUDIO_BYTES = 8_000_000  # of FLAC in the whole page; base64 adds a third


def study_view(study: Results, audio_bytes: int) -> dict[str, Any]:
    """Everything the template shows of one study."""
    verdict = verdict_view(study)
    ablations = [ablation_view(study, name) for name in sorted(study.matched) if len(study.matched[name])]
    never = [len(effects) for name, effects in study.effects.items() if not len(study.matched.get(name, ()))]
    # The candidate that decided comes first. Only its clips are played.
    ablations.sort(key=lambda a: a["verdict"] != verdict["name"])
    events = events_view(study)
    players = players_view(study, ablations[0]["name"]) if ablations else []
    cards = [*events["clips"], *(card for group in players for card in group["cards"])]
    for card, uri in zip(cards, embed([card["sound"] for card in cards], audio_bytes), strict=True):
        card["audio"] = uri
    return {
        "name": study.name,
        "words": study.target.view.words,
        "label_parts": label_parts(study.target.view.words),
        "model": study.model["name"],
        "organism": is_organism(study.card),
        "verdict": verdict,
        "gain": gain_view(study),
        "deciding": deciding_view(study),
        "recordings": recordings_view(study),
        "events": events,
        "reviews": reviews_view(study),
        "labels": labels_view(study),
        "certificates": certificate_view(study),
        "candidates": candidates_view(study),
        "seeds_text": seeds_text(study),
        "ablations": ablations,
        "nothing_to_take": any(never),
        "players": players,
        "played": ablations[0]["title"] if players else "",
        "run": run_view(study),
        "declared_late": declared_late(study.verdict),
        "altered": (study.verdict.get("preregistration") or {}).get("problems", []),
    }


def render(
    studies: Sequence[Results], *, title: str, calibration: Mapping[str, Mapping[str, int]] | None = None
) -> str:
    """The whole page. Organisms come after other models, in their own section.

    Parameters
    ----------
    studies : sequence of Results
        What is reported.
    title : str
        The title of the page.
    calibration : mapping, optional
        How often each organism got each verdict, `{organism: {verdict: count}}`.

    Returns
    -------
    str
        HTML.
    """
    share = AUDIO_BYTES // max(1, len(studies))
    views = [study_view(study, share) for study in studies]
    organisms = [v for v in views if v["organism"]]
    # The words of the page's own sentences: those of the target, if all studies have the same one.
    targets = {study.target.name: study.target.view.words for study in studies}
    words = next(iter(targets.values())) if len(targets) == 1 else Words()
    return page_template("report.html.j2").render(
        title=title,
        organisms=organisms,
        others=[v for v in views if not v["organism"]],
        calibration=calibration_view(calibration or {}),
        n_agree=sum(v["verdict"]["agrees"] is True for v in organisms),
        n_known=sum(v["verdict"]["agrees"] is not None for v in organisms),
        words=words,
        meanings=meanings(words),
        unreviewed_part=UNREVIEWED_PART,
    )
