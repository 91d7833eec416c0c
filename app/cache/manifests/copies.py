"""Cached manifests, read whole and verified again; the most recently used stay in memory.

A native thread and the index cost more than everything else about a cached manifest, and a manifest
that many machines pull is requested many times a second. `Recent` therefore remembers manifests for
some seconds, as long as no worker writes to the index.
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
from app.cache.authz.members import Opened
from app.cache.disk import Disk
from app.cache.policy import MANIFEST_LIMIT
from app.oci import conditional, headers, media_types
from app.oci.headers import Headers
from app.oci.reference import Digest, RepositoryName, digest_of
from app.source import Reply, Request, replied
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
class _Found(Generic[Thing]):
    thing: Thing
    size: int
    state: State
    until: float


class Recent(Generic[Thing]):
    """Remembers what was found until any worker writes to the index, which may withdraw it.

    SQLite writes each change to its write-ahead log first (https://sqlite.org/wal.html), so the
    file's modification time shows whether there was one. Reading that time needs neither the disk
    nor a thread.
    """

    def __init__(self, store: Store) -> None:
        self._clock = store.clock
        self._signs = store.signs
        self._log = str(store.directory / "index.sqlite-wal")
        self._found: dict[Key, _Found[Thing]] = {}

    def state(self) -> State | None:
        """Return the state of the index, which any later write changes.

        None if it cannot be trusted: there is no log, the last write is less than 100 ms old, or
        another worker has a refusal that it could not write.
        """
        try:
            log = os.stat(self._log)  # noqa: PTH116 - for each request, and twice as fast
        except OSError:
            return None
        if time.time_ns() - log.st_mtime_ns < _SETTLED:
            return None
        if self._signs.are_up_elsewhere():  # a worker could not write a refusal
            return None
        return (log.st_ino, log.st_mtime_ns, log.st_size)

    def get(self, key: Key) -> Thing | None:
        """Return what was remembered; None if it is too old or the index was written since."""
        found = self._found.get(key)
        if found is None:
            return None
        if self._clock.now() >= found.until or found.state != self.state():
            self._found.pop(key, None)
            return None
        return found.thing

    def put(self, key: Key, thing: Thing, *, size: int, left: float, state: State | None) -> None:
        """Remember what was found; `state` is the state of the index before the lookup.

        `size` is in bytes. `left` is for how many seconds the caller may read it. Nothing is
        remembered if `state` is None or `size` is too large.
        """
        if state is None or size > _LARGEST:
            return
        now = self._clock.now()
        kept = {one: found for one, found in list(self._found.items()) if found.until > now}
        kept.pop(key, None)
        kept[key] = _Found(thing, size, state, now + min(left, _LIFETIME))
        # If two threads do this at the same time, an entry may be lost.
        self._found = dict(reversed(list(_fitting(reversed(kept.items())))))


def _fitting(
    latest_first: Iterable[tuple[Key, _Found[Thing]]],
) -> Iterator[tuple[Key, _Found[Thing]]]:
    """Yield the latest entries, as many as the limits allow."""
    held = 0
    for number, (key, found) in enumerate(latest_first):
        held += found.size
        if number == _MOST or held > _MOST_BYTES:
            return
        yield key, found


logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class Copy:
    """A cached manifest, with the media type that the registry gives it in this repository.

    `taken` is when it came (wall-clock seconds); `left` and `public_left` are those of `Opened`.
    """

    digest: Digest
    data: bytes
    media_type: str
    taken: float
    left: float
    public_left: float

    def fits(self, request: Request) -> bool:
        """Return whether the request's Accept allows the manifest's media type."""
        return media_types.acceptable(self.media_type, headers.values(request.headers, "accept"))

    def answer(self, request: Request, fields: Headers, *, lasting: bool) -> Reply:
        """Return the answer to a GET or HEAD: 200, or 304 if the client has the manifest already.

        Without `lasting`, for a request by tag, no shared cache may keep the answer.
        """
        public_left = self.public_left if lasting else 0.0
        written = [
            ("Content-Type", self.media_type),
            ("Docker-Content-Digest", str(self.digest)),
            *cache_status.of_content(self.digest, public_left),
            *fields,
        ]
        if conditional.is_known(request.headers, conditional.etag_of(self.digest)):
            return Reply(status=HTTPStatus.NOT_MODIFIED, headers=written)
        if request.method == "HEAD":
            return Reply(status=HTTPStatus.OK, headers=written, length=len(self.data))
        return replied(HTTPStatus.OK, written, self.data)


class Copies:
    """Reads and keeps the manifests of one registry, through its gate.

    A cached file whose hash is wrong is logged, dropped and treated as absent.
    """

    def __init__(self, registry: str, gate: Gate, disk: Disk) -> None:
        self._registry = registry
        self._gate = gate
        self._disk = disk
        self._recent = Recent[Copy](disk.store)

    def find(self, caller: Caller, name: RepositoryName, digest: Digest) -> Copy | None:
        """Return a manifest; None if it is not cached or this caller may not read it now."""
        key = (caller.name, name, digest, str(self._gate.changes))
        if caller.lifetime > 0 and (recent := self._recent.get(key)):
            return recent
        state = self._recent.state()
        damaged = list[Digest]()
        copy = self._gate.use(caller, name, digest, lambda one: _read(one, digest, damaged))
        self._drop(damaged)
        if copy is not None:
            self._recent.put(key, copy, size=len(copy.data), left=copy.left, state=state)
        return copy

    def find_stale(self, name: RepositoryName, digest: Digest) -> Copy | None:
        """Return a public manifest, for use while the registry is unreachable; None if none."""
        damaged = list[Digest]()
        copy = self._gate.use_stale(name, digest, lambda one: _read(one, digest, damaged))
        self._drop(damaged)
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
        return kept and self._gate.verified(caller, name, digest, (media_type, asked))

    def _drop(self, damaged: list[Digest]) -> None:
        for digest in damaged:
            fields = {"registry": self._registry, "digest": str(digest)}
            logger.warning("A damaged file is dropped from the cache.", extra={"fields": fields})
            self._disk.write(self._disk.store.drop, self._registry, digest)


def _read(opened: Opened, digest: Digest, damaged: list[Digest]) -> Copy | None:
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
    if not hmac.compare_digest(digest_of(data, digest), digest):
        damaged.append(digest)
        return None
    return Copy(
        digest=digest,
        data=data,
        media_type=opened.media_type,
        taken=opened.taken,
        left=opened.left,
        public_left=opened.public_left,
    )
