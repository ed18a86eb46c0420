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
}
