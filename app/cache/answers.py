"""What the registry has just told a caller about a blob that is still being fetched."""

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

from app.cache.lately import Lately
from app.content import Client
from app.oci.errors import ClientGone

Key = tuple[str, str, str]
"""Who asks, in which repository, for which digest."""

_COUNTS: Final = 60.0
"""Seconds: who pulls in parts asks again and again, until the blob is kept and so a member."""

_CLIENT_CHECK: Final = 0.25


class Answers:
    """Remembers a yes, and lets those wait who ask what their like is asking already.

    A yes is to one caller, for one digest in one repository: it takes the place of a member, and
    never that of a grant.
    """

    def __init__(self) -> None:
        self._yes = Lately[tuple[int, float]]()
        self._asked: dict[Key, threading.Event] = {}

    def size(self, key: Key) -> int | None:
        """Return the size that was told with a yes, or None."""
        size, told = self._yes.get(key) or (None, 0.0)
        return size if time.monotonic() - told < _COUNTS else None

    def yes(self, key: Key, size: int) -> None:
        """Remember a yes."""
        self._yes.put(key, (size, time.monotonic()))

    def no(self, key: Key) -> None:
        """Forget it."""
        self._yes.forget(key)

    @contextmanager
    def asking(self, key: Key, client: Client | None) -> Iterator[bool]:
        """Tell whether somebody has just asked the same; the others wait for who is the first.

        Raise ClientGone.
        """
        event = threading.Event()
        other = self._asked.setdefault(key, event)
        if other is not event:
            _wait(other, client)
            yield True
            return
        try:
            yield False
        finally:
            del self._asked[key]
            event.set()


def _wait(event: threading.Event, client: Client | None) -> None:
    while not event.wait(_CLIENT_CHECK):
        if client is not None and client.gone():
            raise ClientGone
