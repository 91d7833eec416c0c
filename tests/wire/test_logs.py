import base64
import json
import re
from collections.abc import Iterator
from typing import Any

import pytest

from tests.servers import wait_until
from tests.wire.client import Client
from tests.wire.upstream import Asked, Connection, Upstream, answering, head, playing, response
from tests.wire.wires import BLOB, MANIFEST, Start, Wire, location

BEARER = "secret-bearer"
BASIC = base64.b64encode(b"user:secret-basic").decode()
QUERY = "secret-query"
FORM = "secret-form"
SIGNED = "secret-signature"
ISSUED = "secret-issued"
COOKIE = "secret-cookie"
USERINFO = "secret-userinfo"
SECRETS = (BEARER, BASIC, "secret-basic", QUERY, FORM, SIGNED, ISSUED, COOKIE, USERINFO)

FIELD = re.compile(r' ([a-z_]+)=("(?:[^"\\]|\\.)*"|[^ ]*)')


@pytest.fixture(params=["text", "json"])
def logged_wire(request: pytest.FixtureRequest, start: Start) -> Iterator[Wire]:
    """Return a proxy that logs as text or as JSON, and as much as it can."""
    wire = start(workers=1, DOCXY_LOG_FORMAT=request.param, DOCXY_LOG_LEVEL="debug")
    with playing(wire.upstream):
        yield wire


def lines_of(wire: Wire, request_id: str, count: int = 1) -> list[dict[str, Any]]:
    """Wait for the lines of a request, and return their fields."""

    def found() -> list[str]:
        return [line for line in wire.proxy.log.splitlines() if request_id in line]

    wait_until(lambda: len(found()) >= count, 5, f"the line of {request_id}")
    lines = found()
    assert len(lines) == count, lines
    return [_fields(line) for line in lines]


def _fields(line: str) -> dict[str, Any]:
    if line.startswith("{"):
        fields: dict[str, Any] = json.loads(line)
        return fields
    return {
        name: json.loads(value) if value.startswith('"') else value
        for name, value in FIELD.findall(line)
    }


def test_a_request_is_one_line_with_its_figures(logged_wire: Wire) -> None:
    """Method, path without query, status, bytes of the body, seconds, who, and the id."""
    wire = logged_wire
    wire.play(answering(lambda _: response(b"x" * 12345)))
    with wire.client() as client:
        answer = client.get(f"{BLOB}?a=b", "X-Request-ID: given-id.1", "User-Agent: made up=1")
    assert answer.head.values("X-Request-ID") == ["given-id.1"]
    (line,) = lines_of(wire, "given-id.1")
    assert line["method"] == "GET"
    assert line["path"] == BLOB
    assert int(line["status"]) == 200
    assert int(line["bytes"]) == 12345
    assert line["client"] == "127.0.0.1"
    assert line["user_agent"] == "made up=1"
    assert 0 <= float(line["upstream_seconds"]) <= float(line["duration_seconds"]) < 5


def test_the_bytes_are_those_that_were_sent(logged_wire: Wire) -> None:
    """None for a HEAD, what came for a broken body, all of a chunked one or of an error."""

    def answer(connection: Connection) -> None:
        while True:
            asked = connection.head()
            if asked.method == "HEAD":
                connection.send(head("Content-Length: 700"))
            elif asked.target == BLOB:
                connection.send(head("Content-Length: 700"), b"y" * 600)
                return
            else:
                connection.send(head("Transfer-Encoding: chunked"), b"5\r\nchunk\r\n0\r\n\r\n")

    wire = logged_wire
    wire.play(answer)
    with wire.client() as client:
        client.get(MANIFEST, "X-Request-ID: of-a-head", method="HEAD")
        client.get(MANIFEST, "X-Request-ID: of-chunks")
        refused = client.get("/v2/Bad/manifests/x", "X-Request-ID: of-an-error")
        client.get(BLOB, "X-Request-ID: of-a-broken-one")
    assert [
        int(lines_of(wire, request_id)[0]["bytes"])
        for request_id in ("of-a-head", "of-chunks", "of-an-error", "of-a-broken-one")
    ] == [0, 5, len(refused.body), 600]
    assert "incomplete" not in lines_of(wire, "of-chunks")[0]
    assert str(lines_of(wire, "of-a-broken-one")[0]["incomplete"]) == "True"


