import json

import pytest

from tests.wire.upstream import Asked, Upstream, always, answering, head, playing, response
from tests.wire.wires import BLOB, DIGEST, MANIFEST, NETRC_PASSWORD, Wire, location

ACCEPTED = (
    "application/vnd.oci.image.manifest.v1+json",
    "application/vnd.docker.distribution.manifest.v2+json",
    "application/vnd.docker.distribution.manifest.v1+prettyjws",
    "application/vnd.docker.distribution.manifest.v1+json",
    "application/vnd.docker.distribution.manifest.list.v2+json",
    "application/vnd.oci.image.index.v1+json",
)


def seen(wire: Wire, path: str, *fields: str, method: str = "GET") -> Asked:
    """Return the request that arrives upstream for one of a client."""
    wire.play(always(response(b"" if method == "HEAD" else b"{}")))
    with wire.client() as client:
        assert client.get(path, *fields, method=method).status == 200
    (asked,) = wire.upstream.asked
    return asked


def test_every_accept_line_arrives(wire: Wire) -> None:
    """Podman and dockerd send one Accept line for each type, and all of them count."""
    asked = seen(wire, MANIFEST, *(f"Accept: {kind}" for kind in ACCEPTED))
    arrived = [kind.strip() for kind in asked.value("Accept").split(",")]
    assert arrived == list(ACCEPTED)


def test_end_to_end_headers_go_up_unchanged(wire: Wire) -> None:
    """Credentials, ranges, conditions and the agent pass as the client wrote them."""
    fields = (
        "Authorization: Bearer a.b.c",
        "Range: bytes=5-9",
        'If-None-Match: "one", W/"two"',
        "If-Range: Wed, 21 Oct 2026 07:28:00 GMT",
        "User-Agent: containerd/1.7.24",
    )
    asked = seen(wire, BLOB, *fields)
    for field in fields:
        name, _, value = field.partition(": ")
        assert asked.values(name) == [value]


def test_the_upstream_is_asked_for_its_own_host_and_unencoded(wire: Wire) -> None:
    """Host is the upstream's; a gzip that the client would take is not asked for."""
    asked = seen(wire, MANIFEST, "Accept-Encoding: gzip")
    assert asked.values("Host") == [f"127.0.0.1:{wire.upstream.port}"]
    assert asked.values("Accept-Encoding") == ["identity"]
    assert asked.target == MANIFEST


def test_no_user_agent_is_invented(wire: Wire) -> None:
    """A client that does not say what it is stays so."""
    assert seen(wire, MANIFEST).values("User-Agent") == []


@pytest.mark.parametrize(
    "field",
    [
        pytest.param("Cookie: session=1", id="cookie"),
        pytest.param("Keep-Alive: timeout=5", id="keep-alive"),
        pytest.param("TE: trailers", id="te"),
        pytest.param("Trailer: X-Sum", id="trailer"),
        pytest.param("Proxy-Authorization: Basic eDp5", id="proxy-authorization"),
        pytest.param("Proxy-Connection: keep-alive", id="proxy-connection"),
        pytest.param("Upgrade: h2c", id="upgrade"),
        pytest.param("X-Forwarded-For: 203.0.113.9", id="forwarded-for"),
        pytest.param("X-Forwarded-Host: proxy.example", id="forwarded-host"),
        pytest.param("Forwarded: for=203.0.113.9", id="forwarded"),
        pytest.param("X-Real-IP: 203.0.113.9", id="real-ip"),
    ],
)
def test_what_stops_on_the_way_up(wire: Wire, field: str) -> None:
    """Hop-by-hop headers, cookies and what tells of the client never reach the upstream."""
    name = field.partition(":")[0]
    assert seen(wire, MANIFEST, field).values(name) == []


def test_the_way_that_it_came_stops_here(wire: Wire) -> None:
    """Via tells of the client; this proxy's own mark goes up, by which a loop is known."""
    assert seen(wire, MANIFEST, "Via: 1.1 somewhere").values("Via") == ["1.1 docxy"]


@pytest.mark.parametrize("connection", ["User-Agent, If-Match", "close, user-agent,IF-MATCH"])
def test_headers_that_connection_names_stop_on_the_way_up(wire: Wire, connection: str) -> None:
    """Connection lists what is only for the neighbour (RFC 9110, section 7.6.1)."""
    asked = seen(
        wire, MANIFEST, f"Connection: {connection}", "User-Agent: 1", "If-Match: *", "Accept: a/b"
    )
    assert asked.values("User-Agent") == []
    assert asked.values("If-Match") == []
    assert asked.values("Accept") == ["a/b"]


