"""How much each user, or each address, may have."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class Allowance:
    """What each may have; None is as much as it likes."""

    requests: int | None = None
    """A minute."""
    downloads: int | None = None
    """At once."""
    size: int | None = None
    """Bytes a day."""
    pulls: int | None = None
    """A day."""

    @property
    def is_all(self) -> bool:
        """Whether nothing is limited."""
        limits = (self.requests, self.downloads, self.size, self.pulls)
        return all(limit is None for limit in limits)
