"""Reply -> response: what comes down, in the client's naming, closed however it ends."""

import socket
import time
from collections.abc import Callable, Iterator
from dataclasses import replace

import pytest
from flask import Flask
from flask.testing import FlaskClient

from app.events import Exchange
from app.oci.challenge import Challenge
from app.oci.errors import HostInvalid
from app.registries import Registry, Selection
from app.routes.connection import ClientConnection
from app.routes.context import begin, get_context
from app.routes.relay import RelayedBody, relay
from app.source import BodyBroken, FileBody, HandedOver, Reply, build_reply
from tests.unit.fake_source import FakeSource

MANIFEST = "/v2/library/nginx/manifests/latest"
TAGS = "/v2/nginx/tags/list"
REFUSED = b'{"errors":[{"code":"UNAUTHORIZED"}]}'


ROW = Registry(name="docker.io", url="https://registry.example")


def bearer(scope: str) -> Challenge:
    """Return the challenge of a registry for a scope."""
    realm = "https://auth.docker.example/token"
    return Challenge("Bearer", {"realm": realm, "service": "reg", "scope": scope})


@pytest.mark.parametrize(
    ("path", "scope", "told"),
    [
        pytest.param(MANIFEST, "repository:library/nginx:pull", "library/nginx", id="whole"),
        pytest.param(TAGS, "repository:library/nginx:pull", "nginx", id="short"),
        pytest.param(
            "/v2/docker.io/nginx/manifests/x",
            "repository:library/nginx:pull",
            "docker.io/nginx",
            id="prefix",
        ),
    ],
)
def test_challenges_are_in_the_clients_naming(
    client: FlaskClient, source: FakeSource, path: str, scope: str, told: str
) -> None:
    """Every 401 names our realm, the registry's service, and the repository as it was asked."""
    source.answers(REFUSED, status=401, challenges=[bearer(scope)])
    answer = client.get(path)
    assert answer.status_code == 401
    assert answer.data == REFUSED
    assert answer.headers.getlist("WWW-Authenticate") == [
        f'Bearer realm="http://localhost/auth/token",service="reg",scope="repository:{told}:pull"'
    ]


@pytest.mark.parametrize(
    ("scope", "told"),
    [
        pytest.param(
            "repository:library/nginx:pull repository:a/b:pull",
            "repository:nginx:pull repository:a/b:pull",
            id="several",
        ),
        pytest.param("registry:catalog:*", "registry:catalog:*", id="not of a repository"),
        pytest.param("garbage", "garbage", id="not a scope"),
        pytest.param("", "", id="empty"),
        pytest.param(
            "repository(plugin):library/nginx:pull", "repository(plugin):nginx:pull", id="class"
        ),
    ],
)
def test_scopes_of_a_challenge(
    client: FlaskClient, source: FakeSource, scope: str, told: str
) -> None:
    """Only the repository that was asked for has another name at the client."""
    source.answers(REFUSED, status=401, challenges=[bearer(scope)])
    assert f',scope="{told}"' in client.get(TAGS).headers["WWW-Authenticate"]


@pytest.mark.parametrize(
    ("path", "query", "link"),
    [
        pytest.param(f"{TAGS}?n=2", "n=2&last=b", f"<{TAGS}?n=2&last=b>", id="short name"),
        pytest.param(
            "/v2/docker.io/nginx/tags/list",
            "last=b",
            "</v2/docker.io/nginx/tags/list?last=b>",
            id="prefix",
        ),
        pytest.param(
            "/v2/a/b/tags/list?ns=docker.io&n=2",
            "n=2&last=b",
            "</v2/a/b/tags/list?n=2&last=b&ns=docker.io>",
            id="ns",
        ),
    ],
)
def test_the_next_page_leads_back_here(
    client: FlaskClient, source: FakeSource, path: str, query: str, link: str
) -> None:
    """Link has the path that the client asked, and the query that the registry gave."""
    source.answers(b"{}", next_query=query)
    assert client.get(path).headers.getlist("Link") == [f'{link}; rel="next"']
    assert client.head(path).headers.getlist("Link") == [f'{link}; rel="next"']


def test_a_client_that_follows_links_gets_every_page(
    client: FlaskClient, source: FakeSource
) -> None:
    """The link of one answer is the next request, with what the registry wanted in it."""
    source.answers(b"{}", next_query="n=2&last=b%2Bc")
    link = client.get(f"{TAGS}?n=2&ns=docker.io").headers["Link"]
    source.answers(b"{}", next_query=None)
    answer = client.get(link.partition("<")[2].partition(">")[0])
    assert answer.status_code == 200
    assert "Link" not in answer.headers
    assert source.calls[1].name == "library/nginx"
    assert source.calls[1].request.query == "n=2&last=b%2Bc"


