"""Seeds from what a thing is, never from when or where it is computed."""

import hashlib


def seed_from(*identity: object) -> tuple[int, ...]:
    """Four 32-bit integers from an identity such as ("planner", "piano-c-amber", 3, "generate").

    The same identity gives the same numbers on every machine; use them to seed `numpy.random`.
    """
    digest = hashlib.sha256("\0".join(map(str, identity)).encode()).digest()
    return tuple(int.from_bytes(digest[i : i + 4], "big") for i in range(0, 16, 4))


def stable_share(identity: str) -> float:
    """A number in [0, 1) from an identity alone, to split prompts in a way that adding one leaves the others put."""
    return seed_from("split", identity)[0] / 2**32
