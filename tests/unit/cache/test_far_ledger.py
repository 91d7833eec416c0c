"""The cache over a ledger that has neither transactions nor versions, as one far away may not."""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from app.oci.errors import UpstreamUnreachable
from app.oci.reference import Operation, Tag
from app.source import Reply
from app.store.memory_blobs import MemoryBlobStore
from tests.servers import wait_until
from tests.unit.cache.conftest import TICK
from tests.unit.cache.registry import FakeRegistry
from tests.unit.cache.world import ALICE, MALLORY, NAME, World, read, request
from tests.unit.store.parts import FakeClock, FarLedger, Storages

TAG = Tag.parse("1.0")
DATA = b'{"schemaVersion":2}'
LAYER = b"layer"


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    """Return a world whose workers share such a ledger."""
    storages = Storages(tmp_path / "cache", FakeClock(tick=TICK), is_in_memory=True)
    near = storages.open()
    assert isinstance(near.blobs, MemoryBlobStore)
    storages.opened[0] = replace(near, ledger=FarLedger(storages.clock, near.blobs.entries))
    yield World(storages, FakeRegistry())
    storages.close()


def status(reply: Reply) -> str:
    """Read a reply to its end, and return what the cache says it did."""
    read(reply)
    return reply.header("cache-status")


def test_a_pull_by_two_workers(world: World) -> None:
    """What one has fetched the other has, for those who may read it."""
    repository = world.registry.repository(NAME, ALICE)
    digest, layer = repository.push(TAG, DATA), repository.push_blob(LAYER)
    manifest, blob = Operation.manifest(NAME, digest), Operation.blob(NAME, layer)
    by_tag = Operation.manifest(NAME, TAG)
    one, other = world.source(), world.source()
    assert "stored" in status(one.answer(by_tag, request(ALICE)))
    assert "stored" in status(one.answer(blob, request(ALICE)))
    blobs = world.storages.opened[0].blobs
    wait_until(lambda: blobs.stat(world.row.name, layer) is not None, what="the copy")
    for source in (one, other):
        for operation in (manifest, blob):
            assert status(source.answer(operation, request(ALICE))) == "docxy; hit"
            assert source.answer(operation, request(MALLORY)).status == 401
        assert "fwd=stale" in status(source.answer(by_tag, request(ALICE)))
    assert world.registry.count("GET") == 2
    repository.readers.clear()
    assert other.answer(by_tag, request(ALICE)).status == 401
    for source in (one, other):
        for operation in (manifest, blob):
            assert source.answer(operation, request(ALICE)).status == 401


def test_while_the_registry_is_away(world: World) -> None:
    """What is public stays readable, and the list of its tags."""
    digest = world.registry.repository(NAME, "").push(TAG, DATA)
    one, other = world.source(), world.source()
    tags = Operation.tags(NAME)
    read(one.answer(Operation.manifest(NAME, TAG), request()))
    listed = read(one.answer(tags, request()))
    world.registry.trouble = UpstreamUnreachable("away")
    assert read(other.answer(Operation.manifest(NAME, TAG), request())) == DATA
    assert read(other.answer(Operation.manifest(NAME, digest), request())) == DATA
    assert read(other.answer(tags, request())) == listed
