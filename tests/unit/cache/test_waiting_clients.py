"""Clients that leave while they wait for another request's fetch."""

from collections.abc import Callable
from dataclasses import replace

import pytest

from app.cache.source import CachedSource
from app.oci.errors import ClientGone
from app.oci.reference import Digest, Operation, Tag
from app.source import Reply, TokenRequest
from app.waiting import SingleFlight
from tests.unit.cache.world import ALICE, NAME, World, request


class Gone:
    """A client that has left."""

    def is_gone(self) -> bool:
        """Return True."""
        return True


Ask = Callable[[CachedSource, Digest], Reply]


def _ask(source: CachedSource, operation: Operation) -> Reply:
    return source.answer(operation, replace(request(ALICE), client=Gone()))


ASKS: dict[str, Ask] = {
    "tag": lambda source, _: _ask(source, Operation.manifest(NAME, Tag("latest"))),
    "manifest": lambda source, digest: _ask(source, Operation.manifest(NAME, digest)),
    "blob": lambda source, digest: _ask(source, Operation.blob(NAME, digest)),
    "token": lambda source, _: source.token(
        TokenRequest(method="GET", parameters=[("scope", f"repository:{NAME}:pull")], client=Gone())
    ),
}


@pytest.mark.parametrize("kind", ASKS)
def test_nobody_waits_for_it(world: World, monkeypatch: pytest.MonkeyPatch, kind: str) -> None:
    """It waits as long as its client does, and asks the registry nothing."""
    digest = world.registry.repository(NAME, ALICE).push("latest", b"{}")
    source = world.source()

    def wait(flights: SingleFlight[object], key: object, client: Gone | None = None) -> None:
        del flights, key
        assert client is not None
        assert client.is_gone()
        raise ClientGone

    monkeypatch.setattr(SingleFlight, "lead", wait)
    with pytest.raises(ClientGone):
        ASKS[kind](source, digest)
    assert world.registry.count("GET") == 0