def test_headers_that_connection_names_stop_on_the_way_down(wire: Wire) -> None:
    """What an upstream says to its neighbour alone is not for the client."""
    wire.play(
        always(
            response(
                b"{}", "Connection: Warning", "Connection: retry-after", "Warning: 1",
                "Retry-After: 2", 'ETag: "3"',
            )
        )
    )  # fmt: skip
    with wire.client() as client:
        answer = client.get(MANIFEST)
    assert not answer.head.names & {"warning", "retry-after"}
    assert answer.head.value("ETag") == '"3"'


FORBIDDEN_DOWN = (
    "Set-Cookie: session=1; Path=/",
    "Set-Cookie: another=2",
    "X-Accel-Redirect: /etc/passwd",
    "X-Accel-Buffering: yes",
    "X-Accel-Expires: 100",
    "X-Sendfile: /etc/passwd",
    'Alt-Svc: h3=":443"',
    "Strict-Transport-Security: max-age=31536000",
    'Clear-Site-Data: "*"',
    "docker-ratelimit-source: 203.0.113.9",
    "Keep-Alive: timeout=5",
    "Trailer: X-Sum",
    "Upgrade: h2c",
    "Proxy-Authenticate: Basic",
)


@pytest.mark.parametrize("status", ["200 OK", "404 Not Found", "206 Partial Content"])
@pytest.mark.parametrize("method", ["GET", "HEAD"])
def test_what_stops_on_the_way_down(wire: Wire, method: str, status: str) -> None:
    """Nothing that would speak for this proxy's host comes down, with any status."""
    body = b"" if method == "HEAD" else b'{"errors":[]}'
    wire.play(always(response(body, *FORBIDDEN_DOWN, "Warning: 1", status=status)))
    with wire.client() as client:
        answer = client.get(MANIFEST, method=method)
    assert answer.status == int(status[:3])
    assert answer.head.value("Warning") == "1"
    forbidden = {field.partition(":")[0].lower() for field in FORBIDDEN_DOWN}
    assert not answer.head.names & forbidden


def test_cookies_of_one_answer_are_not_sent_with_the_next_request(wire: Wire) -> None:
    """There is no cookie jar, neither for one client nor for all."""
    wire.play(always(response(b"{}", "Set-Cookie: jar=full; Path=/")))
    with wire.client() as client:
        client.get(MANIFEST)
        client.get(MANIFEST)
    assert len(wire.upstream.asked) == 2
    assert all(asked.values("Cookie") == [] for asked in wire.upstream.asked)


def test_end_to_end_headers_come_down_unchanged(wire: Wire) -> None:
    """Repeated ones too, in their order, and the ones that clients need."""
    fields = (
        "Content-Type: application/vnd.oci.image.index.v1+json",
        f"Docker-Content-Digest: {DIGEST}",
        'ETag: "abc"',
        "ratelimit-limit: 100;w=21600",
        "Vary: Accept",
        "Vary: Origin",
        "Cache-Control: public, max-age=60",
    )
    wire.play(always(response(b"{}", *fields)))
    with wire.client() as client:
        answer = client.get(MANIFEST)
    came = [f"{name}: {value}" for name, value in answer.head.fields]
    assert [field for field in came if field in fields] == list(fields)


def test_a_page_from_an_upstream_is_sandboxed(wire: Wire) -> None:
    """HTML with status 200 passes as it is, but no browser runs it as a page of this host."""
    page = b"<html><script>alert(1)</script></html>"
    wire.play(
        always(
            response(
                page, "Content-Type: text/html", "Content-Security-Policy: default-src *",
                "X-Content-Type-Options: off",
            )
        )
    )  # fmt: skip
    with wire.client() as client:
        answer = client.get(BLOB)
    assert answer.body == page
    assert answer.head.values("X-Content-Type-Options") == ["nosniff"]
    assert answer.head.values("Content-Security-Policy") == ["sandbox"]


@pytest.mark.parametrize("status", ["403 Forbidden", "404 Not Found", "500 Oops", "503 Later"])
def test_an_error_page_becomes_oci_json(wire: Wire, status: str) -> None:
    """Tools print the message of OCI JSON, and nobody needs an upstream's error page."""
    page = b"<html><body>secret-page</body></html>"
    wire.play(always(response(page, "Content-Type: text/html; charset=utf-8", status=status)))
    with wire.client() as client:
        answer = client.get(MANIFEST)
    assert answer.complete
    assert answer.status == int(status[:3])
    assert answer.head.values("Content-Type") == ["application/json"]
    assert answer.head.values("X-Content-Type-Options") == ["nosniff"]
    assert b"secret-page" not in answer.body
    (error,) = json.loads(answer.body)["errors"]
    assert error["code"]
    assert error["message"]


def test_oci_json_of_an_upstream_passes_byte_for_byte(wire: Wire) -> None:
    """A registry's own words are not written anew."""
    body = b'{ "errors" : [{"code":"MANIFEST_UNKNOWN","message":"m","extra":1}]}\n'
    wire.play(always(response(body, "Content-Type: application/json", status="404 Not Found")))
    with wire.client() as client:
        answer = client.get(MANIFEST)
    assert (answer.status, answer.body) == (404, body)


