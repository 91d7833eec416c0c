"""One registry, asked over HTTP: what goes up, and what comes back."""

import json
from collections.abc import Callable
from typing import Any

import pytest
import requests
import responses
from urllib3.util import SKIP_HEADER

from app.oci.errors import UpstreamMisbehaved, UpstreamTimeout, UpstreamUnavailable
from app.oci.headers import filter_response_headers
from app.oci.reference import Digest, Operation, RepositoryName, Tag
from app.source import Reply, Request, TokenRequest
from app.upstream.client import Upstream
from app.version import VERSION
from tests.unit.upstream.clock import Clock

REGISTRY = "https://registry.example.com"
TOKENS = "https://auth.example.com/token"
NAME = RepositoryName("library/nginx")
LATEST = Tag("latest")
DIGEST = Digest("sha256:" + "0123456789abcdef" * 4)
MANIFEST = f"{REGISTRY}/v2/library/nginx/manifests/latest"
BLOB = f"{REGISTRY}/v2/library/nginx/blobs/{DIGEST}"
CDN = "https://cdn.example.net/blob?signature=abc"
CHALLENGE = (
    f'Bearer realm="{TOKENS}",service="registry.example",scope="repository:library/nginx:pull"'
)
REFUSED = b'{"errors":[{"code":"UNAUTHORIZED","message":"authentication required"}]}'


def get(*headers: tuple[str, str], query: str = "") -> Request:
    """Return a GET as a view makes it."""
    return Request(method="GET", headers=list(headers), query=query)


def head(*headers: tuple[str, str]) -> Request:
    """Return a HEAD as a view makes it."""
    return Request(method="HEAD", headers=list(headers))


def body(reply: Reply) -> bytes:
    """Read a reply to its end and close it."""
    data = reply.read()
    reply.close()
    return data


def error(reply: Reply) -> str:
    """Return the code of the only error in a reply."""
    (one,) = json.loads(body(reply))["errors"]
    return str(one["code"])


def asking(operation: Operation, request: Request | None = None) -> Callable[[Upstream], Reply]:
    """Return what asks the registry for an operation."""
    return lambda upstream: upstream.answer(operation, request or get())


ASKED = [
    pytest.param(
        asking(Operation.manifest(NAME, LATEST)),
        MANIFEST,
        id="manifest by tag",
    ),
    pytest.param(
        asking(Operation.manifest(NAME, DIGEST)),
        f"{REGISTRY}/v2/library/nginx/manifests/{DIGEST}",
        id="manifest by digest",
    ),
    pytest.param(asking(Operation.blob(NAME, DIGEST)), BLOB, id="blob"),
    pytest.param(
        asking(Operation.tags(NAME), get(query="n=2&last=x")),
        f"{REGISTRY}/v2/library/nginx/tags/list?n=2&last=x",
        id="tags",
    ),
    pytest.param(
        asking(Operation.referrers(NAME, DIGEST), get(query="artifactType=a%2Fb")),
        f"{REGISTRY}/v2/library/nginx/referrers/{DIGEST}?artifactType=a%2Fb",
        id="referrers",
    ),
    pytest.param(
        asking(Operation.ping(), get(("Authorization", "Bearer x"))),
        f"{REGISTRY}/v2/",
        id="ping",
    ),
]


@pytest.mark.parametrize(("ask", "url"), ASKED)
def test_paths(
    pinned: Upstream, upstream: responses.RequestsMock, ask: Callable[[Upstream], Reply], url: str
) -> None:
    """Each question is one request to the registry's own URL; its body comes as it is."""
    upstream.get(url, body=b"body", headers={"ETag": '"x"'}, auto_calculate_content_length=True)
    reply = ask(pinned)
    assert (reply.status, reply.length, body(reply)) == (200, 4, b"body")
    assert reply.header("etag") == '"x"'
    assert upstream.calls[0].request.url == url


@pytest.mark.parametrize(("ask", "url"), ASKED)
def test_every_401_has_its_challenge(
    pinned: Upstream, upstream: responses.RequestsMock, ask: Callable[[Upstream], Reply], url: str
) -> None:
    """On blobs, tags and referrers too; its body comes byte for byte."""
    headers = {"WWW-Authenticate": CHALLENGE, "Content-Type": "application/json"}
    upstream.get(url, status=401, body=REFUSED, headers=headers)
    reply = ask(pinned)
    (challenge,) = reply.challenges
    assert challenge.is_bearer
    assert challenge.parameters["service"] == "registry.example"
    assert not reply.header("WWW-Authenticate")
    assert (reply.status, body(reply)) == (401, REFUSED)


def test_a_registry_without_referrers(pinned: Upstream, upstream: responses.RequestsMock) -> None:
    """A 404 in plain text is no word about the repository: oras would take one for the last."""
    url = f"{REGISTRY}/v2/library/nginx/referrers/{DIGEST}"
    upstream.get(url, status=404, body=b"404 page not found", content_type="text/plain")
    reply = pinned.answer(Operation.referrers(NAME, DIGEST), get())
    assert json.loads(body(reply))["errors"][0]["code"] == "UNSUPPORTED"
    assert reply.status == 404


def test_headers_up(pinned: Upstream, upstream: responses.RequestsMock) -> None:
    """What a client may ask with goes up, joined as HTTP allows; the rest stays."""
    upstream.get(MANIFEST, body=b"x")
    sent = [
        ("Accept", "a/b"),
        ("Accept", "c/d"),
        ("Authorization", "Bearer x"),
        ("If-None-Match", '"e"'),
        ("Accept-Encoding", "gzip"),
        ("Cookie", "session=1"),
        ("Connection", "X-Private"),
        ("X-Private", "1"),
        ("X-Forwarded-For", "203.0.113.9"),
        ("Host", "proxy.example"),
    ]
    pinned.answer(Operation.manifest(NAME, LATEST), get(*sent))
    headers = dict(upstream.calls[0].request.headers)
    assert headers == {
        "Accept": "a/b, c/d",
        "Authorization": "Bearer x",
        "If-None-Match": '"e"',
        "Accept-Encoding": "identity",
        "User-Agent": SKIP_HEADER,
    }


