"""The names of horizons."""

import pytest

from reprise.config.horizons import horizon_name, parse_horizon_name


def test_a_horizons_name_is_short_and_says_which_it_is() -> None:
    for horizon in ((4.0, 8.0), (0.5, 2.0), (0.0, 12.25)):
        assert parse_horizon_name(horizon_name(*horizon)) == horizon
    with pytest.raises(ValueError, match="got 'h4'; valid: h<from>-<to>"):
        parse_horizon_name("h4")
    assert [horizon_name(*h) for h in ((4.0, 8.0), (0.5, 2.0), (0, 12))] == ["h4-8", "h0.5-2", "h0-12"]
