"""Errors about an SAE or its input. They have a module of their own, so code that only refuses needs no torch."""


class SaeError(ValueError):
    """An SAE that cannot be used. The message names the folder, the field, its value and what is valid."""
