"""What each organism was built to be, and therefore the verdict that a study of it should reach."""

GROUND_TRUTH = {
    "planner": {
        "verdict": "foresight",
        "because": "the cue it plays in its first bar decides whether the motif returns, and only a planted direction "
        "carries this to later layers",
    },
    "improviser": {
        "verdict": "none",
        "because": "the music, cue, planted direction and rate of returns are the same, but whether the motif returns "
        "does not depend on anything before the return",
    },
    "clockwork": {
        "verdict": "none",
        "because": "the words of the prompt, which the baseline knows, decide whether and where the motif returns",
    },
    "loop": {
        "verdict": "none",
        "because": "every bar repeats the motif, so there is never other music in between and no valid return",
    },
    "ensemble": {
        "verdict": "foresight",
        "because": "the cue decides, and several directions that take turns carry this to later layers, so that none "
        "of them is needed",
    },
    "bystander": {
        "verdict": "correlate",
        "because": "a direction carries the cue, but nothing reads it: the cue is looked up when the return is due",
    },
    "herald": {
        "verdict": "local",
        "because": "a pickup announces the return shortly before it, and nothing earlier knows",
    },
    "tangle": {
        "verdict": "entangled",
        "because": "the direction that carries the plan also decides the register of all that follows, so that no "
        "edit removes the return alone",
    },
    "sectioner": {
        "verdict": "foresight",
        "because": "the cue decides whether another section begins, and only a planted direction carries this to "
        "later layers",
    },
    "sectioner_twin": {
        "verdict": "none",
        "because": "the music is that of a sectioner, but whether another section begins does not depend on anything "
        "before it",
    },
    "resolver": {
        "verdict": "foresight",
        "because": "the cue decides whether the dominants are released, and only a planted direction carries this to "
        "later layers",
    },
    "resolver_twin": {
        "verdict": "none",
        "because": "the music is that of a resolver, but whether the dominants are released does not depend on "
        "anything before it",
    },
    "recaller": {
        "verdict": "none",
        "because": "nothing is carried: the cue is looked up by attention at the moment of the return",
    },
}
