"""The growing file of a blob, for one who reads it."""

from collections.abc import Callable
from typing import Protocol

from app.spools.growing import Growing
from app.spools.lead import Lead
from app.spools.record import State


class Owner(Protocol):
    """Who has all fetches of this process."""

    def leave(self, growing: Growing, reader: str) -> None:
        """Take back what was given to somebody who reads."""

    def take_over(self, growing: Growing) -> Lead | None:
        """Fill it from here on, if nobody does; raise OSError if that cannot be."""


class Spool:
    """What is there of a blob; whoever has one closes it. Each method may raise OSError."""

    def __init__(self, growing: Growing, owner: Owner, reader: str) -> None:
        self._growing = growing
        self._owner = owner
        self._reader = reader
        self._closed = False
        self.size = growing.size

    @property
    def length(self) -> int:
        """How many bytes are there."""
        return self._growing.length()

    @property
    def state(self) -> State:
        """How far the fetch is."""
        return self._growing.said().state

    def read(self, count: int, offset: int) -> bytes:
        """Return bytes that are there."""
        return self._growing.read(count, offset)

    def fetch(self, count: int, offset: int) -> None:
        """Have bytes in memory that are there."""
        self._growing.fetch(count, offset)

    def send(self, send: Callable[[int, int, int], None], offset: int, count: int) -> None:
        """Have bytes sent that are there; may raise BodyBroken, and what `send` raises."""
        self._growing.send(send, offset, count)

    def wait(self, known: int, seconds: float) -> int:
        """Return how many bytes are there, after waiting for more than are known."""
        return self._growing.wait(known, seconds)

    def take_over(self) -> Lead | None:
        """Fill it from here on, if nobody does; raise OSError if it cannot go on."""
        return self._owner.take_over(self._growing)

    def close(self) -> None:
        """Give it back; may be called again."""
        closed, self._closed = self._closed, True
        if not closed:
            self._owner.leave(self._growing, self._reader)
