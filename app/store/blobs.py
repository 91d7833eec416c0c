"""BlobStore, the protocol of a store of verified content by registry and digest.

`Store` keeps it in a directory, `MemoryBlobStore` in memory. Nobody outside this package knows
where the bytes are: an opened blob is read or turned into a body, and closed.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from app.oci.reference import Digest
from app.store.errors import Fault, SurvivedErrors


@dataclass(frozen=True, slots=True, kw_only=True)
class ContentInfo:
    """A description of content that is to be kept; `size` is in bytes."""

    registry: str
    digest: Digest
    size: int
    media_type: str


@dataclass(frozen=True, slots=True)
class Entry:
    """The description of kept content in an index.

    `stored_at` (when the content was stored) and `used_at` (when it was last used) are wall-clock
    seconds. `id` and `use_order`, a counter that orders the uses, mean something to the store only.
    """

    id: int
    registry: str
    digest: Digest
    size: int
    media_type: str
    stored_at: float
    use_order: int
    used_at: float

    @property
    def info(self) -> ContentInfo:
        """The content's description, without its id and times."""
        return ContentInfo(
            registry=self.registry,
            digest=self.digest,
            size=self.size,
            media_type=self.media_type,
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class BlobStat:
    """A description of kept content.

    `size` is in bytes. `media_type` is the type it was stored with, or "" if that is unknown.
    `stored_at` is when it was stored, in wall-clock seconds.
    """

    size: int
    media_type: str
    stored_at: float


class BlobBody(Protocol):
    """A part of a blob as the body of a response; a `FileBody` where the kernel can send it."""

    def __iter__(self) -> Iterator[bytes]:
        """Yield the bytes that have not been sent yet; raise BodyBroken if they cannot be read."""

    def select(self, start: int, end: int) -> None:
        """Go on with bytes `start` to `end` (exclusive)."""

    def close(self) -> None:
        """Release the blob; may be called repeatedly, and at any moment."""


class OpenedBlob(Protocol):
    """The bytes of opened content, which can be read to their end even if it is evicted meanwhile.

    Its opener turns it into a body and closes that, or closes the blob itself.
    """

    def read(self) -> bytes:
        """Return all bytes; wait for the disk. Raise StoreError if they cannot be read."""

    def build_body(self, start: int, end: int) -> BlobBody:
        """Return bytes `start` to `end` (exclusive) as a body, which takes over the blob."""

    def close(self) -> None:
        """Release a blob that was not turned into a body."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Content:
    """An opened blob and its description.

    `size` is in bytes. `stored_at` is when the content was stored, in wall-clock seconds.
    `location` is where nginx finds it below the directory of content, or "" if nginx cannot send
    it. `media_type` is the type it was stored with, or "" if that is unknown; the type that a
    repository reports is in its Member.
    """

    blob: OpenedBlob
    size: int
    media_type: str
    stored_at: float
    location: str


@dataclass(frozen=True, slots=True, kw_only=True)
class SizeLimits:
    """The limits of the cache in bytes.

    `max_size` bounds all content and unfinished downloads together; None means no bound. `min_free`
    is how much of the disk stays free.
    """

    max_size: int | None = None
    min_free: int = 1 << 30


@dataclass(frozen=True, slots=True)
class RegistryUsage:
    """The number of one registry's entries in the store, and their size in bytes."""

    entries: int
    bytes: int


class BlobStore(Protocol):
    """Verified content by registry and digest; the least recently used may be evicted.

    All workers share what is kept. Any number of threads may call the methods at once, but never
    the event loop: each one waits for a disk or a network. Methods that look something up never
    raise: they treat content that is missing, broken or unreachable as absent. Methods that write
    raise StoreError. `survived_errors` collects the errors that the store survived, for the log.
    """

    survived_errors: SurvivedErrors

    @property
    def limits(self) -> SizeLimits:
        """The limits that eviction keeps."""

    @property
    def evicted_count(self) -> int:
        """The number of entries that this process has evicted so far."""

    def stat(self, registry: str, digest: Digest) -> BlobStat | None:
        """Return the description of kept content, or None if it is not kept.

        This does not mark the content as used.
        """

    def open(self, registry: str, digest: Digest) -> Content | None:
        """Return kept content and mark it as most recently used; return None if it is not kept.

        The caller closes the content's `blob`.
        """

    def open_entry(self, entry: Entry) -> Content | None:
        """Do as `open` does, for an entry that this store's ledger has just returned."""

    def has_entry(self, entry: Entry) -> bool:
        """Return whether the content of an entry that the ledger has just returned is there."""

    def adopt(self, path: Path, content: ContentInfo) -> None:
        """Keep a complete, verified file; may raise StoreError.

        The file is gone from `path` afterwards, even if this raises. Nobody may be writing it any
        more.
        """

    def keep(self, data: bytes, registry: str, digest: Digest, media_type: str) -> None:
        """Verify and keep bytes from memory.

        Raise StoreError if they do not match the digest or cannot be written.
        """

    def delete(self, registry: str, digest: Digest) -> bool:
        """Remove content and return whether it was there; may raise StoreError."""

    def make_room(self, size: int) -> None:
        """Evict the least recently used content until `size` more bytes fit.

        If they can never fit, raise StoreError and evict nothing.
        """

    def measure_usage(self) -> dict[str, RegistryUsage]:
        """Return the usage of each registry that has content; may raise StoreError."""

    def count_free_bytes(self) -> int:
        """Return how many bytes there is room for without evicting any; may raise StoreError."""

    def probe(self) -> None:
        """Write a little, as `keep` does; raise StoreError if nothing can be kept now."""

    def fault_of(self, error: OSError) -> Fault:
        """Return the fault behind an error."""
