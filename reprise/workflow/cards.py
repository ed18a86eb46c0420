"""Give each job on a machine a graphics card of its own.

A scheduler such as SLURM shows a job only the card that it may use. On a machine without one, jobs share out the cards
themselves: each takes the first visible card that no other job holds, and holds it until it ends (flock, which the
system releases when a job dies). The other cards are then hidden from it.

A job that sees a single card keeps it without a lock. A scheduler may show each job its own card under the same
number, so that equal numbers would not mean equal cards. For the same reason locks hold within one job of SLURM only.

Degenerate input: without a card nothing is done. If locks can't be made, all cards stay visible, and the log says so.
"""

import fcntl
import logging
import os
import tempfile
import time
from pathlib import Path
from typing import IO

VISIBLE = "CUDA_VISIBLE_DEVICES"
ASK_AGAIN_S = 1.0
log = logging.getLogger("reprise")
# The open lock file of this process. Closing it releases the lock.
_held: list[IO[str]] = []


def visible_cards() -> list[str]:
    """The cards that this process may use, as CUDA names them: numbers, or identifiers from a scheduler."""
    listed = os.environ.get(VISIBLE)
    if listed is not None:
        return [card.strip() for card in listed.split(",") if card.strip()]
    import torch

    # This asks the driver only: after CUDA has begun, it is too late to hide a card.
    return [str(number) for number in range(torch.cuda.device_count())]


def take_card(place: Path | None = None) -> str | None:
    """Take a card for this process and hide the others from it. Waits while other jobs hold all of them.

    Parameters
    ----------
    place : Path, optional
        Folder of the locks; by default one for each user, and each job of SLURM, in the folder for temporary files,
        which is a disk of this machine.

    Returns
    -------
    str or None
        The card, as in `visible_cards`; None if there is none, or locks can't be made.
    """
    cards, told = visible_cards(), False
    if len(cards) == 1:
        return cards[0]
    allocation = os.environ.get("SLURM_JOB_ID", "")
    place = place or Path(tempfile.gettempdir()) / f"reprise-cards-{os.getuid()}-{allocation}"
    while cards:
        for card in cards:
            try:
                place.mkdir(parents=True, exist_ok=True)
                file = open(place / card.replace("/", "_"), "a", encoding="utf-8")  # noqa: SIM115  kept open
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                file.close()
                continue
            except OSError as error:
                log.warning("no card is reserved: %s", error)
                return None
            _held.append(file)
            _hide_others(card, cards)
            log.info("card %s", card)
            return card
        if not told:
            log.info("other jobs hold all cards (%s); waiting for one", ", ".join(cards))
            told = True
        time.sleep(ASK_AGAIN_S)
    return None


def _hide_others(card: str, cards: list[str]) -> None:
    import torch

    os.environ[VISIBLE] = card
    # If a library began CUDA when it was imported, this came too late: all cards are still there.
    count = getattr(torch._C, "_cuda_getDeviceCount", lambda: 0)()
    if count > 1:
        torch.cuda.set_device(cards.index(card))
