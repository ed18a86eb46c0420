"""How much better the trained model predicts than the same model with random weights.

A network with random weights is a reservoir. It remembers past sound for longer than the baseline's window, and a
linear readout of it predicts a return too. So a conditional gain alone may be memory. The learned gain is the rest:
score(B+R) - score(B+M) in AUROC. R is a representation of the trained model, and M is the residual stream of the same
layer with random weights. Both use the same baseline B, folds and rows.

Interval: percentile bootstrap over prompts, with both predictions of a prompt together. p-value: under the null "R is
one more reservoir", the two predictions of a prompt can be exchanged. So each draw exchanges them prompt by prompt, by
fair coins (a paired permutation test; Pitman 1937). Neither includes the variance of refitting.

Limits. A gain over random weights need not be a plan: a better memory is learned too. A model that forgot what a
reservoir keeps can hold a plan and yet gain less. Only an edit shows whether the model uses what it carries.

Degenerate input: if a probe has no predictions, everything is NaN with a `note`.
"""

import numpy as np
import pandas as pd
from scipy.special import logit

from reprise.probing.scores import auroc, auroc_draws
from reprise.statistics import bootstrap_weights, p_value

KEYS = ["clip_id", "time_s"]


def learned_gain(
    trained: pd.DataFrame, random: pd.DataFrame, *, seed: int, n_bootstrap: int, n_swaps: int = 999
) -> dict[str, float | str]:
    """The learned gain, from the predictions of two probes of one question.

    Parameters
    ----------
    trained, random : DataFrame
        Predictions of `reprise.probing.probes.probe` for the trained and the random model. One row per usable grid
        point with clip_id, time_s, prompt, y and p_BR.
    seed : int
        For the bootstrap and the exchanges.
    n_bootstrap, n_swaps : int
        Number of bootstrap draws, and of draws that exchange predictions.

    Returns
    -------
    dict
        learned_auroc with _low and _high (95 %), p_learned, and note.

    Raises
    ------
    ValueError
        If both probes are scored but their rows or labels differ.
    """
    nothing = dict.fromkeys(("learned_auroc", "learned_auroc_low", "learned_auroc_high", "p_learned"), np.nan)
    for name, table in (("trained", trained), ("random", random)):
        if "p_BR" not in table:
            return nothing | {"note": f"the probe of the {name} model was not scored"}
    if not trained[[*KEYS, "y"]].reset_index(drop=True).equals(random[[*KEYS, "y"]].reset_index(drop=True)):
        raise ValueError("learned gain: rows or labels of the trained and the random model differ; valid: the same")
    y = trained["y"].to_numpy(float)
    groups = np.unique(trained["prompt"].to_numpy(), return_inverse=True)[1]
    r, m = (logit(np.clip(table["p_BR"].to_numpy(float), 1e-12, 1 - 1e-12)) for table in (trained, random))
    found = auroc(r, y) - auroc(m, y)
    weights = bootstrap_weights(groups.max() + 1, n_bootstrap, [seed, 2])
    draws = auroc_draws(r, y, groups, weights) - auroc_draws(m, y, groups, weights)
    low, high = np.nanpercentile(draws, [2.5, 97.5])
    rng = np.random.default_rng([seed, 5])
    null = []
    for _ in range(n_swaps):
        exchanged = (rng.random(groups.max() + 1) < 0.5)[groups]
        null.append(auroc(np.where(exchanged, m, r), y) - auroc(np.where(exchanged, r, m), y))
    return {
        "learned_auroc": float(found),
        "learned_auroc_low": float(low),
        "learned_auroc_high": float(high),
        "p_learned": p_value(found, null),
        "note": "",
    }
