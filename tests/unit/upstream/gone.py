"""A client that has left."""


class Gone:
    """A client that disconnected before anybody looked at it."""

    def is_gone(self) -> bool:
        """Tell so."""
        return True
