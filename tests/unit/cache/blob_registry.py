"""A registry whose blobs come in parts, as slowly as a test wants."""

import threading
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from http import HTTPStatus
from pathlib import Path

from app.cache.authz.gate import Gate
from app.cache.blobs.blobs import BlobCache
from app.cache.blobs.unfinished import build_transfers
from app.cache.stale import StaleIfError
from app.oci import headers
from app.oci.conditional import parse_range
from app.oci.reference import Digest, RepositoryName
from app.source import BodyBroken, Reply, Request
from app.store.blobs import SizeLimits
from app.store.storage import Storage
from app.transfer.watch import UnreadLimits
from tests.unit.cache.registry import FakeRegistry, digest_of
from tests.unit.cache.world import NAME, World, executor
from tests.unit.store.parts import ROOMY, grant
from tests.unit.transfer.parts import blob_of

PIECE = 1000
DATA = blob_of(10_500)
DIGEST = digest_of(DATA)
OTHER = RepositoryName.parse("mallory/own")
"""A repository of somebody else's, which has nothing."""


class BlobRegistry(FakeRegistry):
    """Knows ranges, sends in pieces, and waits in the middle until it is let go on."""

    def __init__(self) -> None:
        super().__init__()
        self.going_on = threading.Event()
        self.going_on.set()
        self.breaks_at: int | None = None
        self.piece = PIECE
        self.silent = False
        """Whether it tells no length."""
        self.tells_total = True
        """Whether a part comes with the size of the whole."""

    def blob(self, name: RepositoryName, digest: Digest, request: Request) -> Reply:
        """Answer with a blob, or a part of it."""
        reply = super().blob(name, digest, request)
        if reply.is_error or request.method == "HEAD" or not reply.header("docker-content-digest"):
            return reply
        data = reply.read()
        wanted = parse_range(headers.get_first(request.headers, "range"))
        part = wanted.resolve(len(data)) if wanted else (0, len(data))
        if part is None:
            return Reply(status=HTTPStatus.REQUESTED_RANGE_NOT_SATISFIABLE, length=0)
        start, end = part
        total = len(data) if self.tells_total else "*"
        fields = [*reply.headers, ("Content-Range", f"bytes {start}-{end - 1}/{total}")]
        return replace(
            reply,
            status=HTTPStatus.PARTIAL_CONTENT if wanted else HTTPStatus.OK,
            headers=fields if wanted else reply.headers,
            length=None if self.silent else end - start,
            body=self._pieces(data[start:end], start),
        )

    def _pieces(self, data: bytes, offset: int) -> Iterator[bytes]:
        for at in range(0, len(data), self.piece):
            if at:
                assert self.going_on.wait(30)
            if self.breaks_at is not None and offset + at >= self.breaks_at:
                message = "the registry broke off"
                raise BodyBroken(message)
            yield data[at : at + self.piece]


@dataclass
class BlobWorld:
    """What answers with blobs, over one storage and one registry."""

    world: World
    registry: BlobRegistry
    unread: UnreadLimits = field(default_factory=UnreadLimits)
    accel: str | None = None
    verify_blobs: bool = False
    limits: SizeLimits = ROOMY

    @property
    def storage(self) -> Storage:
        """The storage of the first worker."""
        return self.world.storages.opened[0]

    @property
    def unfinished(self) -> Path:
        """Where the blobs of the registry are while they are fetched."""
        return self.world.storages.directory / "unfinished" / self.world.row.name

    @property
    def ranges(self) -> list[str]:
        """The Range of each GET that the registry got; "" where it had none."""
        return [
            headers.get_first(asked.headers, "range")
            for asked in self.registry.requests
            if asked.method == "GET"
        ]

    def is_kept(self, digest: Digest = DIGEST) -> bool:
        """Tell whether a blob is in the store."""
        return self.storage.blobs.stat(self.world.row.name, digest) is not None

    def let_read(self, authorization: str) -> None:
        """Let somebody read the repository, as a manifest does with which a pull begins."""
        name, asked = self.world.caller(authorization).name, self.world.clock.now()
        grant(self.storage.ledger, name, self.world.row.name, NAME, 60, asked=asked)

    def worker(self) -> BlobCache:
        """Return what a new worker has."""
        storage, row = self.world.storages.open(self.limits), self.world.row
        disk = executor(storage)
        gate = Gate(row.name, disk, self.world.policy)
        policy = replace(
            self.world.policy,
            accel_location=self.accel,
            verify_blobs=self.verify_blobs,
            unread_limits=self.unread,
        )
        transfers = build_transfers(disk, storage.unfinished, row.name, policy)
        away = StaleIfError(row.name, disk, self.registry.reach)
        return BlobCache(self.registry, gate, away, transfers, policy)

    def ask(
        self,
        blobs: BlobCache,
        told: Request,
        digest: Digest = DIGEST,
        name: RepositoryName = NAME,
    ) -> Reply:
        """Ask for a blob, as a client does."""
        caller, own = self.world.callers().identify(told)
        return blobs.serve_blob(caller, name, digest, own)


def is_fetching() -> bool:
    """Tell whether a fetch goes on, of any worker."""
    return any(one.name.startswith("blob ") for one in threading.enumerate())


def body_of(reply: Reply) -> bytes:
    """Read a reply to its end, and close it."""
    try:
        return reply.read()
    finally:
        reply.close()
