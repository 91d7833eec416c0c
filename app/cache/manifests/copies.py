"""Cached manifests, read whole and verified again; the most recently used stay in memory.

A native thread and the index cost more than everything else about a cached manifest, and a manifest
that many machines pull is requested many times a second. `HotManifests` therefore remembers
manifests for some seconds, as long as no worker writes to the index.
"""

import hmac
import logging
import os
import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from http import HTTPStatus
from typing import Final, Generic, TypeVar

from app.cache import cache_status
from app.cache.authz.callers import Caller
from app.cache.authz.gate import Gate
from app.cache.authz.members import AuthorizedContent
from app.cache.disk import DiskExecutor
from app.cache.policy import MANIFEST_LIMIT
from app.oci import conditional, headers, media_types
from app.oci.headers import Headers
from app.oci.reference import Digest, RepositoryName, compute_digest
from app.source import Reply, Request, build_reply
from app.store.store import Store

_LIFETIME: Final = 5.0
"""Seconds until the store is asked again, since eviction must know what is used."""

_SETTLED: Final = 100_000_000
"""Nanoseconds since the last change before the file's time is trusted. Another change in the same
tick of the clock would not show."""

_MOST: Final = 256
_LARGEST: Final = 256 * 1024
_MOST_BYTES: Final = 8 * 1024 * 1024
"""Limits for one registry: manifests, bytes of each, and bytes of all together."""

Thing = TypeVar("Thing")

Key = tuple[str, ...]

State = tuple[int, ...]
"""Inode, modification time (ns) and size of the index's write-ahead log."""


@dataclass(frozen=True, slots=True)
class _HotEntry(Generic[Thing]):
    value: Thing
    size: int
    index_state: State
    expires_at: float


class HotManifests(Generic[Thing]):
    """Remembers what was found until any worker writes to the index, which may withdraw it.

    SQLite writes each change to its write-ahead log first (https://sqlite.org/wal.html), so the
    file's modification time shows whether there was one. Reading that time needs neither the disk
    nor a thread.
    """

    def __init__(self, store: Store) -> None:
        self._clock = store.clock
        self._flags = store.flags
        self._wal_path = str(store.directory / "index.sqlite-wal")
        self._entries: dict[Key, _HotEntry[Thing]] = {}

    def read_index_state(self) -> State | None:
        """Return the state of the index, which any later write changes.

        None if it cannot be trusted: there is no log, the last write is less than 100 ms old, or
        another worker has a refusal that it could not write.
        """
        try:
            log = os.stat(self._wal_path)  # noqa: PTH116 - for each request, and twice as fast
        except OSError:
            return None
        if time.time_ns() - log.st_mtime_ns < _SETTLED:
            return None
        if self._flags.is_any_set_elsewhere():  # a worker could not write a refusal
            return None
        return (log.st_ino, log.st_mtime_ns, log.st_size)

    def get(self, key: Key) -> Thing | None:
        """Return what was remembered; None if it is too old or the index was written since."""
        found = self._entries.get(key)
        if found is None:
            return None
        if self._clock.now() >= found.expires_at or found.index_state != self.read_index_state():
            self._entries.pop(key, None)
            return None
        return found.value

    def put(self, key: Key, thing: Thing, *, size: int, left: float, state: State | None) -> None:
        """Remember what was found; `index_state` is the state of the index before the lookup.

        `size` is in bytes. `seconds_left` is for how many seconds the caller may read it. Nothing
        is remembered if `index_state` is None or `size` is too large.
        """
        if state is None or size > _LARGEST:
            return
        now = self._clock.now()
        kept = {one: found for one, found in list(self._entries.items()) if found.expires_at > now}
        kept.pop(key, None)
        kept[key] = _HotEntry(thing, size, state, now + min(left, _LIFETIME))
        # If two threads do this at the same time, an entry may be lost.
        self._entries = dict(reversed(list(_take_fitting(reversed(kept.items())))))


def _take_fitting(
    latest_first: Iterable[tuple[Key, _HotEntry[Thing]]],
) -> Iterator[tuple[Key, _HotEntry[Thing]]]:
    """Yield the latest entries, as many as the limits allow."""
    held = 0
    for number, (key, found) in enumerate(latest_first):
        held += found.size
        if number == _MOST or held > _MOST_BYTES:
            return
        yield key, found


logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class CachedManifest:
    """A cached manifest, with the media type that the registry gives it in this repository.

    `stored_at` is when it came (wall-clock seconds); `seconds_left` and `public_seconds_left` are
    those of `AuthorizedContent`.
    """

    digest: Digest
    data: bytes
    media_type: str
    stored_at: float
    seconds_left: float
    public_seconds_left: float

    def is_accepted_by(self, request: Request) -> bool:
        """Return whether the request's Accept allows the manifest's media type."""
        return media_types.is_acceptable(
            self.media_type, headers.get_all(request.headers, "accept")
        )

    def build_reply(self, request: Request, fields: Headers, *, lasting: bool) -> Reply:
        """Return the answer to a GET or HEAD: 200, or 304 if the client has the manifest already.

        Without `lasting`, for a request by tag, no shared cache may keep the answer.
        """
        public_left = self.public_seconds_left if lasting else 0.0
        written = [
            ("Content-Type", self.media_type),
            ("Docker-Content-Digest", str(self.digest)),
            *cache_status.build_content_headers(self.digest, public_left),
            *fields,
        ]
        if conditional.is_not_modified(request.headers, conditional.build_etag(self.digest)):
            return Reply(status=HTTPStatus.NOT_MODIFIED, headers=written)
        if request.method == "HEAD":
            return Reply(status=HTTPStatus.OK, headers=written, length=len(self.data))
        return build_reply(HTTPStatus.OK, written, self.data)


class CachedManifests:
    """Reads and keeps the manifests of one registry, through its gate.

    A cached file whose hash is wrong is logged, dropped and treated as absent.
    """

    def __init__(self, registry: str, gate: Gate, disk: DiskExecutor) -> None:
        self._registry = registry
        self._gate = gate
        self._disk = disk
        self._hot = HotManifests[CachedManifest](disk.store)

    def lookup(self, caller: Caller, name: RepositoryName, digest: Digest) -> CachedManifest | None:
        """Return a manifest; None if it is not cached or this caller may not read it now."""
        key = (caller.name, name, digest, str(self._gate.revocation_count))
        if caller.lifetime > 0 and (recent := self._hot.get(key)):
            return recent
        state = self._hot.read_index_state()
        damaged = list[Digest]()
        copy = self._gate.open_and_apply(
            caller, name, digest, lambda one: _read_manifest(one, digest, damaged)
        )
        self._drop_damaged(damaged)
        if copy is not None:
            self._hot.put(key, copy, size=len(copy.data), left=copy.seconds_left, state=state)
        return copy

    def lookup_stale(self, name: RepositoryName, digest: Digest) -> CachedManifest | None:
        """Return a public manifest, for use while the registry is unreachable; None if none."""
        damaged = list[Digest]()
        copy = self._gate.open_stale_and_apply(
            name, digest, lambda one: _read_manifest(one, digest, damaged)
        )
        self._drop_damaged(damaged)
        return copy

    def keep(
        self,
        caller: Caller,
        name: RepositoryName,
        digest: Digest,
        content: tuple[bytes, str],
        *,
        asked: float,
    ) -> bool:
        """Keep a manifest that a repository sent to a caller; return whether that succeeded.

        `content` is its bytes and media type; `asked` is when it was requested, by the store's
        clock. The store refuses bytes whose hash is not the digest.
        """
        data, media_type = content
        kept = self._disk.write(self._disk.store.keep, data, self._registry, digest, media_type)
        return kept and self._gate.record_verified(caller, name, digest, (media_type, asked))

    def _drop_damaged(self, damaged: list[Digest]) -> None:
        for digest in damaged:
            fields = {"registry": self._registry, "digest": str(digest)}
            logger.warning("Removed a damaged file from the cache.", extra={"fields": fields})
            self._disk.write(self._disk.store.delete, self._registry, digest)


def _read_manifest(
    opened: AuthorizedContent, digest: Digest, damaged: list[Digest]
) -> CachedManifest | None:
    """Return the manifest that was opened; None if it is too large or damaged.

    This runs on a native thread, which must not log: it adds the digest to `damaged` instead.
    """
    with opened.file:
        if opened.size > MANIFEST_LIMIT:
            return None
        try:
            data = opened.file.read() or b""
        except OSError:
            data = b""
    if not hmac.compare_digest(compute_digest(data, digest), digest):
        damaged.append(digest)
        return None
    return CachedManifest(
        digest=digest,
        data=data,
        media_type=opened.media_type,
        stored_at=opened.stored_at,
        seconds_left=opened.seconds_left,
        public_seconds_left=opened.public_seconds_left,
    )
