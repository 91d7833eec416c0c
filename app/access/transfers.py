"""The bodies on their way to clients, each of which counts while it goes."""

import secrets
import threading
from collections.abc import Callable
from typing import Final

from app.access.limits import Limits

_OFTEN: Final = 20.0
"""Seconds between two looks at them: a third of what a download counts that nobody speaks of."""


class Transfer:
    """One body on its way to somebody; a manifest takes no place."""

    def __init__(self, limits: Limits, who: str) -> None:
        self.who = who
        self.name = ""
        self._limits = limits
        self._counted = 0
        self._has_place = False
        self._is_pull = False
        self.sent: Callable[[], int] = int
        """Tells how many bytes went."""
        self.is_over = False

    def begin_manifest(self) -> None:
        """Count it as a pull; raise PullsReached or BytesReached."""
        self._limits.manifest(self.who)
        self._is_pull = True

    def begin_blob(self) -> None:
        """Take a place for it; raise DownloadsReached or BytesReached."""
        self.name = secrets.token_hex(8)
        self._limits.blob(self.who, self.name)
        self._has_place = True

    def fails(self) -> None:
        """Take back that it is a pull: there is no manifest for the client."""
        if self._is_pull:
            self._is_pull = False
            self._limits.not_pulled(self.who)

    def look(self) -> None:
        """Count what went since the last look."""
        if self._has_place:
            self._limits.goes_on(self.who, self.name)
        self._count()
        if self.is_over:  # meanwhile
            self._leave()

    def _count(self) -> None:
        sent = self.sent()
        more, self._counted = sent - self._counted, sent
        self._limits.sent(self.who, more)

    def end(self) -> None:
        """Count the rest, and give the place to another."""
        self.is_over = True
        self._count()
        self._leave()

    def _leave(self) -> None:
        if self._has_place:
            self._limits.ended(self.who, self.name)


class Transfers:
    """Looks at those of this process while there are any."""

    def __init__(self, every: float = _OFTEN) -> None:
        self._every = every
        self._running: set[Transfer] = set()
        self._is_coming = False

    def add(self, transfer: Transfer) -> None:
        """Look at one until it is over."""
        self._running.add(transfer)
        self._come_again()

    def end(self, transfer: Transfer) -> None:
        """End one."""
        self._running.discard(transfer)
        transfer.end()

    def _come_again(self) -> None:
        if self._running and not self._is_coming:
            self._is_coming = True
            timer = threading.Timer(self._every, self._come)
            timer.daemon = True
            timer.start()

    def _come(self) -> None:
        try:
            for transfer in list(self._running):
                if not transfer.is_over:
                    transfer.look()
        finally:
            self._is_coming = False
            self._come_again()
