"""The error for a damaged store."""


class StoreError(ValueError):
    """A store cannot be trusted or written. The message names the store, the file or array, and what to do."""
