"""Image metadata from manifests, cached by digest; content of one digest never changes."""

import threading
from collections import OrderedDict
from collections.abc import Callable
from typing import Final

from app.oci.image import Facts
from app.oci.reference import Digest

_MOST: Final = 4096

_MOST_AT_HAND: Final = 256
_LARGEST_AT_HAND: Final = 16 << 10
"""Bytes of the largest manifest kept at hand; all of them take 4 MiB at most."""

_PATIENCE: Final = 30.0
"""Seconds that a request waits for another one reading the same manifest before it reads itself."""


class KnownImages:
    """A cache of the metadata of the images used last.

    Callers ask only for images whose manifest the registry has given to the client.
    """

    def __init__(self, most: int = _MOST) -> None:
        self._most = most
        self._lock = threading.Lock()
        self._facts: OrderedDict[Digest, Facts] = OrderedDict()
        self._at_hand: OrderedDict[bytes, Facts] = OrderedDict()
        self._read_now: dict[Digest, threading.Event] = {}

    def get(self, digest: Digest) -> Facts | None:
        """Return the metadata of a manifest, or None if it is not cached."""
        with self._lock:
            facts = self._facts.get(digest)
            if facts is not None:
                self._facts.move_to_end(digest)
            return facts

    def of_manifest(self, document: bytes) -> Facts | None:
        """Return the metadata of a manifest with exactly these bytes, or None if not at hand.

        The lookup costs less than computing the digest.
        """
        return self._at_hand.get(document)

    def keep(self, document: bytes, facts: Facts) -> None:
        """Keep a manifest and its metadata at hand, unless it is larger than 16 KiB."""
        if len(document) > _LARGEST_AT_HAND:
            return
        with self._lock:
            self._at_hand[document] = facts
            while len(self._at_hand) > _MOST_AT_HAND:
                self._at_hand.popitem(last=False)

    def of(self, digest: Digest, read: Callable[[], Facts | None]) -> Facts | None:
        """Return the cached metadata of a manifest, or else the result of `read`.

        One caller reads for all that ask at the same time (single-flight). If `read` returns None
        or raises, only that caller is affected, since its credentials may be at fault: each of the
        others then calls its own `read`.
        """
        if (facts := self.get(digest)) is not None:
            return facts
        done = threading.Event()
        with self._lock:
            other = self._read_now.setdefault(digest, done)
        if other is not done:
            other.wait(_PATIENCE)
            return self.get(digest) or self._noted(digest, read())
        try:
            return self.get(digest) or self._noted(digest, read())
        finally:
            with self._lock:
                del self._read_now[digest]
            done.set()

    def _noted(self, digest: Digest, facts: Facts | None) -> Facts | None:
        if facts is not None:
            with self._lock:
                self._facts[digest] = facts
                while len(self._facts) > self._most:
                    self._facts.popitem(last=False)
        return facts
