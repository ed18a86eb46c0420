"""What removing or turning up a feature does."""

import re
from types import SimpleNamespace


def test_sufficiency_is_told_and_kept_out_of_the_ablation(made: SimpleNamespace) -> None:
    page = re.sub(r"\s+", " ", made.page)
    assert "Then 1.00 [0.86, 1.00] of them have a return, compared with 0.00" in page
    assert "KL, nats per token" in page and "fall of the best score" in page