def test_the_agent_is_the_clients(pinned: Upstream, upstream: responses.RequestsMock) -> None:
    """Registries tell clients apart by it."""
    upstream.get(MANIFEST, body=b"x")
    pinned.answer(Operation.manifest(NAME, LATEST), get(("user-agent", "containerd/2.0")))
    assert upstream.calls[0].request.headers["User-Agent"] == "containerd/2.0"


def test_headers_down(pinned: Upstream, upstream: responses.RequestsMock) -> None:
    """What speaks for our host, or tells our address, stays; repeated fields stay repeated."""
    headers = [
        ("Docker-Content-Digest", str(DIGEST)),
        ("Vary", "1"),
        ("Vary", "2"),
        ("Set-Cookie", "a=b"),
        ("X-Accel-Redirect", "/secret"),
        ("X-Anything-New", "1"),
        ("Docker-RateLimit-Source", "192.0.2.1"),
        ("RateLimit-Remaining", "76;w=21600"),
    ]
    upstream.get(MANIFEST, body=b"x", headers=headers)
    reply = pinned.answer(Operation.manifest(NAME, LATEST), get())
    found = [field for field in reply.headers if field[0] != "Content-Type"]
    assert found == [*headers[:3], headers[-1]]


@pytest.mark.parametrize(
    ("status", "headers"),
    [
        pytest.param(206, {"Content-Range": "bytes 5-8/9", "Content-Length": "4"}, id="range"),
        pytest.param(200, {"Content-Length": "4"}, id="range ignored"),
    ],
)
def test_ranges(
    pinned: Upstream, upstream: responses.RequestsMock, status: int, headers: dict[str, str]
) -> None:
    """A range passes as asked, and the answer as it was given."""
    upstream.get(BLOB, status=status, body=b"body", headers=headers)
    reply = pinned.answer(Operation.blob(NAME, DIGEST), get(("Range", "bytes=5-")))
    assert upstream.calls[0].request.headers["Range"] == "bytes=5-"
    assert (reply.status, reply.length) == (status, 4)
    assert reply.header("Content-Range") == headers.get("Content-Range", "")
    assert body(reply) == b"body"


def test_unsatisfiable_range(pinned: Upstream, upstream: responses.RequestsMock) -> None:
    """416 keeps the total."""
    upstream.get(BLOB, status=416, headers={"Content-Range": "bytes */9"})
    reply = pinned.answer(Operation.blob(NAME, DIGEST), get(("Range", "bytes=99-")))
    assert (reply.status, reply.header("Content-Range")) == (416, "bytes */9")


@pytest.mark.parametrize("status", [204, 304])
def test_no_body(pinned: Upstream, upstream: responses.RequestsMock, status: int) -> None:
    """A conditional request may be answered without one."""
    upstream.get(MANIFEST, status=status, headers={"ETag": '"e"'})
    reply = pinned.answer(Operation.manifest(NAME, LATEST), get(("If-None-Match", '"e"')))
    assert (reply.status, reply.header("ETag"), body(reply)) == (status, '"e"', b"")


def test_head_stays_head(pinned: Upstream, upstream: responses.RequestsMock) -> None:
    """A GET of a manifest is a pull, which Docker Hub bills; the length is the GET's."""
    headers = {"Content-Length": "1234", "Docker-Content-Digest": str(DIGEST)}
    upstream.head(MANIFEST, headers=headers)
    reply = pinned.answer(Operation.manifest(NAME, LATEST), head())
    assert upstream.calls[0].request.method == "HEAD"
    assert (reply.status, reply.length, body(reply)) == (200, 1234, b"")
    assert reply.header("Docker-Content-Digest") == DIGEST


def test_blobs_from_elsewhere(pinned: Upstream, upstream: responses.RequestsMock) -> None:
    """The redirect is followed here, without credentials, and the digest is told."""
    upstream.get(BLOB, status=307, headers={"Location": CDN})
    upstream.get(
        CDN, body=b"blob", headers={"Content-Length": "4"}, content_type="binary/octet-stream"
    )
    reply = pinned.answer(Operation.blob(NAME, DIGEST), get(("Authorization", "Bearer x")))
    assert "Authorization" not in upstream.calls[1].request.headers
    assert (reply.status, reply.header("Docker-Content-Digest")) == (200, DIGEST)
    assert not reply.header("Location")
    assert body(reply) == b"blob"


@pytest.mark.parametrize("kind", ["text/html", "application/json", "text/plain"])
def test_what_may_be_something_else(
    pinned: Upstream, upstream: responses.RequestsMock, kind: str
) -> None:
    """It is passed on, and not said to be what was asked for."""
    upstream.get(BLOB, body=b"log in", content_type=kind)
    upstream.get(BLOB.replace("/blobs/", "/manifests/"), body=b"{}", content_type=kind)
    for reply in (
        pinned.answer(Operation.blob(NAME, DIGEST), get()),
        pinned.answer(Operation.manifest(NAME, DIGEST), get()),
    ):
        assert (reply.status, reply.header("Docker-Content-Digest")) == (200, "")


def test_the_registrys_digest_counts(pinned: Upstream, upstream: responses.RequestsMock) -> None:
    """Where it says one, ours is not added; a tag has none to add."""
    upstream.get(BLOB, body=b"x", headers={"Docker-Content-Digest": "sha256:other"})
    upstream.get(MANIFEST, body=b"x")
    digests = [
        value
        for name, value in pinned.answer(Operation.blob(NAME, DIGEST), get()).headers
        if "Digest" in name
    ]
    assert digests == ["sha256:other"]
    assert not pinned.answer(Operation.manifest(NAME, LATEST), get()).header(
        "Docker-Content-Digest"
    )


