"""How much each client may use, and its concurrent downloads, counted in memory.

The settings need this module, so it imports no library: without limits, none is loaded for them.
"""

from dataclasses import dataclass
from typing import Protocol


@dataclass(frozen=True, slots=True, kw_only=True)
class Allowance:
    """The limits that apply to each client; None means unlimited."""

    requests: int | None = None
    """Requests per minute."""
    downloads: int | None = None
    """Concurrent downloads."""
    size: int | None = None
    """Bytes per day."""
    pulls: int | None = None
    """Pulls per day."""

    @property
    def is_unlimited(self) -> bool:
        """Whether nothing is limited."""
        limits = (self.requests, self.downloads, self.size, self.pulls)
        return all(limit is None for limit in limits)


class ConcurrencyLimiter(Protocol):
    """The running downloads of each client; each download has a name of its own."""

    def try_acquire(self, identity: str, name: str, instead_of: str = "") -> bool:
        """Begin a download; return False if the client has no room for it.

        The download called `instead_of` ends first, if it is running.
        """

    def renew(self, identity: str, name: str) -> None:
        """Renew a download, whether the client has room for it or not."""

    def release(self, identity: str, name: str) -> None:
        """End a download, if it is running."""


class LocalConcurrencyLimiter:
    """The downloads of this process, counted in memory."""

    def __init__(self, limit: int) -> None:
        self._most = limit
        self._running: dict[str, set[str]] = {}

    def try_acquire(self, identity: str, name: str, instead_of: str = "") -> bool:
        """Begin a download; return False if the client has no room for it."""
        running = self._running.setdefault(identity, set())
        running.discard(instead_of)
        if len(running) >= self._most:
            return False
        running.add(name)
        return True

    def renew(self, identity: str, name: str) -> None:
        """Count the download even above the limit; downloads in memory never expire."""
        self._running.setdefault(identity, set()).add(name)

    def release(self, identity: str, name: str) -> None:
        """End a download, if it is running."""
        running = self._running.get(identity, set())
        running.discard(name)
        if not running:
            self._running.pop(identity, None)