@pytest.mark.parametrize(
    "odd",
    [
        pytest.param(b"Warning: caf\xc3\xa9", id="utf-8"),
        pytest.param(b"Warning: \xff\xfe\x80", id="obs-text"),
        pytest.param(b"Warning: bell\x07bell", id="bell"),
        pytest.param(b"Warning: del\x7f", id="del"),
        pytest.param(b"Warning: vertical\x0btab\x0c", id="vertical tab"),
        pytest.param(b"Warning: next\x85line", id="next line"),
        pytest.param(b"Warning: unit\x1c\x1dseparators", id="separators"),
        pytest.param(b"Warning: folded\r\n  line", id="folded"),
        pytest.param(b"Warning:", id="empty"),
    ],
)
def test_odd_bytes_in_a_header_do_not_break_the_answer(wire: Wire, odd: bytes) -> None:
    """An odd field may be lost, the answer may not."""
    wire.play(
        always(
            head("ETag: 1")[:-2] + odd + b"\r\nContent-Length: 2\r\nLast-Modified: 1\r\n\r\n{}"
        )
    )  # fmt: skip
    with wire.client() as client:
        answer = client.get(MANIFEST)
        again = client.get(MANIFEST)
    assert (answer.status, answer.body, again.status) == (200, b"{}", 200)
    assert answer.head.value("ETag") == "1"
    assert answer.head.value("Last-Modified") == "1"
    assert "set-cookie" not in answer.head.names


def test_an_answer_with_nul_in_its_head_is_refused(wire: Wire) -> None:
    """Some readers end a field there (RFC 9110, section 5.5)."""
    wire.play(always(head("Warning: nul\x00nul", "Content-Length: 2") + b"{}"))
    with wire.client() as client:
        assert client.get(MANIFEST).status == 502


@pytest.mark.parametrize("odd", [b"X Odd: 1", b"X-\xc3\x96dd: 1", b"no colon", b": no name"])
def test_a_head_that_cannot_be_read_is_refused(wire: Wire, odd: bytes) -> None:
    """A parser that gives up in mid-head would lose the length, and the client would wait."""
    wire.play(always(head("ETag: 1")[:-2] + odd + b"\r\nContent-Length: 2\r\n\r\n{}"))
    with wire.client(timeout=2) as client:
        assert client.get(MANIFEST).status in {502, 503}


def test_obs_text_passes_byte_for_byte(wire: Wire) -> None:
    """A value that is no ASCII goes up and comes down as the bytes it is."""
    wire.play(always(head("Content-Length: 2")[:-2] + b"Warning: caf\xc3\xa9\r\n\r\n{}"))
    with wire.client() as client:
        client.send(
            f"GET {MANIFEST} HTTP/1.1\r\nHost: {wire.proxy.host}\r\n".encode()
            + b"User-Agent: na\xc3\xafve\r\n\r\n"
        )
        answer = client.answer()
    (asked,) = wire.upstream.asked
    assert b"User-Agent: na\xc3\xafve" in asked.raw.split(b"\r\n")
    assert b"Warning: caf\xc3\xa9" in answer.head.raw.split(b"\r\n")


def test_netrc_never_takes_part(wire: Wire) -> None:
    """A password for the upstream's host in ~/.netrc neither is added nor replaces a token."""
    assert NETRC_PASSWORD  # the proxy's HOME has it
    assert seen(wire, MANIFEST).values("Authorization") == []
    asked = seen(wire, MANIFEST, "Authorization: Bearer mine")
    assert asked.values("Authorization") == ["Bearer mine"]


def test_netrc_and_credentials_stay_behind_at_a_redirect(wire: Wire) -> None:
    """Another port is another server: it sees neither Authorization nor Cookie."""
    with Upstream() as cdn, playing(cdn):
        cdn.play(always(response(b"layer")))
        wire.play(always(location(f"{cdn.url}/layer?signature=1")))
        with wire.client() as client:
            answer = client.get(BLOB, "Authorization: Bearer mine", "Cookie: session=1")
        assert answer.body == b"layer"
        (asked,) = cdn.asked
        assert asked.target == "/layer?signature=1"
        assert asked.values("Authorization") == []
        assert asked.values("Cookie") == []


def test_credentials_stay_with_a_redirect_on_the_same_server(wire: Wire) -> None:
    """The same scheme, host and port is the same server."""

    def answer(asked: Asked) -> bytes:
        return response(b"layer") if asked.target == "/elsewhere" else location("/elsewhere")

    wire.play(answering(answer))
    with wire.client() as client:
        assert client.get(BLOB, "Authorization: Bearer mine").body == b"layer"
    first, second = wire.upstream.asked
    assert first.values("Authorization") == second.values("Authorization") == ["Bearer mine"]
