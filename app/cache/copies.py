"""Manifests that are kept, read whole and verified again."""

import hmac
import logging
from dataclasses import dataclass
from http import HTTPStatus

from app.cache import marks
from app.cache.callers import Caller
from app.cache.disk import Disk
from app.cache.gate import Gate
from app.cache.opened import Opened
from app.cache.policy import MANIFEST_LIMIT
from app.cache.recent import Recent
from app.content import Reply, Request, replied
from app.oci import accept, conditions, headers
from app.oci.headers import Headers
from app.oci.reference import Digest, RepositoryName
from app.store.verifying import digest_of

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class Copy:
    """A manifest, and what the registry calls it in this repository."""

    digest: Digest
    data: bytes
    media_type: str
    taken: float
    left: float
    public_left: float

    def fits(self, request: Request) -> bool:
        """Tell whether a client takes it."""
        return accept.acceptable(self.media_type, headers.values(request.headers, "accept"))

    def answer(self, request: Request, fields: Headers, *, lasting: bool) -> Reply:
        """Return the answer to a GET or HEAD; nobody may keep what is not lasting: a tag's."""
        public_left = self.public_left if lasting else 0.0
        written = [
            ("Content-Type", self.media_type),
            ("Docker-Content-Digest", str(self.digest)),
            *marks.of_content(self.digest, public_left),
            *fields,
        ]
        if conditions.is_known(request.headers, conditions.etag_of(self.digest)):
            return Reply(status=HTTPStatus.NOT_MODIFIED, headers=written)
        if request.method == "HEAD":
            return Reply(status=HTTPStatus.OK, headers=written, length=len(self.data))
        return replied(HTTPStatus.OK, written, self.data)


class Copies:
    """Reads manifests through the gate of a registry."""

    def __init__(self, registry: str, gate: Gate, disk: Disk) -> None:
        self._registry = registry
        self._gate = gate
        self._disk = disk
        self._recent = Recent[Copy](disk.store)

    def find(self, caller: Caller, name: RepositoryName, digest: Digest) -> Copy | None:
        """Return a manifest that this caller may read now."""
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
        """Return a manifest that everybody may read while the registry is away."""
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
        """Keep a manifest and its type, as a repository, asked then, has sent them to a caller.

        The store refuses what is not the digest's.
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
    """Read what was opened; on a thread, which must not log."""
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
