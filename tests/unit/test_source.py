"""Request, Reply: what crosses between the rooms."""

from errno import ECONNRESET

import pytest

from app.source import BodyBroken, HandedOver, Reply, Request, build_reply
from tests.unit.fake_source import FakeSource, satisfies_the_protocol


def test_authorization_is_the_clients() -> None:
    """Credentials are read as they were sent; none and empty are the same."""
    assert (
        Request(method="GET", headers=[("AUTHORIZATION", "Bearer x")]).authorization == "Bearer x"
    )
    assert Request(method="GET", headers=[("Authorization", "")]).authorization == ""
    assert Request(method="GET").authorization == ""


@pytest.mark.parametrize(
    ("status", "expected"),
    [
        pytest.param(200, [False], id="200"),
        pytest.param(206, [False], id="206"),
        pytest.param(304, [False], id="304"),
        pytest.param(399, [False], id="399"),
        pytest.param(400, [True], id="400"),
        pytest.param(401, [True], id="401"),
        pytest.param(503, [True], id="503"),
    ],
)
def test_is_error(status: int, expected: list[bool]) -> None:
    """From 400 on, a registry refused or failed."""
    assert [Reply(status=status).is_error] == expected


def test_replied() -> None:
    """A body at hand has its length, is sent once, and needs no closing."""
    reply = build_reply(200, [("Content-Type", "text/plain")], b"body")
    assert reply.length == 4
    assert reply.header("content-type") == "text/plain"
    assert reply.header("missing") == ""
    assert list(reply.chunks()) == [b"body"]
    reply.close()


def test_every_body_is_read_as_what_it_is() -> None:
    """Bytes can be read again, a stream once; what nginx sends is not here."""
    at_hand, stream = Reply(status=200, body=b"ab"), Reply(status=200, body=iter([b"a", b"b"]))
    assert [at_hand.read(), b"".join(at_hand.chunks())] == [b"ab", b"ab"]
    assert [stream.read(), stream.read()] == [b"ab", b""]
    assert list(Reply(status=200).chunks()) == []
    assert Reply(status=200, length=9, body=HandedOver("/kept/x")).read() == b""


@pytest.mark.parametrize(
    ("said", "digest"),
    [("sha256:" + "a" * 64, "sha256:" + "a" * 64), ("", None), ("sha256:short", None)],
)
def test_the_digest_that_an_answer_says(said: str, digest: str | None) -> None:
    """What is no digest says as much as nothing."""
    fields = [("Docker-Content-Digest", said)] if said else []
    assert build_reply(200, fields, b"").digest == digest


def test_a_broken_body_is_a_reset() -> None:
    """Servers take it for what it is: the connection of the client has to break."""
    error = BodyBroken("IncompleteRead")
    assert isinstance(error, ConnectionResetError)
    assert error.errno == ECONNRESET
    assert "IncompleteRead" in str(error)


def test_the_fake_is_a_source() -> None:
    """The fake of these tests has every method of the protocol, mypy says so too."""
    source = satisfies_the_protocol(FakeSource())
    for method in ("answer", "token", "reach"):
        assert callable(getattr(source, method))