@pytest.mark.parametrize(
    ("status", "headers", "length"),
    [
        pytest.param(206, {"Content-Range": "bytes 0-0/42"}, 42, id="total"),
        pytest.param(
            416,
            {"Content-Range": "bytes */0"},
            0,
            id="empty blob",
        ),
        pytest.param(200, {"Content-Length": "4"}, 4, id="range ignored"),
    ],
)
def test_a_head_that_the_cdn_refuses(
    pinned: Upstream,
    upstream: responses.RequestsMock,
    status: int,
    headers: dict[str, str],
    length: int,
) -> None:
    """The client gets its 200 with the length, from the first byte of a GET."""
    upstream.head(BLOB, status=307, headers={"Location": CDN})
    upstream.head(CDN, status=403)
    upstream.get(
        CDN,
        status=status,
        headers=headers,
        body=b"body" if status == 200 else b"",
        content_type="application/octet-stream",
    )
    reply = pinned.answer(Operation.blob(NAME, DIGEST), head())
    assert (reply.status, reply.length, body(reply)) == (200, length, b"")
    assert not reply.header("Content-Range")
    assert reply.header("Docker-Content-Digest") == DIGEST


def test_a_head_that_is_refused_as_get_too(
    pinned: Upstream, upstream: responses.RequestsMock
) -> None:
    """Then it is refused, with no challenge of the CDN's."""
    upstream.head(BLOB, status=307, headers={"Location": CDN})
    upstream.head(CDN, status=403)
    upstream.get(CDN, status=403, headers={"WWW-Authenticate": "Basic realm=x"})
    reply = pinned.answer(Operation.blob(NAME, DIGEST), head())
    assert (reply.status, reply.challenges) == (403, [])


@pytest.mark.parametrize("scheme", ["Bearer", "Basic"])
def test_a_foreign_401(pinned: Upstream, upstream: responses.RequestsMock, scheme: str) -> None:
    """Only the registry may ask the client for credentials: a CDN's 401 is a 403."""
    upstream.get(BLOB, status=307, headers={"Location": CDN})
    challenge = f'{scheme} realm="https://evil.example.net/token"'
    upstream.get(CDN, status=401, headers={"WWW-Authenticate": challenge})
    reply = pinned.answer(Operation.blob(NAME, DIGEST), get())
    assert (reply.status, list(reply.challenges)) == (403, [])
    assert error(reply) == "DENIED"


@pytest.mark.parametrize(
    "challenge",
    [
        pytest.param(None, id="none"),
        pytest.param("Negotiate abc==", id="another scheme"),
        pytest.param("@garbage", id="garbage"),
    ],
)
def test_a_401_that_nobody_can_answer(
    pinned: Upstream, upstream: responses.RequestsMock, challenge: str | None
) -> None:
    """Without a challenge that clients know, it is a refusal."""
    headers = {} if challenge is None else {"WWW-Authenticate": challenge}
    upstream.get(MANIFEST, status=401, headers=headers)
    reply = pinned.answer(Operation.manifest(NAME, LATEST), get())
    assert (reply.status, list(reply.challenges)) == (403, [])


Refusal = tuple[Callable[[Upstream], Reply], str, int, str]
TAGS = f"{REGISTRY}/v2/library/nginx/tags/list"


def manifest(up: Upstream) -> Reply:
    """Ask for a manifest by tag."""
    return up.answer(Operation.manifest(NAME, LATEST), get())


@pytest.mark.parametrize(
    "case",
    [
        pytest.param((manifest, MANIFEST, 404, "MANIFEST_UNKNOWN"), id="manifest"),
        pytest.param(
            (asking(Operation.blob(NAME, DIGEST)), BLOB, 404, "BLOB_UNKNOWN"),
            id="blob",
        ),
        pytest.param(
            (asking(Operation.tags(NAME)), TAGS, 404, "NAME_UNKNOWN"),
            id="tags",
        ),
        pytest.param((manifest, MANIFEST, 403, "DENIED"), id="403"),
        pytest.param((manifest, MANIFEST, 500, "UNAVAILABLE"), id="500"),
        pytest.param((manifest, MANIFEST, 429, "TOOMANYREQUESTS"), id="429"),
    ],
)
@pytest.mark.parametrize(
    "page",
    [
        pytest.param(b"<html>no</html>", id="page"),
        pytest.param(b"", id="nothing"),
        pytest.param(b"x" * 200_000, id="long page"),
        pytest.param(b"[" * 60_000, id="depth"),
    ],
)
def test_refusals_become_oci_json(
    pinned: Upstream, upstream: responses.RequestsMock, page: bytes, case: Refusal
) -> None:
    """The status stays; what is no OCI JSON, however long, is told anew without what it said."""
    ask, url, status, code = case
    upstream.get(url, status=status, body=page, content_type="text/html")
    reply = ask(pinned)
    assert reply.status == status
    assert reply.header("Content-Type") == "application/json"
    assert error(reply) == code


@pytest.mark.parametrize("status", [400, 403, 404, 429, 503])
def test_oci_json_passes_as_it_is(
    pinned: Upstream, upstream: responses.RequestsMock, status: int
) -> None:
    """Byte for byte."""
    said = b'{ "errors": [ {"code":"DENIED", "message":"by the registry", "detail":[1]} ] }\n'
    upstream.get(MANIFEST, status=status, body=said, content_type="application/json")
    reply = pinned.answer(Operation.manifest(NAME, LATEST), get())
    assert (reply.status, reply.length, body(reply)) == (status, len(said), said)