@pytest.mark.parametrize("told", ["", "with space", 'quote"', "x" * 129, "a=b\tc"])
def test_a_request_id_is_made_where_none_can_be_used(logged_wire: Wire, told: str) -> None:
    """The answer and the line have the same."""
    wire = logged_wire
    with wire.client() as client:
        answer = client.get("/v2/unheard", f"X-Request-ID: {told}")
    (made,) = answer.head.values("X-Request-ID")
    assert re.fullmatch("[0-9a-f]{32}", made)
    (line,) = lines_of(wire, made)
    assert line["path"] == "/v2/unheard"


@pytest.mark.parametrize(
    "path",
    [
        "/v2/forged%0a2026-01-01T00:00:00Z%20INFO%20forged%20line/{}",
        "/v2/forged%0d%0aforged/{}",
        "/v2/forged%e2%80%a8forged/{}",
        "/v2/forged%c2%85forged/{}",
        "/v2/forged%1b%5b2Jforged/{}",
        "/v2/forged%20status=200%20bytes=1/{}",
        '/v2/forged"%22/{}',
    ],
)
def test_a_path_forges_no_line(logged_wire: Wire, path: str) -> None:
    """Neither a line nor a field, and a terminal stays as it is."""
    wire = logged_wire
    request_id = f"forger-{abs(hash(path))}"
    with wire.client() as client:
        answer = client.get(path.format(request_id), "X-Request-ID: forged-path")
        assert answer.status in {400, 404}
    wait_until(lambda: request_id in wire.proxy.log, 5, "the line")
    written = wire.proxy.log
    assert "\x1b" not in written
    (line,) = [line for line in re.split("[\r\n\x85\u2028]", written) if request_id in line]
    fields = _fields(line)
    assert int(fields["status"]) == answer.status
    assert "forged" in fields["path"]
    assert not any(line.startswith("forged") for line in re.split("[\r\n\x85\u2028]", written))


def ask_with_secrets(client: Client) -> None:
    """Send a secret in every way that there is."""
    bearer, basic = f"Authorization: Bearer {BEARER}", f"Authorization: Basic {BASIC}"
    client.get(MANIFEST, bearer, f"Cookie: session={COOKIE}")
    client.get(f"{MANIFEST}?X-Amz-Signature={QUERY}", bearer)
    client.get("/v2/", basic)
    client.get("/v2/", bearer)
    client.get(f"/auth/token?account=user&password={QUERY}&scope=repository:a:pull", basic)
    form = f"grant_type=password&username=user&password={FORM}&refresh_token={FORM}".encode()
    client.get("/auth/token", basic, method="POST", body=form)
    client.get(f"/unheard/of?token={QUERY}", bearer)
    client.get(f"{MANIFEST}?ns={QUERY}.example", bearer)
    client.get(f"/v2/library/alpine/blobs/uploads/?token={QUERY}", bearer, method="POST")


def malformed_requests(host: str, secret: str) -> list[bytes]:
    """Return requests with a secret that gunicorn itself refuses."""
    first = f"GET /auth/token?password={secret}"
    ask = f"{first} HTTP/1.1\r\nHost: {host}\r\n"
    return [
        f"{first} with space HTTP/1.1\r\nHost: {host}\r\n\r\n".encode(),
        f"{first} HTTP/9.9\r\nHost: {host}\r\n\r\n".encode(),
        f"{first}\r\n\r\n".encode(),
        f"{secret} / HTTP/1.1\r\n\r\n".encode(),
        f"{ask}Authorization : Bearer {secret}\r\n\r\n".encode(),
        f"{ask}Authorization: Bearer {secret}\x00\r\n\r\n".encode(),
        f"{ask}Authorization: Bearer\r\n {secret}\r\n\r\n".encode(),
        f"{ask}Authorization Bearer {secret}\r\n\r\n".encode(),
        f"{ask}Content-Length: {secret}\r\n\r\n".encode(),
        f"{ask}Transfer-Encoding: {secret}\r\n\r\n".encode(),
        f"{ask}Expect: {secret}\r\n\r\n".encode(),
        f"GET http://user:{secret}@{host}/health HTTP/1.1\r\nHost: {host}\r\n\r\n".encode(),
    ]


