"""What a request costs the index: docs/cache.md has the numbers."""

import json
from collections.abc import Iterator
from dataclasses import replace

import pytest

from app.cache.policy import CachePolicy
from app.cache.source import CachedSource
from app.oci.reference import Digest, Operation, Tag
from app.source import Permit, Reply, TokenRequest
from tests.servers import wait_until
from tests.unit.cache.registry import ANYBODY, MANIFEST
from tests.unit.cache.transactions import Transactions, counted
from tests.unit.cache.world import ALICE, NAME, World, in_a_directory, read, request

pytestmark = in_a_directory

TAG = Tag.parse("1.0")
DATA = b'{"schemaVersion":2}'
LAYER = b"layer"


@pytest.fixture
def told(monkeypatch: pytest.MonkeyPatch) -> Iterator[Transactions]:
    """Count the transactions of all workers."""
    with counted(monkeypatch) as transactions:
        yield transactions


@pytest.fixture(params=["token", "nobody", "login"])
def shown(request: pytest.FixtureRequest) -> str:
    """Return the kind of credentials that a client shows."""
    kind: str = request.param
    return kind


class Client:
    """A client of a worker, whose requests are counted one by one."""

    def __init__(self, world: World, told: Transactions, shown: str) -> None:
        repository = world.registry.repository(NAME, ANYBODY, "", ALICE)
        self.digest = repository.push(TAG, DATA)
        self.layer = repository.push_blob(LAYER)
        self.source = world.source()
        self.permit: Permit | None = None
        self._told = told
        self._authorization = ALICE if shown == "login" else ""
        if shown == "token":
            scope = ("scope", f"repository:{NAME}:pull")
            reply = self.source.token(TokenRequest(method="GET", headers=[], parameters=[scope]))
            self._authorization = f"Bearer {json.loads(read(reply))['token']}"
        assert (
            self.source.answer(Operation.manifest(NAME, Tag.parse("none")), request()).status == 404
        )

    def manifest(self, reference: Digest | Tag, source: CachedSource | None = None) -> str:
        """Pull a manifest, and return what the cache says it did."""
        asked = replace(request(self._authorization, accept=MANIFEST), permit=self.permit)
        self._told.clear()
        return self._read(
            (source or self.source).answer(Operation.manifest(NAME, reference), asked), DATA
        )

    def blob(self) -> str:
        """Pull the layer, and return what the cache says it did."""
        self._told.clear()
        wanted = Operation.blob(NAME, self.layer)
        return self._read(self.source.answer(wanted, request(self._authorization)), LAYER)

    def _read(self, reply: Reply, data: bytes) -> str:
        assert read(reply) == data
        return reply.header("cache-status")


def test_a_manifest_by_tag(world: World, told: Transactions, shown: str) -> None:
    """Six for the first, before and after its head; a second pull only reads, and writes nothing.

    They are: what the tag means, and once more in the lead; what the registry's answer proves; the
    file that comes, and that is there; whose it is, with what the tag means now.
    """
    client = Client(world, told, shown)
    assert "stored" in client.manifest(TAG)
    assert (len(told.reads), len(told.writes)) == (2, 4)
    assert "fwd=stale" in client.manifest(TAG)
    assert len(told.writes) <= 1  # when the content was used last
    assert len(told.reads) == 3


def test_a_manifest_by_digest(world: World, told: Transactions, shown: str) -> None:
    """A hit is one, whatever has to be known for it."""
    client = Client(world, told, shown)
    client.manifest(TAG)
    client.manifest(client.digest)
    told.clear()
    assert client.manifest(client.digest) == "docxy; hit"
    assert (len(told.reads), told.writes) == (1, [])


@pytest.mark.parametrize("has_rules", [False, True], ids=["", "rules"])
def test_a_manifest_that_is_hot(
    world: World, told: Transactions, shown: str, *, has_rules: bool
) -> None:
    """While nobody writes, the index is not asked at all."""
    client = Client(world, told, shown)
    if has_rules:
        client.permit = lambda *_: None
    client.manifest(TAG)
    client.manifest(client.digest)
    ledger = world.storages.opened[-1].ledger
    wait_until(lambda: ledger.read_version() is not None, what="the last write to be a while ago")
    client.manifest(client.digest)
    assert client.manifest(client.digest) == "docxy; hit"
    assert len(told) == 0


def test_a_tag_that_is_hot(world: World, told: Transactions, shown: str) -> None:
    """While nobody writes, its meaning and its age are known without the index."""
    world.policy = CachePolicy(tag_ttl=60)
    client = Client(world, told, shown)
    client.manifest(TAG)
    ledger = world.storages.opened[-1].ledger
    for _ in range(2):
        wait_until(lambda: ledger.read_version() is not None, what="the last write to be past")
        client.manifest(TAG)
    world.clock.time += 4
    assert client.manifest(TAG) == "docxy; hit"
    assert len(told) == 0
    world.clock.time += 57
    assert "fwd=stale" in client.manifest(TAG)


def test_a_blob(world: World, told: Transactions, shown: str) -> None:
    """A hit is one."""
    client = Client(world, told, shown)
    client.manifest(TAG)
    assert "stored" in client.blob()
    store = world.storages.opened[-1]
    wait_until(lambda: store.blobs.stat(world.row.name, client.layer) is not None, what="the copy")
    client.blob()
    assert client.blob() == "docxy; hit"
    assert (len(told.reads), told.writes) == (1, [])