@pytest.mark.parametrize(
    ("status", "headers", "expected"),
    [
        pytest.param(429, {}, ["30"], id="429"),
        pytest.param(429, {"Retry-After": "21600"}, ["60"], id="429, hours"),
        pytest.param(429, {"RateLimit-Limit": "100;w=21600"}, ["60"], id="429, window"),
        pytest.param(503, {"Retry-After": "7"}, ["7"], id="503"),
        pytest.param(404, {}, [], id="404"),
    ],
)
@pytest.mark.parametrize("method", ["GET", "HEAD"])
def test_retry_after(  # noqa: PLR0913 - each is a fixture or a column
    pinned: Upstream,
    upstream: responses.RequestsMock,
    *,
    method: str,
    status: int,
    headers: dict[str, str],
    expected: list[str],
) -> None:
    """A 429 always tells when to come back, and never after more than a minute."""
    upstream.add(method, MANIFEST, status=status, headers=headers)
    reply = pinned.answer(Operation.manifest(NAME, LATEST), Request(method=method))
    told = [value for name, value in reply.headers if name.lower() == "retry-after"]
    assert told == expected


@pytest.mark.parametrize(
    ("link", "expected"),
    [
        pytest.param('</v2/x/tags/list?last=b&n=2>; rel="next"', "last=b&n=2", id="path"),
        pytest.param(f'<{REGISTRY}/v2/x?n=2&last=b>; rel="next"', "n=2&last=b", id="URL"),
        pytest.param("", None, id="none"),
        pytest.param('</v2/x>; rel="prev"', None, id="another relation"),
        pytest.param('<http://[x>; rel="next"', None, id="no URL"),
        pytest.param('<http://[x]y/?last=b>; rel="next"', None, id="no host"),
        pytest.param('</v2/x?last=\x01b>; rel="next"', None, id="control character"),
        pytest.param('</v2/x?last=\x7f>; rel="next"', None, id="DEL"),
        pytest.param('</v2/x?last=b c>; rel="next"', None, id="space"),
        pytest.param('</v2/x?last=\xe4>; rel="next"', None, id="not ASCII"),
    ],
)  # fmt: skip
def test_next_page(
    pinned: Upstream, upstream: responses.RequestsMock, link: str, expected: str | None
) -> None:
    """Only the query of the next page is the registry's to say."""
    headers = {"Link": link} if link else {}
    upstream.get(f"{REGISTRY}/v2/library/nginx/tags/list", body=b"{}", headers=headers)
    reply = pinned.answer(Operation.tags(NAME), get())
    assert reply.next_query == expected
    assert not reply.header("Link")


def test_a_foreign_realm(discovering: Upstream, upstream: responses.RequestsMock) -> None:
    """A registry that sends clients' passwords elsewhere is not passed on (CVE-2025-63761)."""
    challenge = 'Bearer realm="https://evil.example.net/token",service="s"'
    upstream.get(MANIFEST, status=401, body=REFUSED, headers={"WWW-Authenticate": challenge})
    with pytest.raises(UpstreamMisbehaved, match="DOCXY_TOKEN_URL"):
        discovering.answer(Operation.manifest(NAME, LATEST), get())


def closings(upstream: responses.RequestsMock) -> list[str]:
    """Return a list that grows by the URL of each response that is closed."""
    closed: list[str] = []

    def watched(response: requests.Response) -> requests.Response:
        inner = response.raw.close

        def close() -> None:
            closed.append(response.url)
            inner()

        setattr(response.raw, "close", close)  # noqa: B010 - typed as a method
        return response

    upstream.response_callback = watched
    return closed


def test_what_is_refused_is_closed(discovering: Upstream, upstream: responses.RequestsMock) -> None:
    """An answer that cannot be passed on leaves no connection behind."""
    challenge = 'Bearer realm="https://evil.example.net/t"'
    upstream.get(MANIFEST, status=401, body=REFUSED, headers={"WWW-Authenticate": challenge})
    closed = closings(upstream)
    with pytest.raises(UpstreamMisbehaved):
        discovering.answer(Operation.manifest(NAME, LATEST), get())
    assert set(closed) == {MANIFEST}


def test_pings_are_remembered(pinned: Upstream, upstream: responses.RequestsMock) -> None:
    """Docker Hub counts pings: one question answers all who have no token."""
    upstream.get(
        f"{REGISTRY}/v2/", status=401, body=REFUSED, headers={"WWW-Authenticate": CHALLENGE}
    )
    for request in (get(), head(), get(("Authorization", "Basic abc")), get(("X", "y"))):
        reply = pinned.answer(Operation.ping(), request)
        assert reply.status == 401
        assert reply.challenges[0].parameters["realm"] == TOKENS
        assert body(reply) == REFUSED
    assert len(upstream.calls) == 1
    assert "Authorization" not in upstream.calls[0].request.headers


def test_a_bearer_is_checked(pinned: Upstream, upstream: responses.RequestsMock) -> None:
    """`docker login` must fail with a bad token, so each one goes up."""
    upstream.get(f"{REGISTRY}/v2/", status=200, body=b"{}")
    upstream.get(
        f"{REGISTRY}/v2/", status=401, body=REFUSED, headers={"WWW-Authenticate": CHALLENGE}
    )
    statuses = [
        pinned.answer(Operation.ping(), get(("Authorization", f"bearer {n}"))).status for n in "ab"
    ]
    assert statuses == [200, 401]
    sent = [call.request.headers["Authorization"] for call in upstream.calls]
    assert sent == ["bearer a", "bearer b"]