@pytest.mark.parametrize(
    ("path", "location", "relayed"),
    [
        pytest.param(
            "/v2/docker.io/nginx/tags/list",
            "blobs/uploads/1",
            "/v2/docker.io/nginx/blobs/uploads/1",
            id="prefix",
        ),
        pytest.param(
            TAGS, "blobs/uploads/1?state=x", "/v2/nginx/blobs/uploads/1?state=x", id="query"
        ),
        pytest.param(
            "/v2/a/b/tags/list?ns=docker.io",
            "blobs/uploads/1",
            "/v2/a/b/blobs/uploads/1?ns=docker.io",
            id="ns",
        ),
        pytest.param(
            "/v2/a/b/tags/list?ns=docker.io",
            "blobs/uploads/1?state=x",
            "/v2/a/b/blobs/uploads/1?state=x&ns=docker.io",
            id="ns and query",
        ),
    ],
)
def test_a_location_leads_back_here(
    client: FlaskClient, source: FakeSource, path: str, location: str, relayed: str
) -> None:
    """Location has the repository's name as the client asked for it, and the registry's rest."""
    source.answers(b"{}", status=202, location=location)
    assert client.get(path).headers.getlist("Location") == [relayed]
    source.answers(b"{}", location=None)
    assert "Location" not in client.get(path).headers


def test_headers_come_down_as_they_are(client: FlaskClient, source: FakeSource) -> None:
    """In order, repeated ones repeated, nothing of Flask's added."""
    sent = [
        ("Content-Type", "application/vnd.oci.image.index.v1+json"),
        ("Docker-Content-Digest", "sha256:abc"),
        ("X-Twice", "1"),
        ("X-Twice", "2"),
        ("ETag", '"x"'),
    ]
    source.answers(b"body", headers=sent)
    answer = client.get(MANIFEST)
    assert [field for field in answer.headers if field in sent] == sent
    assert answer.headers.getlist("Content-Length") == ["4"]
    assert {name for name, _ in answer.headers} - {name for name, _ in sent} == {
        "Content-Length",
        "X-Request-ID",
        "X-Content-Type-Options",
        "Content-Security-Policy",
        "Docker-Distribution-Api-Version",
    }


def test_no_content_type_is_invented(client: FlaskClient, source: FakeSource) -> None:
    """What the registry did not say is not said."""
    source.answers(b"body")
    assert "Content-Type" not in client.get(MANIFEST).headers


@pytest.mark.parametrize(
    ("status", "body"),
    [
        pytest.param(200, b"body", id="200"),
        pytest.param(206, b"ody", id="206"),
        pytest.param(404, b'{"errors":[]}', id="404"),
        pytest.param(416, b'{"errors":[]}', id="416"),
        pytest.param(429, b'{"errors":[]}', id="429"),
        pytest.param(503, b'{"errors":[]}', id="503"),
    ],
)
def test_status_and_body_are_the_registrys(
    client: FlaskClient, source: FakeSource, status: int, body: bytes
) -> None:
    """Byte for byte, error or not."""
    source.answers(body, status=status)
    answer = client.get(MANIFEST)
    assert (answer.status_code, answer.data, answer.content_length) == (status, body, len(body))


@pytest.mark.parametrize("status", [204, 304])
def test_answers_without_a_body(client: FlaskClient, source: FakeSource, status: int) -> None:
    """They end cleanly and are closed."""
    source.answers(status=status, length=None, headers=[("ETag", '"x"')])
    answer = client.get(MANIFEST)
    assert (answer.status_code, answer.data, answer.headers["ETag"]) == (status, b"", '"x"')
    assert source.closed == 1


def test_unknown_length(client: FlaskClient, source: FakeSource) -> None:
    """Where the registry did not say how long it is, nothing is claimed."""
    source.answers(b"bo", b"dy", length=None)
    answer = client.get(MANIFEST)
    assert answer.data == b"body"
    assert "Content-Length" not in answer.headers


def test_length_of_a_head(client: FlaskClient, source: FakeSource) -> None:
    """HEAD tells the length of the body that a GET would have, though there is none."""
    source.answers(length=123_456_789)
    assert client.head(MANIFEST).headers["Content-Length"] == "123456789"


def test_nothing_is_read_before_it_is_sent(client: FlaskClient, source: FakeSource) -> None:
    """A piece is asked for when the one before it has gone: a layer is never in memory."""
    source.answers(b"a", b"b", b"c")
    answer = client.get(MANIFEST, buffered=False)
    pieces = iter(answer.iter_encoded())
    assert source.read == 0
    assert next(pieces) == b""
    assert source.read == 0
    assert next(pieces) == b"a"
    assert source.read <= 2
    answer.close()
    assert source.closed == 1


