"""What manifests were found to say, by their digests: content by digest never changes."""

import threading
from collections import OrderedDict
from collections.abc import Callable
from typing import Final

from app.oci.image import Facts
from app.oci.reference import Digest

_MOST: Final = 4096

_MOST_AT_HAND: Final = 256
_LARGEST_AT_HAND: Final = 16 << 10
"""Bytes of a manifest; 4 MiB of them all at the most."""

_PATIENCE: Final = 30.0
"""Seconds that one waits for another who reads the same, and then reads it beside them."""


class KnownImages:
    """The latest ones; whoever asks for one has been given its manifest by the registry."""

    def __init__(self, most: int = _MOST) -> None:
        self._most = most
        self._lock = threading.Lock()
        self._facts: OrderedDict[Digest, Facts] = OrderedDict()
        self._at_hand: OrderedDict[bytes, Facts] = OrderedDict()
        self._read_now: dict[Digest, threading.Event] = {}

    def get(self, digest: Digest) -> Facts | None:
        """Return what is known of a manifest."""
        with self._lock:
            facts = self._facts.get(digest)
            if facts is not None:
                self._facts.move_to_end(digest)
            return facts

    def of_manifest(self, document: bytes) -> Facts | None:
        """Return what is known of these very bytes, which costs less than to hash them."""
        return self._at_hand.get(document)

    def keep(self, document: bytes, facts: Facts) -> None:
        """Keep a manifest at hand, unless it is a large one."""
        if len(document) > _LARGEST_AT_HAND:
            return
        with self._lock:
            self._at_hand[document] = facts
            while len(self._at_hand) > _MOST_AT_HAND:
                self._at_hand.popitem(last=False)

    def of(self, digest: Digest, read: Callable[[], Facts | None]) -> Facts | None:
        """Return what is known, or else what `read` finds in bytes that have this digest.

        One reads for all who ask meanwhile (single-flight). None, and what is raised, is for this
        one alone, whose credentials may be at fault: who has waited for it reads as well.
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
