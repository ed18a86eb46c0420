"""What a calibration run answers by each method: the verdict, a kind of candidate alone, or a plain method of today.

- `verdict`: that of the study.
- a kind of candidate: the best verdict of its candidates, if the gates before them pass; otherwise the study's. So it
  is what a study would say that tried this kind alone, but for the correction, which counts all that were tried.
- `raw probe`: `foresight` if a linear probe reaches `PLAIN_AUROC` at the long horizon, without baseline and nulls.
- `plain feature`: `foresight` if `min_effect` of the events go when the latent that best separates clips with an event
  is set to zero, without held-out prompts, controls and damage.
- `plain mean difference`: the same for the difference of the class means, set to the mean of clips without an event.

The plain methods otherwise answer `none`.

Degenerate input: what could not be computed (NaN) is no foresight. A kind without an edited candidate is `unresolved`.
"""

from collections.abc import Mapping, Sequence
from typing import Any

from reprise.verdict.gates import CANDIDATE_GATES, PASSED, RANK

PLAIN_AUROC = 0.6
PLAIN_EDITS = ("feature", "mean_difference")


def answers(
    record: Mapping[str, Any], aurocs: Sequence[float], plain: Mapping[str, float], *, kinds: Sequence[str]
) -> dict[str, str]:
    """The answer of each method in one run.

    Parameters
    ----------
    record : mapping
        The study's verdict, as `gates.verdict` makes it.
    aurocs : sequence of float
        AUROC of each probe of evidence at the long horizon, by itself.
    plain : mapping
        By name of a plain edit, the fraction of events that it takes away.
    kinds : sequence of str
        The kinds of candidates that were tried.

    Returns
    -------
    dict
    """
    early = [gate for gate in record["gates"] if gate["name"] not in CANDIDATE_GATES]
    reached = all(gate["outcome"] == PASSED for gate in early)
    found = {"verdict": record["verdict"]}
    for kind in kinds:
        verdicts = {c["verdict"] for c in record["candidates"] if c["kind"] == kind and c["edited"]}
        best = next((name for name in RANK if name in verdicts), "unresolved")
        found[kind] = best if reached else record["verdict"]
    found["raw probe"] = foresees(max(aurocs, default=float("nan")), PLAIN_AUROC)
    least = record["thresholds"]["min_effect"]
    return found | {f"plain {name.replace('_', ' ')}": foresees(plain[name], least) for name in PLAIN_EDITS}


def foresees(value: float, least: float) -> str:
    """`foresight` if a value reaches the least that is asked, else `none`."""
    return "foresight" if value >= least else "none"