def test_basic_is_checked_where_it_counts(
    pinned: Upstream, upstream: responses.RequestsMock
) -> None:
    """A registry without tokens takes passwords itself."""
    challenge = {"WWW-Authenticate": 'Basic realm="Registry"'}
    upstream.get(f"{REGISTRY}/v2/", status=401, body=REFUSED, headers=challenge)
    upstream.get(f"{REGISTRY}/v2/", status=200, body=b"{}")
    assert pinned.answer(Operation.ping(), get(("Authorization", "Basic abc"))).status == 200
    assert upstream.calls[1].request.headers["Authorization"] == "Basic abc"


PING = f"{REGISTRY}/v2/"
PASSING = [403, 404, 429, 500, 502, 503]


@pytest.mark.parametrize(
    ("status", "headers", "expected"),
    [
        pytest.param(403, {}, ("DENIED", []), id="403"),
        pytest.param(429, {}, ("TOOMANYREQUESTS", ["30"]), id="429"),
        pytest.param(429, {"Retry-After": "7"}, ("TOOMANYREQUESTS", ["7"]), id="429, soon"),
        pytest.param(429, {"Retry-After": "0"}, ("TOOMANYREQUESTS", ["1"]), id="429, now"),
        pytest.param(429, {"Retry-After": "21600"}, ("TOOMANYREQUESTS", ["60"]), id="429, late"),
        pytest.param(500, {}, ("UNAVAILABLE", []), id="500"),
        pytest.param(502, {}, ("UNAVAILABLE", []), id="502"),
        pytest.param(503, {"Retry-After": "9"}, ("UNAVAILABLE", ["9"]), id="503"),
    ],
)
def test_a_ping_that_is_refused(
    pinned: Upstream,
    upstream: responses.RequestsMock,
    *,
    status: int,
    headers: dict[str, str],
    expected: tuple[str, list[str]],
) -> None:
    """The registry's refusal is the client's: its status, OCI JSON, when to come back."""
    upstream.get(PING, status=status, body=b"<html>slow down", headers=headers)
    for request in (get(), head(), get(("X", "y"))):
        reply = pinned.answer(Operation.ping(), request)
        told = [value for name, value in reply.headers if name.lower() == "retry-after"]
        assert (reply.status, list(reply.challenges)) == (status, [])
        assert reply.header("Content-Type") == "application/json"
        assert (error(reply), told) == expected
    assert len(upstream.calls) == 1


def test_a_refused_ping_in_the_registrys_words(
    pinned: Upstream, upstream: responses.RequestsMock
) -> None:
    """OCI JSON passes byte for byte."""
    said = b'{ "errors": [ {"code":"TOOMANYREQUESTS", "message":"by the registry"} ] }\n'
    upstream.get(PING, status=429, body=said, content_type="application/json")
    reply = pinned.answer(Operation.ping(), get())
    assert (reply.status, reply.length, body(reply)) == (429, len(said), said)


@pytest.mark.parametrize("status", PASSING)
def test_a_refused_ping_is_remembered_for_seconds(
    pinned: Upstream, upstream: responses.RequestsMock, clock: Clock, status: int
) -> None:
    """It is no fact about a registry; what comes after it is, for minutes."""
    upstream.get(PING, status=status)
    upstream.get(PING, status=401, body=REFUSED, headers={"WWW-Authenticate": CHALLENGE})
    assert pinned.answer(Operation.ping(), get()).status == status
    clock.pass_by(4.9)
    assert pinned.answer(Operation.ping(), get()).status == status
    clock.pass_by(0.1)
    assert pinned.answer(Operation.ping(), get()).status == 401
    clock.pass_by(599)
    assert pinned.answer(Operation.ping(), get()).status == 401
    assert len(upstream.calls) == 2


def test_a_ping_of_nobody_is_remembered_for_seconds(
    pinned: Upstream, upstream: responses.RequestsMock, clock: Clock
) -> None:
    """Many may wait for a registry that is away: one of them asks."""
    upstream.get(PING, body=requests.ConnectionError("refused"))
    upstream.get(PING, body=b"{}")
    for _ in range(3):
        with pytest.raises(UpstreamUnavailable, match=r"^registry\.example\.com: "):
            pinned.answer(Operation.ping(), get())
    assert len(upstream.calls) == 1
    clock.pass_by(5)
    assert pinned.answer(Operation.ping(), get()).status == 200


@pytest.mark.parametrize("status", PASSING)
@pytest.mark.parametrize("name", ["discovering", "half_pinned"])
def test_discovery_from_a_refusal(
    upstream: responses.RequestsMock,
    clock: Clock,
    request: pytest.FixtureRequest,
    *,
    name: str,
    status: int,
) -> None:
    """Where the challenge is missing, the token service is not known for now; no one guesses."""
    up: Upstream = request.getfixturevalue(name)
    upstream.get(PING, status=status)
    upstream.get(PING, status=401, headers={"WWW-Authenticate": CHALLENGE})
    upstream.get(TOKENS, body=b"{}")
    for _ in range(2):
        with pytest.raises(UpstreamUnavailable, match=f"answered {status}"):
            up.token(TokenRequest(method="GET", parameters=[]))
    assert len(upstream.calls) == 1
    clock.pass_by(5)
    up.token(TokenRequest(method="GET", parameters=[]))
    assert upstream.calls[2].request.url == f"{TOKENS}?service=registry.example"


def test_questions_of_our_own(pinned: Upstream, upstream: responses.RequestsMock) -> None:
    """The registry is told who asks, and nothing of any client."""
    upstream.get(PING, status=401, headers={"WWW-Authenticate": CHALLENGE})
    upstream.get(PING)
    pinned.answer(
        Operation.ping(),
        get(("User-Agent", "docker/26"), ("X", "y"), ("Authorization", "Basic abc")),
    )
    pinned.reach()
    for call in upstream.calls:
        assert isinstance(call, responses.Call)
        assert dict(call.request.headers) == {
            "User-Agent": f"docxy/{VERSION}",
            "Accept-Encoding": "identity",
        }


