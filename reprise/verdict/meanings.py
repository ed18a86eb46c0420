"""What each verdict means: first what was measured, then one sentence for readers. No other module defines this.

Verdicts, for a study and for each of its candidate features:

    foresight    predicts at the long horizon, and removing it changes the return, selectively
    entangled    as above, but not selectively, or only by wrecking the music
    local        predicts at shorter horizons only
    correlate    predicts at the long horizon; a feature was edited, and does not change the return
    unresolved   too little data, or intervals too wide, to say any of these; or nothing was tested that could say it
    none         nothing to predict, or nothing that the model learned predicts it

reprise/verdict/gates.py decides which of them a study gets.
"""

VERDICTS = ("foresight", "entangled", "local", "correlate", "unresolved", "none")

MEANINGS = {
    "foresight": "Something in the model predicts far ahead that the motif will return. Removing it removes the "
    "return, more than controls that harm the music equally.",
    "entangled": "Something in the model predicts far ahead that the motif will return. But removing it does no more "
    "to the return than controls that harm the music equally, or it wrecks the music.",
    "local": "A return can be predicted shortly before it begins, but not further ahead.",
    "correlate": "Something in the model predicts far ahead that the motif will return. But removing it does not "
    "remove the return.",
    "unresolved": "There was too little data, or it was too imprecise, to say whether the model plans its returns.",
    "none": "Nothing that the model learned predicts far ahead that the motif will return, beyond position, prompt, "
    "the sound so far, and the memory that a model with random weights has too.",
}
# Used instead of the meaning of `none` if there was nothing to predict.
NO_EVENTS = "The motif never validly returned, so there was no return to predict."
# Where the effect of a candidate comes from; `{share}` is the part of it that editing the opening alone keeps.
MECHANISMS = {
    "stored": "The plan is stored: editing the opening alone keeps {share} of the effect.",
    "recomputed": "The plan is recomputed later: editing the opening alone keeps {share} of the effect.",
    "undecided": "It is undecided whether the plan is stored or recomputed: editing the opening alone keeps {share} "
    "of the effect.",
}
