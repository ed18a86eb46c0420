"""X"""

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
NO_EVENTS = "The motif never validly returned, so there was no return to foresee."
MECHANISMS = {
    "stored": "The plan is stored: editing the opening alone keeps {share} of the effect.",
    "recomputed": "The plan is recomputed on the way: editing the opening alone keeps {share} of the effect.",
    "undecided": "Whether the plan is stored or recomputed is open: editing the opening alone keeps {share} of "
    "the effect.",
}