NOWHERE = [
    pytest.param(300, {"Location": "/elsewhere"}, id="choices"),
    pytest.param(301, {}, id="301"),
    pytest.param(302, {}, id="302"),
    pytest.param(303, {"Location": ""}, id="303, empty"),
    pytest.param(305, {"Location": "/proxy"}, id="use a proxy"),
    pytest.param(307, {}, id="307"),
    pytest.param(308, {}, id="308"),
    pytest.param(399, {}, id="nobody knows"),
]


@pytest.mark.parametrize(("ask", "url"), ASKED)
def test_a_redirect_to_nowhere(
    pinned: Upstream, upstream: responses.RequestsMock, ask: Callable[[Upstream], Reply], url: str
) -> None:
    """No client can go on from it, and where it leads is not the client's to know."""
    closed = closings(upstream)
    for case in NOWHERE:
        status, headers = case.values
        upstream.get(url, status=status, headers=headers, body=b"moved")
        with pytest.raises(UpstreamMisbehaved, match=f"registry.example.com answered {status}"):
            ask(pinned)
        assert {*closed} == {url}, status
        closed.clear()


@pytest.mark.parametrize(("status", "headers"), NOWHERE)
def test_a_ping_that_is_redirected_to_nowhere(
    pinned: Upstream, upstream: responses.RequestsMock, status: int, headers: dict[str, str]
) -> None:
    """The same for the anonymous ping: neither open nor closed, and no answer to a client."""
    upstream.get(PING, status=status, headers=headers, body=b"moved")
    with pytest.raises(UpstreamMisbehaved):
        pinned.answer(Operation.ping(), get())


@pytest.mark.parametrize(("status", "headers"), NOWHERE)
def test_a_token_that_is_redirected_to_nowhere(
    pinned: Upstream, upstream: responses.RequestsMock, status: int, headers: dict[str, str]
) -> None:
    """The same for a token service."""
    upstream.get(TOKENS, status=status, headers=headers, body=b"moved")
    with pytest.raises(UpstreamMisbehaved):
        pinned.token(TokenRequest(method="GET", parameters=[]))


@pytest.mark.parametrize("kind", ["text/html", "text/plain; charset=utf-8", None])
@pytest.mark.parametrize("status", [401, 403, 404, 429, 500])
def test_oci_json_is_called_json(
    pinned: Upstream, upstream: responses.RequestsMock, status: int, kind: str | None
) -> None:
    """Clients read errors only where the type says so; the bytes stay."""
    headers = {"WWW-Authenticate": CHALLENGE} if status == 401 else {}
    upstream.get(MANIFEST, status=status, body=REFUSED, content_type=kind, headers=headers)
    reply = pinned.answer(Operation.manifest(NAME, LATEST), get())
    kinds = [value for name, value in reply.headers if name.lower() == "content-type"]
    assert (reply.status, kinds, body(reply)) == (status, ["application/json"], REFUSED)


@pytest.mark.parametrize("kind", ["application/json; charset=utf-8", "application/problem+json"])
def test_a_type_that_says_json_stays(
    pinned: Upstream, upstream: responses.RequestsMock, kind: str
) -> None:
    """It is the registry's to say which."""
    upstream.get(MANIFEST, status=404, body=REFUSED, content_type=kind)
    reply = pinned.answer(Operation.manifest(NAME, LATEST), get())
    kinds = [value for name, value in reply.headers if name.lower() == "content-type"]
    assert kinds == [kind]


@pytest.mark.parametrize("told", ["7\r\n x", "7\x7f"])
@pytest.mark.parametrize("method", ["GET", "HEAD"])
@pytest.mark.parametrize("status", [404, 429, 503])
def test_no_retry_after_breaks_out_of_its_line(
    pinned: Upstream, upstream: responses.RequestsMock, *, method: str, status: int, told: str
) -> None:
    """What is given anew can be written as it is, as everything that passes down."""
    upstream.add(method, MANIFEST, status=status, headers={"Retry-After": told})
    reply = pinned.answer(Operation.manifest(NAME, LATEST), Request(method=method))
    assert filter_response_headers(reply.headers) == reply.headers


@pytest.mark.parametrize(
    ("status", "headers"),
    [
        pytest.param(206, {"Content-Range": "bytes 0-0/*"}, id="no total"),
        pytest.param(206, {}, id="no range"),
        pytest.param(204, {}, id="no content"),
    ],
)
def test_a_head_whose_length_nobody_tells(
    pinned: Upstream, upstream: responses.RequestsMock, status: int, headers: dict[str, str]
) -> None:
    """The answer to a question that the client did not ask is not passed on as its answer."""
    upstream.head(BLOB, status=307, headers={"Location": CDN})
    upstream.head(CDN, status=403)
    upstream.get(CDN, status=status, headers={**headers, "Content-Length": "1"}, body=b"x")
    try:
        reply = pinned.answer(Operation.blob(NAME, DIGEST), head())
    except UpstreamMisbehaved:
        return
    assert reply.is_error


def test_discovery(discovering: Upstream, upstream: responses.RequestsMock) -> None:
    """The token service is what the registry's challenge names."""
    upstream.get(f"{REGISTRY}/v2/", status=401, headers={"WWW-Authenticate": CHALLENGE})
    upstream.get(TOKENS, body=b"{}")
    discovering.token(TokenRequest(method="GET", parameters=[("account", "alice")]))
    assert upstream.calls[1].request.url == f"{TOKENS}?account=alice&service=registry.example"


def test_pinned(pinned: Upstream, upstream: responses.RequestsMock) -> None:
    """What is configured needs no question, and no answer changes it."""
    upstream.get(TOKENS, body=b"{}")
    pinned.token(TokenRequest(method="GET", parameters=[]))
    assert upstream.calls[0].request.url == f"{TOKENS}?service=registry.example"


