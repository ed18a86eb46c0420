"""What is wrong with a store."""


class StoreError(ValueError):
    """A store that cannot be trusted or written: names the store, the file or array, and what to do."""
