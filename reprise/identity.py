"""Random seeds that depend only on the identity of a thing, never on when or where it is computed."""

import hashlib
from collections.abc import Mapping
from typing import Any


def seed_from(*identity: object) -> tuple[int, ...]:
    """Four 32-bit integers from an identity such as ("planner", "piano-c-amber", 3, "generate").

    The same identity gives the same numbers on every machine; use them to seed `numpy.random`.
    """
    digest = hashlib.sha256("\0".join(map(str, identity)).encode()).digest()
    return tuple(int.from_bytes(digest[i : i + 4], "big") for i in range(0, 16, 4))


def clip_seed(what: str, clip: Mapping[str, Any]) -> tuple[int, ...]:
    """The seed of an operation `what` on a clip.

    It depends on the clip's prompt text and seed. For a clip of a recording it also depends on `recording` (its
    SHA-256) and the number of the `cut`. It does not depend on the study, so that studies can share results.
    """
    recorded = [clip[name] for name in ("recording", "cut") if name in clip]
    return seed_from(what, clip["prompt"], clip["seed"], *recorded)


def stable_fraction(identity: str) -> float:
    """A number in [0, 1) that depends only on `identity`.

    Use it to split prompts, so that adding a prompt does not move the others.
    """
    return seed_from("split", identity)[0] / 2**32
