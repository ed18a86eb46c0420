"""How much work fits are: constants that the estimates of jobs read too, so nothing is imported here."""

# Folds in which screened prompts are left out, to choose a penalty or to rank candidates.
N_FOLDS = 5
# A search by gradient (das.py): steps, and clips with an event in each.
DAS_STEPS = 40
DAS_CLIPS_PER_STEP = 4