def test_no_token_service(discovering: Upstream, upstream: responses.RequestsMock) -> None:
    """An open registry has no tokens to give; who insists gets one that stands for nothing."""
    upstream.get(f"{REGISTRY}/v2/", status=200, body=b"{}")
    reply = discovering.token(TokenRequest(method="GET", parameters=[]))
    token = json.loads(reply.read())["token"]
    upstream.get(f"{REGISTRY}/v2/a/manifests/x", body=b"{}")
    discovering.answer(
        Operation.manifest(RepositoryName("a"), Tag("x")), get(("Authorization", f"Bearer {token}"))
    ).close()
    assert "Authorization" not in upstream.calls[1].request.headers


def test_reach(pinned: Upstream, upstream: responses.RequestsMock) -> None:
    """Whatever a registry answers, it is there; asked again at once, it is not asked."""
    upstream.get(f"{REGISTRY}/v2/", status=500)
    pinned.reach()
    pinned.reach()
    assert len(upstream.calls) == 1


def test_reach_nobody(pinned: Upstream, upstream: responses.RequestsMock) -> None:
    """No answer is an error, for the next few seconds too."""
    upstream.get(f"{REGISTRY}/v2/", body=requests.ConnectionError("refused"))
    for _ in range(2):
        with pytest.raises(UpstreamUnavailable):
            pinned.reach()
    assert len(upstream.calls) == 1


BASIC = "Basic YWxpY2U6cHc="
ASKS_BASIC = {"WWW-Authenticate": 'Basic realm="Registry"'}


def token_of(reply: Reply) -> str:
    """Return the token of a token answer."""
    assert reply.status == 200
    return str(json.loads(body(reply))["token"])


@pytest.mark.parametrize(
    ("method", "login"),
    [
        pytest.param("GET", {"headers": [("Authorization", BASIC)]}, id="header"),
        pytest.param(
            "POST", {"parameters": [("username", "alice"), ("password", "pw")]}, id="form"
        ),
    ],
)
def test_a_login_where_there_are_no_tokens(
    discovering: Upstream, upstream: responses.RequestsMock, method: str, login: dict[str, Any]
) -> None:
    """The registry checks the password itself; the token that stands for it is taken as it is."""
    upstream.get(PING, status=401, body=REFUSED, headers=ASKS_BASIC)
    upstream.get(PING, body=b"{}")
    upstream.get(MANIFEST, body=b"x")
    upstream.get(PING, body=b"{}")
    asked = TokenRequest(method=method, **{"parameters": [], **login})
    token = token_of(discovering.token(asked))
    bearer = get(("Authorization", f"Bearer {token}"))
    assert discovering.answer(Operation.manifest(NAME, LATEST), bearer).status == 200
    assert discovering.answer(Operation.ping(), bearer).status == 200
    sent = [call.request.headers.get("Authorization") for call in upstream.calls]
    assert sent == [None, BASIC, BASIC, BASIC]


@pytest.mark.parametrize("status", [401, 403, 429, 503])
def test_a_wrong_password_where_there_are_no_tokens(
    discovering: Upstream, upstream: responses.RequestsMock, status: int
) -> None:
    """`docker login` fails at once, with what the registry says, and asks for no other way."""
    upstream.get(PING, status=401, body=REFUSED, headers=ASKS_BASIC)
    upstream.get(PING, status=status, body=REFUSED, headers=ASKS_BASIC)
    login = TokenRequest(method="GET", parameters=[], headers=[("Authorization", BASIC)])
    reply = discovering.token(login)
    assert (reply.status, list(reply.challenges), body(reply)) == (status, [], REFUSED)


def test_no_password_where_there_are_no_tokens(
    discovering: Upstream, upstream: responses.RequestsMock
) -> None:
    """Who insists gets a token for nothing, and with it the registry's own challenge."""
    upstream.get(PING, status=401, body=REFUSED, headers=ASKS_BASIC)
    upstream.get(MANIFEST, status=401, body=REFUSED, headers=ASKS_BASIC)
    fields = [("Authorization", "Bearer theirs")]
    token = token_of(discovering.token(TokenRequest(method="GET", parameters=[], headers=fields)))
    reply = discovering.answer(
        Operation.manifest(NAME, LATEST), get(("Authorization", f"Bearer {token}"))
    )
    assert reply.status == 401
    assert [challenge.is_basic for challenge in reply.challenges] == [True]
    assert "Authorization" not in upstream.calls[1].request.headers


def test_a_ping_where_there_are_no_tokens(
    discovering: Upstream, upstream: responses.RequestsMock
) -> None:
    """Without credentials it is answered from memory; with some, the registry judges each."""
    upstream.get(PING, status=401, body=REFUSED, headers=ASKS_BASIC)
    upstream.get(PING, body=b"{}")
    upstream.get(PING, status=401, body=REFUSED, headers=ASKS_BASIC)
    assert [discovering.answer(Operation.ping(), get()).status for _ in range(2)] == [401, 401]
    for expected in (200, 401):
        assert (
            discovering.answer(Operation.ping(), get(("Authorization", BASIC))).status == expected
        )
    assert len(upstream.calls) == 3


def test_either_challenge(discovering: Upstream, upstream: responses.RequestsMock) -> None:
    """A registry that takes both: tokens are its service's, and passwords are checked by it."""
    either = f'Basic realm="Registry", {CHALLENGE}'
    upstream.get(PING, status=401, body=REFUSED, headers={"WWW-Authenticate": either})
    upstream.get(PING, body=b"{}")
    upstream.get(TOKENS, body=b'{"token":"t"}')
    told = discovering.answer(Operation.ping(), get()).challenges
    assert [challenge.scheme for challenge in told] == ["Basic", "Bearer"]
    assert discovering.answer(Operation.ping(), get(("Authorization", BASIC))).status == 200
    login = TokenRequest(method="GET", parameters=[], headers=[("Authorization", BASIC)])
    assert token_of(discovering.token(login)) == "t"
    sent = [call.request.headers.get("Authorization") for call in upstream.calls]
    assert sent == [None, BASIC, BASIC]


