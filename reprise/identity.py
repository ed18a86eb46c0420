"""Seeds from what a thing is, never from when or where it is computed."""

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
    """`seed_from` of what is done to a clip and of what it is: its prompt's text, its seed and, where it is cut from a
    recording, that `recording` (its SHA-256) and the `cut`'s number.

    The study is not part of that: studies that ask the same of the same model share.
    """
    recorded = [clip[name] for name in ("recording", "cut") if name in clip]
    return seed_from(what, clip["prompt"], clip["seed"], *recorded)


def stable_fraction(identity: str) -> float:
    """A number in [0, 1) from an identity alone, to split prompts in a way that adding one leaves the others put."""
    return seed_from("split", identity)[0] / 2**32
