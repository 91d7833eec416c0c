"""Pings: a client that starts from nothing is told where to begin, also while nobody answers."""

import pytest

from app.content import Reply, replied
from app.oci.errors import UpstreamDown, UpstreamUnreachable
from tests.unit.cache.registry import FakeRegistry
from tests.unit.cache.world import ALICE, World, read, request


def test_the_challenge_is_remembered(world: World) -> None:
    """By all workers."""
    told = world.source().ping(request())
    for trouble in (429, 503, UpstreamUnreachable("away"), UpstreamDown("left alone")):
        world.registry.trouble = trouble
        for shown in ("", "Bearer docxy.stale", "Bearer docxy.none"):
            reply = world.source().ping(request(shown))
            assert reply.status == told.status == 401
            assert list(reply.challenges) == list(told.challenges)
            assert reply.header("cache-control") == "private, no-store"


def test_credentials_are_for_the_registry(world: World) -> None:
    """Nobody else can tell whether they are good."""
    world.source().ping(request())
    world.registry.trouble = UpstreamUnreachable("away")
    with pytest.raises(UpstreamUnreachable):
        world.source().ping(request(ALICE))


def test_nothing_is_remembered(world: World) -> None:
    """Then it cannot be told."""
    world.registry.trouble = UpstreamUnreachable("away")
    with pytest.raises(UpstreamUnreachable):
        world.source().ping(request())
    world.registry.trouble = 503
    assert world.source().ping(request()).status == 503


def test_a_registry_without_tokens(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is open to all, also then; what is broken in the notes is not told."""

    def ping(self: FakeRegistry, _: object) -> Reply:
        if isinstance(self.trouble, UpstreamUnreachable):
            raise self.trouble
        return replied(200, [], b"OK")

    monkeypatch.setattr(FakeRegistry, "ping", ping)
    source = world.source()
    read(source.ping(request()))
    world.registry.trouble = UpstreamUnreachable("away")
    assert world.source().ping(request()).status == 200
    store = world.stores.opened[-1]
    for value in ("", "[]", '{"status": 200}', '{"status": 401, "challenges": [7]}'):
        store.notes.note("ping", world.row.name, value, 1)
        with pytest.raises(UpstreamUnreachable):
            world.source().ping(request())


def test_reach(world: World) -> None:
    """It is the registry that is asked."""
    world.source().reach()
    world.registry.trouble = UpstreamUnreachable("away")
    with pytest.raises(UpstreamUnreachable):
        world.source().reach()
