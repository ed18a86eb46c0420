"""What each verdict means: first what was measured, then one sentence for readers. No other module defines this.

Verdicts, for a study and for each of its candidate features:

    foresight    predicts at the long horizon, and removing it changes the event, selectively
    entangled    as above, but not selectively, or only by wrecking the music
    local        predicts at shorter horizons only
    correlate    predicts at the long horizon; a feature was edited, and does not change the event
    unresolved   too little data, or intervals too wide, to say any of these; or nothing was tested that could say it
    none         nothing to predict, or nothing that the model learned predicts it

reprise/verdict/gates.py decides which of them a study gets.
"""

from reprise.targets.view import Words

VERDICTS = ("foresight", "entangled", "local", "correlate", "unresolved", "none")

_MEANINGS = {
    "foresight": "Something in the model predicts far ahead that {w.will_happen}. Removing it removes the {w.event}, "
    "more than controls that harm the music equally.",
    "entangled": "Something in the model predicts far ahead that {w.will_happen}. But removing it does no more to the "
    "{w.event} than controls that harm the music equally, or it wrecks the music.",
    "local": "{an_event} can be predicted shortly before it begins, but not further ahead.",
    "correlate": "Something in the model predicts far ahead that {w.will_happen}. But removing it does not remove the "
    "{w.event}.",
    "unresolved": "There was too little data, or it was too imprecise, to say whether the model plans its {w.events}.",
    "none": "Nothing that the model learned predicts far ahead that {w.will_happen}, beyond position, prompt, the "
    "sound so far, and the memory that a model with random weights has too.",
}
# Whether writing a candidate into clips without an event brings one about.
SUFFICIENT = {
    "shown": "It is necessary and sufficient: written into other clips, it brings the event about.",
    "not shown": "It is necessary. Whether it is sufficient is not decided.",
    "excluded": "It is necessary, but not sufficient: written into other clips, it does not bring the event about.",
}
# Where the effect of a candidate comes from; `{share}` is the part of it that editing the opening alone keeps.
MECHANISMS = {
    "stored": "The plan is stored: editing the opening alone keeps {share} of the effect.",
    "recomputed": "The plan is recomputed later: editing the opening alone keeps {share} of the effect.",
    "undecided": "It is undecided whether the plan is stored or recomputed: editing the opening alone keeps {share} "
    "of the effect.",
}


def meanings(words: Words) -> dict[str, str]:
    """What each verdict means for a target, in one sentence or two."""
    first = words.an_event[:1].upper() + words.an_event[1:]
    return {name: text.format(w=words, an_event=first) for name, text in _MEANINGS.items()}


def no_events(words: Words) -> str:
    """Used instead of the meaning of `none` if there was nothing to predict."""
    return f"No clip has a valid {words.event}, so there was nothing to predict."