def test_the_head_waits_for_no_byte(client: FlaskClient, source: FakeSource) -> None:
    """The server sends it with the first piece, which is there before the registry's first byte."""
    source.answers(b"body", headers=[("ETag", '"x"')])
    answer = client.get(MANIFEST, buffered=False)
    assert (answer.status_code, answer.headers["ETag"]) == (200, '"x"')
    assert next(iter(answer.iter_encoded())) == b""
    answer.close()
    assert (source.read, source.closed) == (0, 1)


@pytest.mark.parametrize("buffered", [True, False], ids=["read", "left"])
@pytest.mark.parametrize("method", ["GET", "HEAD"])
@pytest.mark.parametrize("status", [200, 204, 304, 404])
def test_stalls_are_limited_for_one_answer(
    client: FlaskClient, source: FakeSource, *, method: str, status: int, buffered: bool
) -> None:
    """While it is sent, the client may take nothing for write_timeout; then all is as it was."""
    has_body = status in {200, 404}
    ours, theirs = socket.socketpair()
    with ours, theirs:
        ours.settimeout(7)
        source.answers(*([b"body"] if has_body else []), status=status)
        answer = client.open(
            MANIFEST, method=method, environ_overrides={"gunicorn.socket": ours}, buffered=buffered
        )
        if not buffered:
            assert ours.gettimeout() == 60
            answer.close()
        assert ours.gettimeout() == 7
        assert source.closed == 1


def test_stalls_are_limited_until_a_body_breaks(client: FlaskClient, source: FakeSource) -> None:
    """However the answer ends, its limit ends with it."""

    def broken() -> Iterator[bytes]:
        yield b"bo"
        assert ours.gettimeout() == 60
        reason = "IncompleteRead"
        raise BodyBroken(reason)

    ours, theirs = socket.socketpair()
    with ours, theirs:
        ours.settimeout(7)
        source.answers(body=broken(), length=4)
        overrides = {"gunicorn.socket": ours}
        answer = client.get(MANIFEST, environ_overrides=overrides, buffered=False)
        with pytest.raises(BodyBroken):
            list(answer.iter_encoded())
        answer.close()
        assert ours.gettimeout() == 7


def test_a_client_that_stops_early(client: FlaskClient, source: FakeSource) -> None:
    """What it does not read is closed, once."""
    source.answers(b"a", b"b", b"c")
    answer = client.get(MANIFEST, buffered=False)
    assert source.closed == 0
    answer.close()
    assert source.closed == 1
    assert source.read < 3


def test_a_body_that_breaks(client: FlaskClient, source: FakeSource) -> None:
    """It ends in an error, never as if it were whole; and it is closed."""

    def broken() -> Iterator[bytes]:
        yield b"bo"
        reason = "IncompleteRead"
        raise BodyBroken(reason)

    source.answers(body=broken(), length=4)
    answer = client.get(MANIFEST, buffered=False)
    with pytest.raises(BodyBroken):
        list(answer.iter_encoded())
    answer.close()
    assert source.closed == 1


UNRELAYABLE = [
    pytest.param({"status": 401, "challenges": [bearer("repository:a/b:pull")]}, id="realm"),
    pytest.param({"next_query": "n=1"}, id="link"),
]


@pytest.mark.parametrize("changes", UNRELAYABLE)
def test_a_host_that_can_be_no_url(
    client: FlaskClient, source: FakeSource, changes: dict[str, object]
) -> None:
    """It chooses no registry either: it is refused before a source is asked."""
    source.answers(b"body", **changes)
    answer = client.get(TAGS, headers={"Host": 'a"b'})
    assert answer.status_code == 400
    assert answer.get_json()["errors"][0]["message"] == HostInvalid.message
    assert not {"WWW-Authenticate", "Link"} & set(answer.headers.keys())
    assert (source.calls, source.closed) == ([], 0)


@pytest.mark.parametrize("changes", UNRELAYABLE)
def test_what_cannot_be_relayed_is_closed(app: Flask, changes: dict[str, object]) -> None:
    """An error on the way to the response leaves no connection behind."""
    closed: list[int] = []
    reply = Reply(status=200, body=[b"body"], close=lambda: closed.append(1))
    with app.test_request_context(TAGS, headers={"Host": 'a"b'}):
        begin()
        with pytest.raises(HostInvalid):
            relay(get_context(), replace(reply, **changes), Selection(ROW, ROW))  # type: ignore[arg-type]
    assert closed == [1]


