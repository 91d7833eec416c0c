"""MemoryBlobStore, a blob store in the memory of one process, for tests.

It is also the shortest example of what another blob store has to do.
"""

import time
from collections import OrderedDict
from collections.abc import Iterator
from dataclasses import replace
from errno import EBADMSG, EFBIG, EINVAL
from itertools import count
from pathlib import Path
from typing import Any

from app.oci.reference import Digest
from app.piece_size import SMALLEST
from app.source import BodyBroken
from app.store.blobs import BlobStat, Content, ContentInfo, Entry, RegistryUsage, SizeLimits
from app.store.errors import Fault, SurvivedErrors, build_error, fault_of, translate_errors
from app.threads import get_unpatched

Key = tuple[str, Digest]


class MemoryBlobStore:
    """Content in memory, up to `max_size` bytes. All that share this object act as workers."""

    def __init__(self, max_size: int = 1 << 30) -> None:
        self.survived_errors = SurvivedErrors()
        self.evicted_count = 0
        self.entries = OrderedDict[Key, Entry]()
        """The kept entries, least recently used first; a `MemoryLedger` may share it."""
        self._data: dict[Key, bytes] = {}
        self.limits = SizeLimits(max_size=max_size, min_free=0)
        self._max_size = max_size
        self._next_id = count(1).__next__
        # A real lock: native threads call the store.
        self._lock: Any = get_unpatched("_thread", "allocate_lock")()

    def stat(self, registry: str, digest: Digest) -> BlobStat | None:
        """Return the description of kept content, or None if it is not kept."""
        entry = self.entries.get((registry, digest))
        if entry is None:
            return None
        return BlobStat(size=entry.size, media_type=entry.media_type, stored_at=entry.stored_at)

    def open(self, registry: str, digest: Digest) -> Content | None:
        """Return kept content and mark it as most recently used; return None if it is not kept."""
        key = (registry, digest)
        with self._lock:
            entry = self.entries.get(key)
            if entry is None:
                return None
            self.entries[key] = replace(entry, used_at=time.time())
            self.entries.move_to_end(key)
            data = self._data[key]
        return Content(
            blob=MemoryBlob(data),
            size=entry.size,
            media_type=entry.media_type,
            stored_at=entry.stored_at,
            location="",
        )

    def peek(self, registry: str, digest: Digest) -> bytes:
        """Return kept bytes without marking them as used; b"" if they are not kept."""
        return self._data.get((registry, digest), b"")

    def open_entry(self, entry: Entry) -> Content | None:
        """Do as `open` does, for an entry that a ledger over this store has just named."""
        return self.open(entry.registry, entry.digest)

    def has_entry(self, entry: Entry) -> bool:
        """Return whether there is content for an entry that a ledger has just named."""
        return (entry.registry, entry.digest) in self.entries

    def adopt(self, path: Path, content: ContentInfo) -> None:
        """Keep a complete, verified file, and unlink it in any case; may raise StoreError."""
        with translate_errors("take"):
            try:
                self._check(content)
                data = path.read_bytes()
            finally:
                path.unlink(missing_ok=True)
        if len(data) != content.size:
            raise build_error(EINVAL, f"{path} is not a file of {content.size} bytes")
        with self._lock:
            self._put(content, data)

    def keep(self, data: bytes, registry: str, digest: Digest, media_type: str) -> None:
        """Verify and keep bytes; raise StoreError if they do not match the digest or do not fit."""
        content = ContentInfo(
            registry=registry, digest=digest, size=len(data), media_type=media_type
        )
        self._check(content)
        if not digest.matches(data):
            raise build_error(EBADMSG, f"these bytes are not {digest}")
        with self._lock:
            self._evict(len(data))
            self._put(content, data)

    def delete(self, registry: str, digest: Digest) -> bool:
        """Remove content and return whether it was there."""
        with self._lock:
            return self._remove((registry, digest))

    def make_room(self, size: int) -> None:
        """Evict the least recently used content until `size` more bytes fit.

        If they can never fit, raise StoreError and evict nothing.
        """
        self._check_size(size)
        with self._lock:
            self._evict(size)

    def measure_usage(self) -> dict[str, RegistryUsage]:
        """Return the usage of each registry that has content."""
        usages = dict[str, RegistryUsage]()
        with self._lock:
            for (registry, _), entry in self.entries.items():
                usage = usages.get(registry, RegistryUsage(0, 0))
                usages[registry] = RegistryUsage(usage.entries + 1, usage.bytes + entry.size)
        return usages

    def count_free_bytes(self) -> int:
        """Return how many bytes there is room for without evicting any."""
        with self._lock:
            return self._max_size - self._sum_sizes()

    def probe(self) -> None:
        """Do nothing: memory can always be written."""

    def fault_of(self, error: OSError) -> Fault:
        """Return the fault behind an error."""
        return fault_of(error)

    def _check(self, content: ContentInfo) -> None:
        if not content.digest.can_be_verified:
            raise build_error(EINVAL, f"{content.registry}: {content.digest} cannot be kept")
        self._check_size(content.size)

    def _check_size(self, size: int) -> None:
        if size > self._max_size:
            raise build_error(EFBIG, f"{size} bytes are more than the cache may hold")

    def _sum_sizes(self) -> int:
        return sum(entry.size for entry in self.entries.values())

    def _put(self, content: ContentInfo, data: bytes) -> None:
        key, now = (content.registry, content.digest), time.time()
        previous = self.entries.get(key)
        # As on the disk, an empty media type does not replace a known one.
        media_type = content.media_type or (previous.media_type if previous else "")
        self._remove(key)
        number = self._next_id()
        self._data[key] = data
        self.entries[key] = Entry(number, *key, len(data), media_type, now, number, now)
        self._evict(0)

    def _remove(self, key: Key) -> bool:
        self._data.pop(key, None)
        return self.entries.pop(key, None) is not None

    def _evict(self, size: int) -> None:
        lacking = self._sum_sizes() + size - self._max_size
        while lacking > 0:
            key, entry = next(iter(self.entries.items()))
            self._remove(key)
            lacking -= entry.size
            self.evicted_count += 1


class MemoryBlob:
    """An opened blob in memory."""

    def __init__(self, data: bytes) -> None:
        self._data = data

    def read(self) -> bytes:
        """Return all bytes."""
        return self._data

    def build_body(self, start: int, end: int) -> "MemoryBlobBody":
        """Return bytes `start` to `end` (exclusive) as a body."""
        return MemoryBlobBody(self._data, start, end)

    def close(self) -> None:
        """Do nothing."""


class MemoryBlobBody:
    """A body of bytes `start` to `end` (exclusive) of a blob in memory."""

    def __init__(self, data: bytes, start: int, end: int) -> None:
        self._data = data
        self._position = start
        self._end = end
        self._is_closed = False

    def __iter__(self) -> Iterator[bytes]:
        while self._position < self._end:
            if self._is_closed:
                message = "the body was closed"
                raise BodyBroken(message)
            start, self._position = self._position, min(self._position + SMALLEST, self._end)
            yield self._data[start : self._position]

    def select(self, start: int, end: int) -> None:
        """Go on with bytes `start` to `end` (exclusive)."""
        self._position, self._end = start, end

    def close(self) -> None:
        """End the body; may be called repeatedly."""
        self._is_closed = True
