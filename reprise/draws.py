"""How many draws from a null distribution a p-value needs.

It stands apart from reprise/statistics.py because the configuration asks it at every start, and numpy takes a while.
"""

import math


def fewest_draws(level: float) -> int:
    """The smallest number n of draws from a null whose smallest p-value, 1 / (1 + n), is at most `level`."""
    return math.ceil(1 / level - 1e-9) - 1
