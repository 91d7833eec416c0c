"""Image metadata from manifests, cached by digest; the content of a digest never changes."""

import threading
from collections.abc import Callable
from typing import Final

from cachetools import FIFOCache, LRUCache

from app.oci.image import ImageMetadata
from app.oci.reference import Digest
from app.source import Client
from app.waiting import SingleFlight

_CACHE_SIZE: Final = 4096

_BY_BYTES_CACHE_SIZE: Final = 256
_BY_BYTES_MAX_SIZE: Final = 16 << 10
"""Bytes of the largest manifest that is kept; all kept manifests take at most 4 MiB."""

_WAIT_TIMEOUT: Final = 30.0
"""Seconds that a request waits while another reads the same manifest, before it reads it too."""


class ImageFactsCache:
    """A cache of the metadata of the most recently used images.

    Callers ask only for images whose manifest the registry has given to the client.
    """

    def __init__(self, size: int = _CACHE_SIZE) -> None:
        self._lock = threading.Lock()
        self._facts = LRUCache[Digest, ImageMetadata](size)
        self._by_bytes = FIFOCache[bytes, ImageMetadata](_BY_BYTES_CACHE_SIZE)
        self._single_flight = SingleFlight[Digest](patience=_WAIT_TIMEOUT)

    def lookup(self, digest: Digest) -> ImageMetadata | None:
        """Return the metadata of a manifest, or None if it is not cached."""
        with self._lock:
            return self._facts.get(digest)

    def lookup_by_bytes(self, document: bytes) -> ImageMetadata | None:
        """Return the metadata of a manifest with exactly these bytes, or None if it is not kept.

        The lookup costs less than computing the digest.
        """
        with self._lock:
            return self._by_bytes.get(document)

    def store_by_bytes(self, document: bytes, facts: ImageMetadata) -> None:
        """Keep a manifest with its metadata, unless the manifest is larger than 16 KiB."""
        if len(document) > _BY_BYTES_MAX_SIZE:
            return
        with self._lock:
            self._by_bytes[document] = facts

    def get_or_read(
        self,
        digest: Digest,
        read: Callable[[], ImageMetadata | None],
        client: Client | None = None,
    ) -> ImageMetadata | None:
        """Return the cached metadata of a manifest, or else the result of `read`.

        One caller reads on behalf of all that ask at the same time (single-flight). If its `read`
        returns None or raises, only that caller is affected, since its credentials may be at fault:
        each of the others then calls its own `read`. Raise ClientGone if `client` disconnects while
        another caller reads.
        """
        if (facts := self.lookup(digest)) is not None:
            return facts
        with self._single_flight.lead(digest, client):
            return self.lookup(digest) or self._store(digest, read())

    def _store(self, digest: Digest, facts: ImageMetadata | None) -> ImageMetadata | None:
        if facts is not None:
            with self._lock:
                self._facts[digest] = facts
        return facts