def test_no_secret_is_ever_logged(logged_wire: Wire) -> None:
    """Neither of answers, errors and redirects, nor of an upstream that breaks or is not there."""
    wire = logged_wire

    def answer(asked: Asked) -> bytes:
        if asked.target.startswith("/token"):
            return response(f'{{"token":"{ISSUED}"}}'.encode())
        if asked.target == BLOB:
            return location(f"{cdn.url}/layer?X-Amz-Signature={SIGNED}")
        if asked.target.endswith("/nowhere"):
            return location(f"http://127.0.0.1:1/layer?X-Amz-Signature={SIGNED}")
        if asked.target.endswith("/userinfo"):
            return location(f"http://user:{USERINFO}@127.0.0.1:1/layer")
        if asked.target.endswith("/broken"):
            return b"garbage\r\n\r\n"
        return response(b"{}", f"Set-Cookie: session={COOKIE}")

    with Upstream() as cdn, playing(cdn):
        cdn.play(lambda connection: connection.send(connection.head().raw[:0], head(), b"short"))
        wire.play(answering(answer))
        with wire.client() as client:
            ask_with_secrets(client)
            for tag in ("nowhere", "userinfo", "broken"):
                path = f"/v2/library/alpine/manifests/{tag}"
                assert client.get(path, f"Authorization: Bearer {BEARER}").status >= 502
        with wire.client() as client:
            assert not client.get(BLOB, f"Authorization: Bearer {BEARER}").complete
    assert any(QUERY in asked.target for asked in wire.upstream.asked)
    assert f"Basic {BASIC}" in [asked.value("Authorization") for asked in wire.upstream.asked]
    wait_until(lambda: len(re.findall('path=|"path"', wire.proxy.log)) >= 13, 5, "all lines")
    log = wire.proxy.log
    assert [secret for secret in SECRETS if secret in log] == []


@pytest.mark.parametrize("number", range(len(malformed_requests("", ""))))
def test_no_secret_of_a_malformed_request_is_logged(logged_wire: Wire, number: int) -> None:
    """Gunicorn refuses it and says why: without quoting what it got."""
    wire = logged_wire
    with wire.client(timeout=5) as client:
        client.send(malformed_requests(wire.proxy.host, f"secret-{number:04}")[number])
        assert client.ahead(12)
    with wire.client() as client:
        made = client.get("/health").head.value("X-Request-ID")
    lines_of(wire, made)
    assert f"secret-{number:04}" not in wire.proxy.log


NO_REQUESTS = [
    pytest.param("GET /{}\x01 HTTP/1.1\r\nHost: a\r\n\r\n", 400, id="control character"),
    pytest.param("GET / HTTP/1.1\r\nHost: a\r\n{}\r\n\r\n", 400, id="no colon"),
    pytest.param("GET / HTTP/1.1\r\nHost: a\r\n{} : b\r\n\r\n", 400, id="space in a name"),
    pytest.param("{}\r\n\r\n", 400, id="no request line"),
    pytest.param("GET / HTTP/1.1\r\nTransfer-Encoding: {}\r\n\r\n", 501, id="coding"),
    pytest.param("GET / HTTP/1.1\r\nExpect: {}\r\n\r\n", 417, id="expectation"),
]


