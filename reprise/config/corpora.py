"""Clips and activations that several studies can share.

A corpus holds what a model computes from given prompts (or recordings) and seeds: tokens, audio and the residual
stream. Its name, `results/corpora/<model>-<digest>/`, comes from these settings and not from the study. So studies
that differ only in horizons, SAEs or thresholds share one corpus, also across configurations. Renaming or removing a
study does not affect the others. Editing a prompt in the prompts file does not change the corpus's name; it only makes
the prompt's batch out of date.

The Snakefile imports this at every parse, so it imports nothing heavy.
"""

import hashlib
import json
import re
from pathlib import Path

from reprise.config.schema import Study

# The settings that determine the clips. `device` is left out, because it does not change what a model computes.
FIELDS = ("model", "source", "prompts", "recordings", "seeds", "generation")


def corpus_name(study: Study) -> str:
    """The name of a study's corpus, such as `planner-1f0c9a7b`."""
    fields = study.model_dump(mode="json", include=set(FIELDS))
    fields["model"].pop("device")
    digest = hashlib.sha256(json.dumps(fields, sort_keys=True).encode()).hexdigest()[:8]
    # A long name is cut; the digest covers all of it.
    model = Path(study.model.name.partition("@")[0]).name[:100]
    return f"{re.sub('[^A-Za-z0-9_.-]', '-', model)}-{digest}"
