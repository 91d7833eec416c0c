import contextlib
import json
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Final

import pytest

from tests.wire.client import Answer, Client
from tests.wire.upstream import always, playing, response
from tests.wire.wires import BLOB, DIGEST, MANIFEST, Start, Wire

MUCH: Final = 20 * 1024 * 1024


@pytest.fixture
def lone_wire(start: Start) -> Iterator[Wire]:
    """Return a proxy with one worker, in which whatever takes long delays everybody.

    It waits two seconds for a head, and 1.5 for a form.
    """
    wire = start("--keep-alive", "2", workers=1, DOCXY_WRITE_TIMEOUT="1.5")
    with playing(wire.upstream):
        wire.play(always(response(b"{}")))
        yield wire


def refused(answer: Answer) -> int:
    """Return the status of a refusal in OCI JSON."""
    (error,) = json.loads(answer.body)["errors"]
    assert set(error) == {"code", "message", "detail"}
    assert answer.head.value("Content-Type") == "application/json"
    return answer.status


def assert_idle(wire: Wire) -> None:
    """Assert that the worker has nothing else to do than to answer."""
    started = time.monotonic()
    with wire.client() as client:
        assert client.get("/health").status == 200
    assert time.monotonic() - started < 3


QUERY: Final = "/auth/token?scope=repository:a:pull&account="
TOO_LONG = [
    pytest.param(QUERY + "a" * 65536, (), 414, id="line"),
    pytest.param("/v2/" + "a/" * 5000 + "manifests/a", (), 414, id="path"),
    pytest.param("/v2/a/manifests/%61" + "%61" * 5000, (), 414, id="encoded path"),
    pytest.param("http://a/" + "a" * 9000, (), 414, id="path of a whole URL"),
    pytest.param(MANIFEST, ("Accept: " + "a" * 65536,), 431, id="field"),
    pytest.param(MANIFEST, tuple(f"X-{n}: x" for n in range(200)), 431, id="many fields"),
    pytest.param(MANIFEST, tuple(f"X-{n}: {'x' * 60000}" for n in range(5)), 431, id="all fields"),
]


@pytest.mark.parametrize(("path", "fields", "status"), TOO_LONG)
def test_a_head_that_is_too_long(
    lone_wire: Wire, path: str, fields: tuple[str, ...], status: int
) -> None:
    """It is refused in JSON, the connection ends, and no registry is asked."""
    with lone_wire.client() as client:
        client.ask(path, *fields)
        assert refused(client.answer()) == status
        assert client.rest() == b""
    assert lone_wire.upstream.asked == []
    assert_idle(lone_wire)


@pytest.mark.parametrize(
    ("path", "fields"),
    [
        pytest.param(QUERY + "a" * 65000, (), id="line"),
        pytest.param("/v2/a/manifests/%61" + "%61" * 100, (), id="path"),
        pytest.param(MANIFEST, ("Authorization: Bearer " + "a" * 65000,), id="field"),
        pytest.param(MANIFEST, tuple(f"X-{n}: {'x' * 2600}" for n in range(98)), id="fields"),
    ],
)
def test_a_head_that_is_long_enough(lone_wire: Wire, path: str, fields: tuple[str, ...]) -> None:
    """What is below the limits passes."""
    with lone_wire.client() as client:
        assert client.get(path, *fields).status == 200


