"""What each organism is, and so what a study of it should say."""

GROUND_TRUTH = {
    "planner": {
        "verdict": "foresight",
        "because": "the cue it plays in its first bar decides whether the motif returns, and only a planted direction "
        "tells later layers so",
    },
    "improviser": {
        "verdict": "none",
        "because": "same music, cue, planted direction and rate of returns, but whether the motif returns is "
        "independent of everything before the return",
    },
    "clockwork": {
        "verdict": "none",
        "because": "whether and where the motif returns is fixed by the prompt's words, which the baseline knows",
    },
    "loop": {
        "verdict": "none",
        "because": "every bar repeats the motif, so that nothing else ever comes between and nothing validly returns",
    },
}
