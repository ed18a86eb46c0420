"""What is wrong with an SAE, or with what it is fed. Apart, since what only refuses an SAE needs no torch."""


class SaeError(ValueError):
    """An SAE that cannot be used: names the folder, the field, its value and what is valid."""
