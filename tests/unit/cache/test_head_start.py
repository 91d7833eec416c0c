"""Blobs begin when their manifest is served: with its caller's right, and one chunk of each."""

import json
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace

import pytest

from app.background import BackgroundPool
from app.cache import head_start
from app.cache.source import Cache, CachedSource
from app.events import Budget, Event
from app.oci.reference import Operation, Tag
from app.source import Reply
from app.transfer.chunk_map import CHUNK
from tests.servers import wait_until
from tests.unit.cache.blob_registry import BlobRegistry
from tests.unit.cache.registry import INDEX, MANIFEST, digest_of
from tests.unit.cache.world import ALICE, MALLORY, NAME, World, read, request

TAG = Tag.parse("1.0")
CONFIG = b"{}"
SMALL = bytes(range(256)) * 100
MEDIUM = bytes(CHUNK) + SMALL
LARGE = bytes(2 * CHUNK) + SMALL
FIRST_CHUNK = f"bytes=0-{CHUNK - 1}"


class Collected(BackgroundPool):
    """Does what is to be done when it is told to."""

    def __init__(self) -> None:
        super().__init__("nothing runs")
        self.works: list[Callable[[], object]] = []

    def submit(self, work: Callable[[], object], delay: float = 0.0) -> bool:
        """Collect it."""
        del delay
        self.works.append(work)
        return True

    def run(self) -> None:
        """Do all that is there now."""
        works, self.works = self.works, []
        for work in works:
            work()

    def run_until(self, condition: Callable[[], bool]) -> None:
        """Do what is there, again and again, until something is so."""

        def is_so() -> bool:
            self.run()
            return condition()

        wait_until(is_so, 10)


@dataclass
class Seen:
    """What happened in the source."""

    head_starts: list[str] = field(default_factory=list)

    def observe(self, event: Event, about: str = "", amount: float = 1) -> None:
        """Note how a head start ended."""
        del amount
        if event is Event.HEAD_START:
            self.head_starts.append(about)

    def record_budget(self, budget: Budget) -> None:
        """Ignore it."""


@dataclass
class Stage:
    """A worker before a registry with one image."""

    registry: BlobRegistry
    pool: Collected
    seen: Seen
    source: CachedSource

    def push(self, *layers: bytes, reader: str = "") -> None:
        """Let the repository hold an image."""
        repository = self.registry.repository(NAME, reader)
        for data in (CONFIG, *layers):
            repository.push_blob(data)
        repository.push(TAG, image(layers), MANIFEST)

    def pull_manifest(self, authorization: str = "", method: str = "GET") -> Reply:
        """Ask for the manifest."""
        reply = self.source.answer(Operation.manifest(NAME, TAG), request(authorization, method))
        read(reply)
        return reply

    def pull_blob(self, data: bytes, authorization: str = "", **fields: str) -> tuple[int, bytes]:
        """Return the status of a blob, and what there is of it."""
        operation = Operation.blob(NAME, digest_of(data))
        reply = self.source.answer(operation, request(authorization, **fields))
        return reply.status, read(reply)

    def begin(self) -> None:
        """Let all blobs begin."""
        self.pool.run()  # reads the manifest
        self.pool.run()  # begins its blobs

    def blobs_asked(self) -> list[tuple[bytes, str]]:
        """Return which blobs the registry was asked for, and for which range."""
        names = {
            f"GET {NAME}/blobs/{digest_of(data)}": data for data in (CONFIG, SMALL, MEDIUM, LARGE)
        }
        return [
            (names[asked], dict(one.headers).get("Range", ""))
            for asked, one in zip(self.registry.asked, self.registry.requests, strict=False)
            if asked in names
        ]


def image(layers: Sequence[bytes]) -> bytes:
    """Return a manifest."""
    named = [{"digest": digest_of(data), "size": len(data)} for data in layers]
    config = {"digest": digest_of(CONFIG), "size": len(CONFIG)}
    return json.dumps({"schemaVersion": 2, "config": config, "layers": named}).encode()


@pytest.fixture
def stage(world: World) -> Stage:
    """Return it, with nothing kept."""
    registry, pool, seen = BlobRegistry(), Collected(), Seen()
    cache = Cache(world.storages.open(), world.policy)
    source = cache.wrap(registry, world.row, observer=seen, head_starts=pool)
    return Stage(registry, pool, seen, source)


def test_one_chunk_of_each_blob_begins(stage: Stage) -> None:
    """The config first, then the layers in their order, once.

    If another request would be for less than a chunk, all of a blob begins.
    """
    stage.push(LARGE, SMALL, MEDIUM)
    stage.pull_manifest()
    stage.begin()
    asked = [(CONFIG, FIRST_CHUNK), (LARGE, FIRST_CHUNK), (SMALL, FIRST_CHUNK)]
    asked.append((MEDIUM, f"bytes=0-{2 * CHUNK - 1}"))
    assert stage.blobs_asked() == asked
    stage.pull_manifest()
    stage.begin()
    assert stage.blobs_asked() == asked


