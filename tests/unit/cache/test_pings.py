"""Pings: a client that starts from nothing is told where to begin, also while nobody answers."""

import json

import pytest

from app.cache.source import CachedSource
from app.oci.errors import RegistryError, UpstreamDown, UpstreamUnreachable
from app.oci.reference import Operation, Tag
from app.source import Reply, TokenRequest, build_reply
from tests.servers import wait_until
from tests.unit.cache.registry import FakeRegistry
from tests.unit.cache.world import ALICE, NAME, World, read, request


def test_the_challenge_is_remembered(world: World) -> None:
    """By all workers."""
    told = world.source().answer(Operation.ping(), request())
    for trouble in (429, 503, UpstreamUnreachable("away"), UpstreamDown("left alone")):
        world.registry.trouble = trouble
        for shown in ("", "Bearer docxy.none"):
            reply = world.source().answer(Operation.ping(), request(shown))
            assert reply.status == told.status == 401
            assert list(reply.challenges) == list(told.challenges)
            assert reply.header("cache-control") == "private, no-store"


TROUBLES = [429, 503, UpstreamUnreachable("away"), UpstreamDown("left alone")]


def token_of(source: CachedSource, *fields: tuple[str, str]) -> str:
    """Get a token, and return the Authorization that shows it."""
    scope = ("scope", f"repository:{NAME}:pull")
    asked = TokenRequest(method="GET", parameters=[scope], headers=list(fields))
    return f"Bearer {json.loads(read(source.token(asked)))['token']}"


@pytest.mark.parametrize("trouble", TROUBLES, ids=str)
def test_a_token_that_everybody_gets_is_good(world: World, trouble: RegistryError | int) -> None:
    """While the registry is away, in whichever worker; udocker pulls only after a 200."""
    shown = token_of(world.source())
    world.registry.trouble = trouble
    reply = world.source().answer(Operation.ping(), request(shown))
    assert (reply.status, read(reply)) == (200, b"{}")
    assert reply.header("cache-control") == "private, no-store"
    world.clock.time += 301
    if isinstance(trouble, int):
        assert world.source().answer(Operation.ping(), request(shown)).status == trouble
        return
    with pytest.raises(type(trouble)):
        world.source().answer(Operation.ping(), request(shown))


@pytest.mark.parametrize(
    "shown", ["hers", ALICE, "Bearer forged", "Bearer docxy.basic.YTpi", "Bearer a.b.c"]
)
def test_no_other_token_is(world: World, shown: str) -> None:
    """Nobody but the registry can tell whether somebody's is good."""
    source = world.source()
    token_of(source)
    if shown == "hers":
        shown = token_of(source, ("Authorization", ALICE))
    world.registry.trouble = UpstreamUnreachable("away")
    with pytest.raises(UpstreamUnreachable):
        source.answer(Operation.ping(), request(shown))


def test_a_registry_that_answers_is_believed(world: World) -> None:
    """Also of a token that everybody gets; and it is asked, not the cache."""
    source = world.source()
    shown = token_of(source)
    asked = len(world.registry.asked)
    assert source.answer(Operation.ping(), request(shown)).status == 401
    assert world.registry.asked[asked:] == ["ping"]


def test_a_stand_in_is_good_while_no_token_can_be_had(world: World) -> None:
    """And no longer: then the registry's challenge leads to a token."""
    world.registry.repository(NAME, "").push("1.0", b"{}")
    source = world.source()
    read(source.answer(Operation.manifest(NAME, Tag("1.0")), request()))
    world.registry.trouble = world.registry.token_trouble = UpstreamUnreachable("away")
    shown = token_of(source)
    assert shown == "Bearer docxy.stale"
    assert source.answer(Operation.ping(), request(shown)).status == 200
    world.registry.trouble = world.registry.token_trouble = None
    world.clock.time += 3
    assert token_of(source) != shown
    wait_until(lambda: source.answer(Operation.ping(), request(shown)).status == 401)


def test_credentials_are_for_the_registry(world: World) -> None:
    """Nobody else can tell whether they are good."""
    world.source().answer(Operation.ping(), request())
    world.registry.trouble = UpstreamUnreachable("away")
    with pytest.raises(UpstreamUnreachable):
        world.source().answer(Operation.ping(), request(ALICE))


def test_nothing_is_remembered(world: World) -> None:
    """Then it cannot be told."""
    world.registry.trouble = UpstreamUnreachable("away")
    with pytest.raises(UpstreamUnreachable):
        world.source().answer(Operation.ping(), request())
    world.registry.trouble = 503
    assert world.source().answer(Operation.ping(), request()).status == 503


def test_a_registry_without_tokens(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is open to all, also then; what is broken in the notes is not told."""

    def ping(self: FakeRegistry, _: object) -> Reply:
        if isinstance(self.trouble, UpstreamUnreachable):
            raise self.trouble
        return build_reply(200, [], b"OK")

    monkeypatch.setattr(FakeRegistry, "ping", ping)
    source = world.source()
    read(source.answer(Operation.ping(), request()))
    world.registry.trouble = UpstreamUnreachable("away")
    assert world.source().answer(Operation.ping(), request()).status == 200
    store = world.storages.opened[-1]
    for value in ("", "[]", '{"status": 200}', '{"status": 401, "challenges": [7]}'):
        store.ledger.notes.record("ping", world.row.name, value, 1)
        with pytest.raises(UpstreamUnreachable):
            world.source().answer(Operation.ping(), request())


def test_reach(world: World) -> None:
    """It is the registry that is asked."""
    world.source().reach()
    world.registry.trouble = UpstreamUnreachable("away")
    with pytest.raises(UpstreamUnreachable):
        world.source().reach()
