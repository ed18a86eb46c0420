"""What does each verdict mean? The one place that says so: first what was measured, then in a sentence for readers.

Verdicts, for a study and for each of its candidate features:

    foresight    predicts at the long horizon, and taking it out changes the return, selectively
    entangled    as above, but not selectively, or only by wrecking the music
    local        predicts at shorter horizons only
    correlate    predicts at the long horizon; a feature was edited, and does not move the return
    unresolved   too little data, or intervals too wide, to say any of these; or nothing was tested that could say it
    none         nothing to predict, or nothing that the model learned predicts it

Which of them a study gets is decided in reprise/verdict/gates.py.
"""

VERDICTS = ("foresight", "entangled", "local", "correlate", "unresolved", "none")

MEANINGS = {
    "foresight": "Something in the model says far ahead that the motif will return, and taking it out takes the "
    "return away, more than controls that harm the music as much.",
    "entangled": "Something in the model says far ahead that the motif will return, but taking it out does no more to "
    "the return than controls that harm the music as much, or it wrecks the music.",
    "local": "A return can be predicted shortly before it begins, but not further ahead.",
    "correlate": "Something in the model says far ahead that the motif will return, but it was taken out, and that "
    "does not take the return away.",
    "unresolved": "There was too little data, or it was too imprecise, to say whether the model plans its returns.",
    "none": "Nothing that the model learned says far ahead that the motif will return, beyond what position, prompt, "
    "the sound so far, and a memory that random weights have too say already.",
}
# In place of the meaning of `none`, where there was nothing to predict.
NO_EVENTS = "The motif never validly returned, so there was no return to foresee."
# Where the effect of a candidate comes from; `{share}` is the share that editing the opening alone keeps.
MECHANISMS = {
    "stored": "The plan is stored: editing the opening alone keeps {share} of the effect.",
    "recomputed": "The plan is recomputed on the way: editing the opening alone keeps {share} of the effect.",
    "undecided": "Whether the plan is stored or recomputed is open: editing the opening alone keeps {share} of "
    "the effect.",
}