def test_what_begins_is_not_asked_for_again(stage: Stage) -> None:
    """The client joins, and then the rest of all blobs comes."""
    stage.push(LARGE, SMALL)
    stage.pull_manifest()
    stage.begin()
    assert stage.pull_blob(SMALL) == (200, SMALL)
    stage.pool.run_until(lambda: len(stage.blobs_asked()) == 4)
    assert stage.blobs_asked()[3] == (LARGE, f"bytes={CHUNK}-{len(LARGE) - 1}")
    assert stage.pull_blob(LARGE) == (200, LARGE)
    assert stage.pull_blob(CONFIG) == (200, CONFIG)
    assert len(stage.blobs_asked()) == 4
    stage.pool.run_until(lambda: stage.seen.head_starts == ["used"])


@pytest.mark.parametrize("method", ["GET", "HEAD"])
def test_what_is_no_image_begins_nothing(stage: Stage, method: str) -> None:
    """Neither an index, nor the question whether there is an image."""
    stage.push(SMALL)
    if method == "GET":
        document = {"schemaVersion": 2, "manifests": [{"digest": digest_of(image([])), "size": 1}]}
        stage.registry.repository(NAME).push(TAG, json.dumps(document).encode(), INDEX)
    assert stage.pull_manifest(method=method).status == 200
    stage.begin()
    assert stage.blobs_asked() == []


@pytest.mark.parametrize("reads_config", [False, True])
def test_who_reads_no_layers_gets_no_head_start(
    stage: Stage, monkeypatch: pytest.MonkeyPatch, *, reads_config: bool
) -> None:
    """After two, until it asks for a layer that has begun; others get theirs."""
    monkeypatch.setattr(head_start, "_REPEATED", -1.0)
    stage.push(LARGE)
    for _ in range(2):
        stage.pull_manifest()
        stage.begin()
        if reads_config:
            assert stage.pull_blob(CONFIG) == (200, CONFIG)
    stage.pool.run()
    count = len(stage.blobs_asked())
    assert count == 2
    stage.pull_manifest()
    assert not [work for work in stage.pool.works if work.func.__name__ == "_begin_image"]  # type: ignore[attr-defined]
    assert stage.pull_blob(LARGE) == (200, LARGE)
    stage.push(MEDIUM)
    stage.pull_manifest()
    stage.begin()
    assert stage.blobs_asked()[-1][0] == MEDIUM


def test_a_refused_request_uses_nothing(stage: Stage) -> None:
    """Neither one that the registry refuses, nor one of another caller or for the config."""
    stage.push(LARGE, reader=ALICE)
    stage.pull_manifest(ALICE)
    stage.begin()
    assert stage.pull_blob(LARGE, MALLORY)[0] == 401
    assert stage.pull_blob(CONFIG, ALICE, Range="bytes=0-0")[0] == 206
    stage.pool.run()
    stage.pool.run()
    asked = [one for one in stage.registry.requests if one.authorization == ALICE]
    assert len(asked) == 3  # the manifest, and the beginning of two blobs
    assert stage.seen.head_starts == []


def test_nothing_is_verified_for_nobody(stage: Stage, world: World) -> None:
    """With DOCXY_VERIFY_BLOBS, too, a chunk of each layer is all that comes."""
    cache = Cache(world.storages.open(), replace(world.policy, verify_blobs=True))
    stage.source = cache.wrap(
        stage.registry, world.row, observer=stage.seen, head_starts=stage.pool
    )
    stage.push(LARGE)
    stage.pull_manifest()
    stage.begin()
    wait_until(lambda: not any(one.name.startswith("blob ") for one in threading.enumerate()), 10)
    assert stage.blobs_asked() == [(CONFIG, FIRST_CHUNK), (LARGE, FIRST_CHUNK)]
    assert stage.pull_blob(LARGE) == (200, LARGE)


def test_it_costs_one_chunk_of_each_layer(stage: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    """If the client asks for none of them."""
    stage.push(LARGE)
    stage.pull_manifest()
    stage.begin()
    monkeypatch.setattr(head_start, "_PATIENCE", -1.0)
    stage.pool.run_until(lambda: stage.seen.head_starts == ["wasted"])
    assert stage.blobs_asked() == [(CONFIG, FIRST_CHUNK), (LARGE, FIRST_CHUNK)]


def test_nobody_else_is_let_in(stage: Stage) -> None:
    """The bytes that have come are for those whom the registry lets read them."""
    stage.push(LARGE, reader=ALICE)
    stage.pull_manifest(ALICE)
    stage.begin()
    assert len(stage.blobs_asked()) == 2
    for fields in ({}, {"Range": "bytes=0-0"}):
        status, body = stage.pull_blob(LARGE, MALLORY, **fields)
        assert status == 401
        assert not set(body) & {0}
    assert stage.pull_blob(LARGE, ALICE) == (200, LARGE)


def test_a_right_that_is_taken_away(stage: Stage) -> None:
    """The registry refuses the first blob, and so nothing comes and no other blob is asked for."""
    stage.push(LARGE, SMALL, reader=ALICE)
    stage.pull_manifest(ALICE)
    stage.registry.repository(NAME).readers.clear()
    stage.begin()
    assert stage.blobs_asked() == [(CONFIG, FIRST_CHUNK)]
    assert stage.pull_blob(LARGE, ALICE)[0] == 401
    stage.pool.run()
    assert stage.seen.head_starts == []
