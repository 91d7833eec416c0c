from urllib.parse import parse_qsl, urlsplit

import pytest

from tests.wire.upstream import Asked, Connection, always, response
from tests.wire.wires import BLOB, MANIFEST, Wire

TOKEN = "abcdefghij" * 2000
"""20,000 bytes, without a repetition that would hide a cut at its end."""

TOKEN += ".end"


@pytest.mark.parametrize("path", [MANIFEST, BLOB, "/v2/"])
def test_a_long_authorization_passes(any_worker_wire: Wire, path: str) -> None:
    """Tokens of registries in front of cloud accounts are that long."""
    wire = any_worker_wire
    wire.play(always(response(b"{}")))
    with wire.client() as client:
        assert client.get(path, f"Authorization: Bearer {TOKEN}").status == 200
    (asked,) = wire.upstream.asked
    assert asked.values("Authorization") == [f"Bearer {TOKEN}"]


def test_a_long_query_passes(any_worker_wire: Wire) -> None:
    """To the token service, with the parameters in their order."""
    wire = any_worker_wire
    wire.play(always(response(b'{"token":"t"}')))
    query = f"scope=repository:alpine:pull&account={TOKEN}&client_id=docker&offline_token=true"
    with wire.client() as client:
        answer = client.get(f"/auth/token?service=docxy&{query}")
        assert (answer.status, answer.body) == (200, b'{"token":"t"}')
    (asked,) = wire.upstream.asked
    assert parse_qsl(urlsplit(asked.target).query) == [
        ("scope", "repository:library/alpine:pull"),
        ("account", TOKEN),
        ("client_id", "docker"),
        ("offline_token", "true"),
        ("service", "registry.test"),
    ]


def test_a_long_refresh_token_passes(any_worker_wire: Wire) -> None:
    """In a POST, as every pull after a `docker login` sends it; 40 KB."""
    wire = any_worker_wire
    got: list[bytes] = []

    def script(connection: Connection) -> None:
        asked: Asked = connection.head()
        got.append(connection.body(int(asked.value("Content-Length"))))
        connection.send(response(b'{"access_token":"t"}'))
        connection.until_left()

    wire.play(script)
    form = f"grant_type=refresh_token&refresh_token={TOKEN}{TOKEN}&service=docxy"
    with wire.client() as client:
        answer = client.get(
            "/auth/token", "Content-Type: application/x-www-form-urlencoded",
            method="POST", body=form.encode(),
        )  # fmt: skip
        assert (answer.status, answer.body) == (200, b'{"access_token":"t"}')
    (asked,) = wire.upstream.asked
    assert asked.method == "POST"
    assert asked.values("Content-Type") == ["application/x-www-form-urlencoded"]
    assert parse_qsl(got[0].decode()) == [
        ("grant_type", "refresh_token"),
        ("refresh_token", TOKEN + TOKEN),
        ("service", "registry.test"),
    ]
