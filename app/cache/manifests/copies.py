"""Cached manifests, read whole and verified again; the most recently used stay in memory."""

import logging
from collections.abc import Callable
from contextlib import closing
from dataclasses import dataclass
from functools import partial
from http import HTTPStatus

from app.cache import cache_status
from app.cache.authz.callers import Caller
from app.cache.authz.gate import AuthorizedContent, Gate
from app.cache.disk import DiskExecutor, HotMap
from app.cache.manifests.tags import TagAnswer
from app.cache.policy import MANIFEST_LIMIT
from app.oci import conditional, headers, media_types
from app.oci.headers import Headers
from app.oci.reference import Digest, RepositoryName
from app.source import Reply, Request, build_reply
from app.store.errors import StoreError
from app.store.ledger import Ledger

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class CachedManifest:
    """A cached manifest, with the media type that the registry gives it in this repository.

    `stored_at` is when it arrived (wall-clock seconds). `seconds_left` and `public_seconds_left`
    are those of `AuthorizedContent`.
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
        public_seconds_left = self.public_seconds_left if lasting else 0.0
        reply_headers = [
            ("Content-Type", self.media_type),
            ("Docker-Content-Digest", str(self.digest)),
            *cache_status.build_content_headers(self.digest, public_seconds_left),
            *fields,
        ]
        if conditional.is_not_modified(request.headers, self.digest):
            return Reply(status=HTTPStatus.NOT_MODIFIED, headers=reply_headers)
        if request.method == "HEAD":
            return Reply(status=HTTPStatus.OK, headers=reply_headers, length=len(self.data))
        return build_reply(HTTPStatus.OK, reply_headers, self.data)


class CachedManifests:
    """Reads and keeps the manifests of one registry, through its gate.

    A cached file whose hash is wrong is logged, dropped and treated as absent.
    """

    def __init__(self, registry: str, gate: Gate, disk: DiskExecutor) -> None:
        self._registry = registry
        self._gate = gate
        self._disk = disk
        self._ledger: Ledger = disk.ledger
        self._hot = HotMap[CachedManifest](disk.ledger)

    def lookup(self, caller: Caller, name: RepositoryName, digest: Digest) -> CachedManifest | None:
        """Return a manifest; None if it is not cached or this caller may not read it now."""
        key = (caller.name, name, digest, str(self._gate.revocation_count))
        if caller.lifetime > 0 and (hot_copy := self._hot.get(key)):
            return hot_copy
        version = self._ledger.read_version()
        damaged_digests = list[Digest]()
        copy = self._gate.open_and_apply(
            caller, name, digest, lambda content: _read_manifest(content, digest, damaged_digests)
        )
        self._drop_damaged(damaged_digests)
        if copy is not None:
            self._hot.put(
                key, copy, size=len(copy.data), seconds_left=copy.seconds_left, version=version
            )
        return copy

    def lookup_stale(self, name: RepositoryName, digest: Digest) -> CachedManifest | None:
        """Return a public manifest, for use while the registry is unreachable; None if uncached."""
        damaged_digests = list[Digest]()
        copy = self._gate.open_stale_and_apply(
            name, digest, lambda content: _read_manifest(content, digest, damaged_digests)
        )
        self._drop_damaged(damaged_digests)
        return copy

    def keep(
        self,
        caller: Caller,
        name: RepositoryName,
        data: bytes,
        answer: TagAnswer,
        write_too: Callable[[TagAnswer], None] | None = None,
    ) -> bool:
        """Keep a manifest that a repository sent to a caller; return whether that succeeded.

        `write_too` is called with `answer` in the transaction that makes the manifest readable. The
        store refuses bytes whose hash is not the digest.
        """
        digest, media_type = answer.digest, answer.media_type
        is_stored = self._disk.write(
            self._disk.blobs.keep, data, self._registry, digest, media_type
        )
        write_note = partial(write_too, answer) if write_too else None
        response_info = (media_type, answer.requested_at)
        return is_stored and self._gate.record_verified(
            caller, name, digest, response_info, write_note
        )

    def _drop_damaged(self, damaged_digests: list[Digest]) -> None:
        for digest in damaged_digests:
            fields = {"registry": self._registry, "digest": str(digest)}
            logger.warning("Removed a damaged file from the cache.", extra={"fields": fields})
            self._disk.write(self._disk.blobs.delete, self._registry, digest)


def _read_manifest(
    content: AuthorizedContent, digest: Digest, damaged_digests: list[Digest]
) -> CachedManifest | None:
    """Return the manifest that was opened; None if it is too large or damaged.

    This runs on a native thread, which must not log: it adds the digest to `damaged_digests`
    instead.
    """
    with closing(content.blob) as blob:
        if content.size > MANIFEST_LIMIT:
            return None
        try:
            data = blob.read()
        except StoreError:
            data = b""
    if not digest.matches(data):
        damaged_digests.append(digest)
        return None
    return CachedManifest(
        digest=digest,
        data=data,
        media_type=content.media_type,
        stored_at=content.stored_at,
        seconds_left=content.seconds_left,
        public_seconds_left=content.public_seconds_left,
    )
