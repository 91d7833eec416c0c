"""Tokens that expire while a layer is under way: whose may be replaced, and whose not."""

import pytest

from tests.hub.hub import Hub
from tests.hub.images import Blob
from tests.hub.tokens import claims_of
from tests.integration.survival import (
    ALICE,
    ALPINE,
    Surviving,
    Survivor,
    blob_path,
    layer,
)

pytestmark = pytest.mark.integration

PRIVATE = "alice/private"
SOME = 50_000


def meanwhile(survivor: Survivor, name: str, blob: Blob, *fields: str) -> bytes:
    """Return what comes of a layer while whose first bytes came an hour passed."""
    survivor.hub.fail(part="cdn", stall_after=SOME)
    with survivor.client() as client:
        client.ask(blob_path(blob.digest, name), *fields)
        assert client.head().status == 200
        data = client.exactly(SOME)
        survivor.hub.advance(3600)
        return data + client.exactly(len(blob.data) - SOME)


def shown(hub: Hub) -> list[str]:
    """Return the tokens that the registry was shown for blobs, one after the other."""
    records = hub.select("registry", "GET", "/blobs/")
    return [record.headers["Authorization"].removeprefix("Bearer ") for record in records]


def private(hub: Hub) -> Blob:
    """Return a layer that is not everybody's."""
    return hub.image(PRIVATE, "1").layers[1]


def test_nobodys(survivor: Survivor) -> None:
    """A new token for nobody is what the client would have got as well."""
    blob = layer(survivor.hub)
    assert meanwhile(survivor, ALPINE, blob, survivor.login()) == blob.data
    tokens = shown(survivor.hub)
    assert tokens[0] == tokens[1] != tokens[2]
    assert [claims_of(token)["sub"] for token in tokens] == ["", "", ""]


@pytest.mark.parametrize("name", [ALPINE, PRIVATE])
def test_somebodys(survivor: Survivor, name: str) -> None:
    """Whoever logged in is not served as nobody: the connection is cut, what came is good.

    That the repository is everybody's makes no difference.
    """
    blob = private(survivor.hub) if name == PRIVATE else layer(survivor.hub)
    authorization = survivor.login(name, ALICE)
    came = meanwhile(survivor, name, blob, authorization)
    assert came == blob.data[:SOME]
    assert {f"Authorization: Bearer {token}" for token in shown(survivor.hub)} == {authorization}
    assert survivor.hub.count("token") == 1


def test_somebodys_without_a_break(survivor: Survivor) -> None:
    """A token that expires is no reason to end a body that comes."""
    blob = private(survivor.hub)
    authorization = survivor.login(PRIVATE, ALICE)
    survivor.hub.fail(part="cdn", cut_after=SOME)
    answer = survivor.get(blob_path(blob.digest, PRIVATE), authorization)
    assert (answer.complete, answer.body == blob.data) == (True, True)


def test_this_proxys_own(surviving: Surviving, bad_day: Hub) -> None:
    """With `managed` the token is this proxy's to renew, and the client has none."""
    survivor = surviving(
        DOCXY_CREDENTIALS="managed", DOCXY_USERNAME=ALICE[0], DOCXY_PASSWORD=ALICE[1]
    )
    blob = private(bad_day)
    assert meanwhile(survivor, PRIVATE, blob) == blob.data
    tokens = shown(bad_day)
    assert tokens[-1] not in tokens[:-1]
    assert {claims_of(token)["sub"] for token in tokens} == {"alice"}