def test_a_header_that_cannot_be_relayed(
    app: Flask, client: FlaskClient, source: FakeSource
) -> None:
    """What Flask refuses is an error of ours, and leaves no connection behind."""
    app.testing = False
    source.answers(b"body", headers=[("X", "a\nb")])
    assert client.get(TAGS).status_code == 500
    assert source.closed == 1


def test_what_nginx_sends_is_empty_here(client: FlaskClient, source: FakeSource) -> None:
    """The server in front keeps its connection: the length is that of what it gets from here."""
    said = [("Cache-Control", "public")]
    source.answers(length=4711, headers=said, body=HandedOver("/docxy-cache/x"))
    answer = client.get(MANIFEST)
    assert answer.headers["X-Accel-Redirect"] == "/docxy-cache/x"
    assert answer.headers["X-Accel-Cache-Control"] == "public"
    assert "Cache-Control" not in answer.headers
    assert answer.headers.getlist("Content-Length") == ["0"]
    assert answer.data == b""
    assert source.closed == 1


class Pages(FileBody):
    """A body in a file, of two parts."""

    def __init__(self) -> None:
        self.parts = [b"first ", b"second"]

    def __iter__(self) -> Iterator[bytes]:
        while self.parts:
            yield self.parts.pop(0)

    def send_next(self, send: Callable[[int, int, int], None]) -> int:
        """Send one part; the fake of a socket takes no bytes, only where they would be."""
        if not self.parts:
            return 0
        count = len(self.parts.pop(0))
        send(7, 0, count)
        return count


class SendingSocket:
    """The connection of a worker that sends files."""

    def __init__(self) -> None:
        self.sent: list[tuple[int, int, int]] = []
        self.timeout: float | None = None

    def gettimeout(self) -> float | None:
        """Return what was set."""
        return self.timeout

    def settimeout(self, seconds: float | None) -> None:
        """Set it."""
        self.timeout = seconds

    def send_file(
        self, descriptor: int, offset: int, count: int, record_sent: Callable[[int], None]
    ) -> None:
        """Note what would be sent."""
        self.sent.append((descriptor, offset, count))
        record_sent(count)


@pytest.mark.parametrize("method", ["GET", "HEAD"])
def test_a_file_is_sent_by_the_connection(
    client: FlaskClient, source: FakeSource, method: str
) -> None:
    """Where the worker can, no byte of it passes through here; the server gets empty pieces."""
    sock = SendingSocket()
    source.answers(length=12, body=Pages())
    overrides = {"gunicorn.socket": sock}
    answer = client.open(MANIFEST, method=method, environ_overrides=overrides)
    assert answer.headers.getlist("Content-Length") == ["12"]
    assert answer.data == b""
    assert sock.sent == ([(7, 0, 6), (7, 0, 6)] if method == "GET" else [])
    assert sock.timeout is None
    assert source.closed == 1


def test_a_slow_client_is_no_slow_upstream(monkeypatch: pytest.MonkeyPatch) -> None:
    """The log tells how long the upstream was waited for, without the time of sending."""
    late, monotonic = [0.0], time.monotonic

    def send_slowly(_: int, __: int, count: int, record_sent: Callable[[int], None]) -> None:
        late[0] += 100
        record_sent(count)

    monkeypatch.setattr(time, "monotonic", lambda: monotonic() + late[0])
    pages = Pages()
    reply = replace(build_reply(200, [], b""), body=pages, length=12)
    body = RelayedBody(reply, ClientConnection({}), Exchange())
    body.send_file(pages, send_slowly)
    assert b"".join(body) == b""
    assert (body.sent, late[0]) == (12, 200)
    assert 0 <= body.wait_seconds < 100


def test_a_client_that_leaves_in_a_file_has_got_what_was_sent() -> None:
    """Half of a part counts too: a client could else take all but the end of each for nothing."""

    def send_half(_: int, __: int, count: int, record_sent: Callable[[int], None]) -> None:
        record_sent(count // 2)
        raise ConnectionResetError

    pages = Pages()
    reply = replace(build_reply(200, [], b""), body=pages, length=12)
    body = RelayedBody(reply, ClientConnection({}), Exchange())
    body.send_file(pages, send_half)
    with pytest.raises(ConnectionResetError):
        list(body)
    assert body.sent == 3


def test_a_file_is_read_where_it_cannot_be_sent(client: FlaskClient, source: FakeSource) -> None:
    """Without such a worker its bytes are read and written."""
    source.answers(length=12, body=Pages())
    assert client.get(MANIFEST).data == b"first second"