@pytest.mark.parametrize(
    ("beginning", "more"),
    [
        pytest.param(b"GET /", b"a", id="line"),
        pytest.param(b"GET / HTTP/1.1\r\n", b"a: b\r\n", id="fields"),
        pytest.param(b"GET / HTTP/1.1\r\nA: ", b"b", id="field"),
        pytest.param(
            b"POST /auth/token HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n",
            b"a: b\r\n", id="trailer",
        ),
        pytest.param(
            b"POST /auth/token HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n1;",
            b"a", id="chunk extension",
        ),
        pytest.param(
            b"PATCH /v2/a/blobs/uploads/1 HTTP/1.1\r\nContent-Length: %d\r\n\r\n" % MUCH,
            b"a", id="body",
        ),
        pytest.param(
            b"PUT /v2/a/manifests/b HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n",
            b"1\r\na\r\n", id="chunked body",
        ),
        pytest.param(
            b"POST /auth/token HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n",
            b"8\r\naaaaaaaa\r\n", id="chunked form",
        ),
    ],
)  # fmt: skip
def test_megabytes_of_it(lone_wire: Wire, beginning: bytes, more: bytes) -> None:
    """Whoever sends without end is left, and nobody else waits meanwhile."""

    def send(client: Client) -> None:
        with contextlib.suppress(ConnectionError):  # left before all was sent
            client.send(beginning + more * (MUCH // len(more)))
            client.rest()

    with lone_wire.client() as client, ThreadPoolExecutor(1) as thread:
        sent = thread.submit(send, client)
        assert_idle(lone_wire)
        sent.result()
        assert_idle(lone_wire)
    assert lone_wire.upstream.asked == []


@pytest.mark.parametrize("length", [10, 200_000])
def test_a_body_that_nobody_wants(lone_wire: Wire, length: int) -> None:
    """A short one is skipped, a long one ends the connection; the answer arrives."""
    with lone_wire.client() as client:
        answer = client.get(f"{BLOB}", method="PUT", body=b"x" * length)
        assert refused(answer) == 405
        assert (answer.head.value("Connection") == "close") == (length > 65536)
        if length > 65536:
            assert client.rest() == b""
        else:
            assert client.get(MANIFEST).status == 200


@pytest.mark.parametrize("body", ["x\r\n", "5\r\nab\r\n", "5;\r\nabcde\r\n0\r\n\r\n", "1\r\naXX"])
def test_chunks_that_are_none(lone_wire: Wire, body: str) -> None:
    """A form in them is a bad request, not an error of this proxy's, and asks nobody."""
    with lone_wire.client() as client:
        client.ask("/auth/token", "Transfer-Encoding: chunked", method="POST")
        client.send(body.encode())
        client.send_no_more()
        assert refused(client.answer()) == 400
        assert client.rest() == b""
    assert lone_wire.upstream.asked == []
    assert "Traceback" not in lone_wire.proxy.log


@pytest.mark.parametrize("framing", ["Content-Length: 50", "Transfer-Encoding: chunked"])
def test_half_a_form(lone_wire: Wire, framing: str) -> None:
    """A login that is cut short never passes for a whole one."""
    with lone_wire.client() as client:
        client.ask("/auth/token", framing, method="POST")
        client.send(b"14\r\ngrant_type=password&" if "chunked" in framing else b"grant_type=pass")
        client.send_no_more()
        assert refused(client.answer()) == 400
    assert lone_wire.upstream.asked == []


def drip(client: Client, data: bytes) -> None:
    """Send a byte at a time, until it ends or the proxy says something."""
    client.settimeout(0.05)
    for at in range(len(data)):
        client.send(data[at : at + 1])
        try:
            client.ahead(1)
        except TimeoutError:
            continue
        break
    client.settimeout(20)


@pytest.mark.parametrize("target", ["/auth/token", "/page/rewrite"])
def test_a_form_that_drips(lone_wire: Wire, target: str) -> None:
    """Its time is limited as a whole, however steadily it comes."""
    started = time.monotonic()
    with lone_wire.client() as client:
        client.ask(target, "Content-Length: 1000", method="POST")
        drip(client, b"a" * 999)
        assert refused(client.answer()) == 408
        assert client.rest() == b""
    assert 1.4 < time.monotonic() - started < 10
    assert lone_wire.upstream.asked == []


def test_a_head_that_drips(lone_wire: Wire) -> None:
    """So is the time of a head: gunicorn's keepalive."""
    started = time.monotonic()
    with lone_wire.client() as client, contextlib.suppress(ConnectionError):
        drip(client, b"GET / HTTP/1.1\r\nA: " + b"a" * 999)
        assert client.rest() == b""
    assert 1.9 < time.monotonic() - started < 10


def test_a_request_that_drips_in_time(lone_wire: Wire) -> None:
    """Slow is not hostile."""
    form = b"scope=a"
    head = f"POST /auth/token HTTP/1.1\r\nHost: a\r\nContent-Length: {len(form)}\r\n\r\n"
    with lone_wire.client() as client:
        client.send(head[:-9].encode())
        drip(client, head[-9:].encode() + form)
        assert client.answer().status == 200
    assert len(lone_wire.upstream.asked) == 1


def test_requests_that_do_not_wait(lone_wire: Wire) -> None:
    """Pipelined ones are answered in their order, each once."""
    digests = [f"sha256:{number:064}" for number in range(100)]
    with lone_wire.client() as client:
        for digest in digests:
            client.ask(BLOB.replace(DIGEST, digest))
        for digest in digests:
            answer = client.answer()
            assert (answer.body, answer.head.value("Docker-Content-Digest")) == (b"{}", digest)
    assert len(lone_wire.upstream.asked) == len(digests)


def test_what_is_no_version_of_ours(lone_wire: Wire) -> None:
    """Who speaks a later HTTP/1 is answered in the latest there is (RFC 9110, section 2.5)."""
    with lone_wire.client() as client:
        assert client.get("/health", version="HTTP/1.9").head.version == "HTTP/1.1"
