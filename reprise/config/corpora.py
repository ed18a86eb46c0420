"""Clips and activations that studies share.

A corpus is what a model makes of the prompts (or recordings) and seeds it is given: tokens, audio and the residual
stream. It is named by what is asked for, `results/corpora/<model>-<digest>/`, not by a study. So studies that differ
in horizons, SAEs or thresholds use the same one, in one configuration or in several, and a study that is renamed or
removed takes nothing from another. A prompt that is edited in its file stays in its corpus, and stales its batch.

The Snakefile imports this at every parse, so it imports nothing heavy.
"""

import hashlib
import json
import re
from pathlib import Path

from reprise.config.schema import Study

# What clips are made from; `device` is left out, since where a model runs never changes what it computes.
FIELDS = ("model", "source", "prompts", "recordings", "seeds", "generation")


def corpus_name(study: Study) -> str:
    """The name of a study's corpus, such as `planner-1f0c9a7b`."""
    fields = study.model_dump(mode="json", include=set(FIELDS))
    fields["model"].pop("device")
    digest = hashlib.sha256(json.dumps(fields, sort_keys=True).encode()).hexdigest()[:8]
    # What is cut off of a long name is in the digest.
    model = Path(study.model.name.partition("@")[0]).name[:100]
    return f"{re.sub('[^A-Za-z0-9_.-]', '-', model)}-{digest}"