@pytest.mark.parametrize(("text", "status"), NO_REQUESTS)
def test_what_is_no_request_is_refused_in_json(logged_wire: Wire, text: str, status: int) -> None:
    """The answer and the line have the same id, and the line has nothing of what came."""
    wire = logged_wire
    with wire.client() as client:
        client.send(text.format("text-of-the-request").encode())
        answer = client.answer()
        assert client.rest() == b""
    assert (answer.status, answer.complete) == (status, True)
    assert answer.head.value("Content-Type") == "application/json"
    (error,) = json.loads(answer.body)["errors"]
    assert set(error) == {"code", "message", "detail"}
    (made,) = answer.head.values("X-Request-ID")
    assert re.fullmatch("[0-9a-f]{32}", made)
    wait_until(lambda: made in wire.proxy.log, 5, "the line")
    (line,) = [line for line in wire.proxy.log.splitlines() if made in line]
    assert "Malformed request." in line
    assert str(status) in line
    assert "text-of-the-request" not in wire.proxy.log
    assert "Traceback" not in wire.proxy.log


def test_a_warning_tells_its_request(logged_wire: Wire) -> None:
    """What fails upstream, and that it was refused for it, leave warnings with the request's id."""
    wire = logged_wire
    wire.play(answering(lambda _: location("http://127.0.0.1:1/unreachable")))
    with wire.client() as client:
        for request_id in ("warned-first", "warned-second"):
            assert client.get(BLOB, f"X-Request-ID: {request_id}").status == 503
        assert client.get("/health", "X-Request-ID: not-warned").status == 200
    for request_id in ("warned-first", "warned-second"):
        lines_of(wire, request_id, count=3)
        warning, refusal, line = [
            line for line in wire.proxy.log.splitlines() if request_id in line
        ]
        assert "WARNING" in warning
        assert "127.0.0.1:1" in warning
        assert "Request refused." in refusal
        assert "UNAVAILABLE" in refusal
        assert "503" in line
    lines_of(wire, "not-warned")
    told = [line for line in wire.proxy.log.splitlines() if "127.0.0.1:1/unreachable" in line]
    assert ["warned-first" in line for line in told] == [True, False]


LINE = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z (DEBUG|INFO|WARNING|ERROR) ")


def test_all_lines_have_one_form(logged_wire: Wire) -> None:
    """Those of gunicorn's master too: they begin with the time, or are an object that has it."""
    wire = logged_wire
    lines = wire.proxy.log.splitlines()
    assert any("Starting gunicorn" in line for line in lines)
    for line in lines:
        if line.startswith("{"):
            fields = json.loads(line)
            line = f"{fields['time']} {fields['level']} "  # noqa: PLW2901 - the same in text
        assert LINE.match(line), line


def test_a_broken_body_tells_why(logged_wire: Wire) -> None:
    """The line of what the upstream cut says so; that of a whole one says nothing."""

    def script(connection: Connection) -> None:
        while connection.head().target != BLOB:
            connection.send(response(b"{}"))
        connection.send(head("Content-Length: 700"), b"y" * 600)

    wire = logged_wire
    wire.play(script)
    with wire.client() as client:
        assert client.get(MANIFEST, "X-Request-ID: why-whole").complete
        assert not client.get(BLOB, "X-Request-ID: why-cut").complete
    assert lines_of(wire, "why-cut")[0]["body_error"] == "the registry broke off"
    assert "body_error" not in lines_of(wire, "why-whole")[0]


def test_a_body_that_falls_silent_tells_why(impatient_wire: Wire) -> None:
    """The line of what the upstream does not go on with says so."""

    def script(connection: Connection) -> None:
        connection.head()
        connection.send(head("Content-Length: 700"), b"y" * 600)
        connection.until_left()

    impatient_wire.play(script)
    with impatient_wire.client() as client:
        answer = client.get(BLOB, "X-Request-ID: why-silent")
    assert (len(answer.body), answer.complete) == (600, False)
    assert lines_of(impatient_wire, "why-silent")[0]["body_error"] == "the registry fell silent"