@pytest.mark.parametrize("method", ["GET", "POST"])
@pytest.mark.parametrize("sent", ["", BASIC, "Bearer theirs"])
def test_no_tokens_at_all(
    discovering: Upstream, upstream: responses.RequestsMock, method: str, sent: str
) -> None:
    """An open registry wants no password: none is sent to it, and the token stands for nothing."""
    upstream.get(PING, body=b"{}")
    upstream.get(MANIFEST, body=b"x")
    fields = [("Authorization", sent)] if sent else []
    parameters = [("username", "alice"), ("password", "pw")]
    asked = TokenRequest(method=method, parameters=parameters, headers=fields)
    token = token_of(discovering.token(asked))
    bearer = get(("Authorization", f"Bearer {token}"))
    assert discovering.answer(Operation.ping(), bearer).status == 200
    assert discovering.answer(Operation.manifest(NAME, LATEST), bearer).status == 200
    sent_up = [call.request.headers.get("Authorization") for call in upstream.calls]
    assert sent_up == [None, None]


def test_a_stand_in_stays_behind_at_a_redirect(
    discovering: Upstream, upstream: responses.RequestsMock
) -> None:
    """It is a password, and goes no further than one."""
    upstream.get(PING, status=401, headers={"WWW-Authenticate": 'Basic realm="x"'})
    upstream.get(BLOB, status=307, headers={"Location": CDN})
    upstream.get(CDN, body=b"x")
    discovering.answer(
        Operation.blob(NAME, DIGEST), get(("Authorization", "Bearer docxy.basic.YTpi"))
    ).close()
    sent = [call.request.headers.get("Authorization") for call in upstream.calls]
    assert sent == [None, "Basic YTpi", None]


@pytest.mark.parametrize("fields", [{"WWW-Authenticate": CHALLENGE}, {}], ids=["tokens", "none"])
def test_a_stand_in_where_no_password_is_wanted(
    discovering: Upstream, upstream: responses.RequestsMock, fields: dict[str, str]
) -> None:
    """Whoever made it up: a registry that asks for tokens, or for nothing, sees no password."""
    upstream.get(PING, status=401 if fields else 200, headers=fields)
    upstream.get(BLOB, body=b"x")
    discovering.answer(
        Operation.blob(NAME, DIGEST), get(("Authorization", "Bearer docxy.basic.YTpi"))
    ).close()
    assert not [call for call in upstream.calls if "Authorization" in call.request.headers]


def test_a_token_that_comes_too_late(pinned: Upstream, upstream: responses.RequestsMock) -> None:
    """The token service is not asked for it."""
    upstream.get(TOKENS, body=b'{"token":"t"}')
    hurried = TokenRequest(method="GET", parameters=[], deadline=0, has_fallback=lambda: True)
    with pytest.raises(UpstreamTimeout):
        pinned.token(hurried)
    assert not upstream.calls
    upstream.reset()


def test_anonymous_tokens(discovering: Upstream, upstream: responses.RequestsMock) -> None:
    """A registry of the table gives its neighbours one for each scope, as nobody."""
    upstream.get(PING, status=401, headers={"WWW-Authenticate": CHALLENGE})
    for number in range(2):
        upstream.get(TOKENS, body=json.dumps({"token": f"t{number}"}))
    found = [discovering.get_anonymous_token(scope) for scope in ("a", "b", "a")]
    assert found == ["t0", "t1", "t0"]
    assert [call.request.headers.get("Authorization") for call in upstream.calls] == [None] * 3


def test_a_manifest_that_has_not_changed(
    pinned: Upstream, upstream: responses.RequestsMock
) -> None:
    """A 304 has no body, and a length would be that of the manifest (RFC 9110, section 8.6)."""
    upstream.get(f"{REGISTRY}/v2/a/manifests/x", status=304)
    reply = pinned.answer(
        Operation.manifest(RepositoryName("a"), Tag("x")), get(("If-None-Match", '"x"'))
    )
    assert (reply.status, reply.length) == (304, None)


def test_a_part_of_what_was_asked_for_whole(
    pinned: Upstream, upstream: responses.RequestsMock
) -> None:
    """Its status and its length would pass for the whole blob's."""
    part = {"Content-Range": "bytes 0-3/9", "Content-Length": "4"}
    upstream.get(BLOB, status=206, body=b"blob", headers=part)
    with pytest.raises(UpstreamMisbehaved):
        pinned.answer(Operation.blob(NAME, DIGEST), get())
    upstream.get(BLOB, status=206, body=b"blob", headers=part)
    assert pinned.answer(Operation.blob(NAME, DIGEST), get(("Range", "bytes=0-3"))).status == 206


@pytest.mark.parametrize("status", [201, 202, 203, 204, 205, 207, 226, 299])
def test_another_success_is_no_blob(
    pinned: Upstream, upstream: responses.RequestsMock, status: int
) -> None:
    """Its bytes would pass unverified, and clients would take them for the blob."""
    upstream.get(BLOB, status=status, body=b"blob")
    with pytest.raises(UpstreamMisbehaved, match=str(status)):
        pinned.answer(Operation.blob(NAME, DIGEST), get())
    upstream.get(BLOB, status=status, body=b"blob")
    with pytest.raises(UpstreamMisbehaved, match=str(status)):
        pinned.answer(Operation.blob(NAME, DIGEST), get(("Range", "bytes=0-3")))
    upstream.head(BLOB, status=status)
    assert pinned.answer(Operation.blob(NAME, DIGEST), head()).status == status
