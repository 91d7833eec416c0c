"""A registry, a store, and what is built between them."""

from dataclasses import dataclass, field
from functools import partial

import pytest

from app.background import BackgroundPool
from app.cache.authz.callers import Caller, Callers
from app.cache.authz.gate import Gate
from app.cache.disk import DiskExecutor
from app.cache.policy import CachePolicy
from app.cache.source import Cache, CachedSource
from app.oci.reference import Digest, RepositoryName
from app.registries import Registry
from app.source import Reply, Request
from app.store.storage import Storage
from tests.unit.cache.registry import FakeRegistry
from tests.unit.store.parts import FakeClock, Storages

in_a_directory = pytest.mark.parametrize("world", ["directory"], indirect=True)
"""For tests of what only a disk, SQLite, or workers that are not one process do."""

ROW = Registry(name="r.example", url="https://r.example")
KEY = b"k" * 32
NAME = RepositoryName.parse("team/app")
ALICE = "Basic YWxpY2U6YQ=="
MALLORY = "Basic bWFsbG9yeTpt"


def read(reply: Reply) -> bytes:
    """Read an answer to its end and close it, as the relay does."""
    try:
        return reply.read()
    finally:
        reply.close()


def request(authorization: str = "", method: str = "GET", **fields: str) -> Request:
    """Return a client's request."""
    written = [(name.replace("_", "-"), value) for name, value in fields.items()]
    if authorization:
        written.append(("Authorization", authorization))
    return Request(method=method, headers=written)


def executor(storage: Storage) -> DiskExecutor:
    """Return what calls a storage."""
    return DiskExecutor(storage.blobs, storage.ledger)


@dataclass
class World:
    """Opens as many workers as a test wants over one storage and one registry."""

    storages: Storages
    registry: FakeRegistry
    policy: CachePolicy = field(default_factory=CachePolicy)
    row: Registry = ROW

    @property
    def clock(self) -> FakeClock:
        """The clock of the storages."""
        return self.storages.clock

    def gate(self, storage: Storage | None = None) -> Gate:
        """Return the gate of a new worker."""
        return Gate(self.row.name, executor(storage or self.storages.open()), self.policy)

    def source(self, background: BackgroundPool | None = None) -> CachedSource:
        """Return the source of a new worker."""
        cache = Cache(self.storages.open(), self.policy)
        return cache.wrap(self.registry, self.row, background=background)

    def callers(self) -> Callers:
        """Return what tells callers apart."""
        return Callers(self.row, KEY)

    def caller(self, authorization: str = "") -> Caller:
        """Return who shows this."""
        return self.callers().identify(request(authorization))[0]

    def caller_of(self, source: CachedSource, authorization: str) -> Caller:
        """Return who shows this to a source."""
        return source.callers.identify(request(authorization))[0]

    def ask_blob(
        self, gate: Gate, authorization: str, digest: Digest, name: RepositoryName = NAME
    ) -> Reply:
        """Ask the registry for a blob through a gate, with HEAD."""
        caller, own = self.callers().identify(request(authorization, "HEAD"))
        return gate.fetch_blob(caller, name, partial(self.registry.blob, name, digest, own), digest)
