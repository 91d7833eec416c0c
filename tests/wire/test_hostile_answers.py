"""Answers as nobody should send them: the client's is clean, and the next request is answered."""

import functools
import itertools
import json
import time
from collections.abc import Iterable, Iterator
from typing import Final

import pytest

from tests.wire.client import Answer
from tests.wire.hostile import (
    CHUNKED,
    CHUNKS,
    CUT_CHUNKS,
    ENDLESS_CHUNKS,
    ENDLESS_HEADS,
    GOOD,
    HEADS,
    NEXT,
    NOT_HTTP,
    cutting,
    dripping,
    dripping_tls,
    endless,
    hostile,
    sending,
)
from tests.wire.upstream import (
    Asked,
    Connection,
    Script,
    Upstream,
    answering,
    chunk,
    head,
    playing,
    response,
)
from tests.wire.wires import BLOB, MANIFEST, Certificates, Start, Wire, location, manifest

PATIENCE: Final = 2
"""Seconds that these proxies give a head, and a small body: twice their read timeout."""

TOKEN: Final = "/auth/token?service=registry.test&scope=repository:library/alpine:pull"  # noqa: S105 - a path
TAGS: Final = "/v2/library/alpine/tags/list"
IMPATIENT: Final = {"DOCXY_READ_TIMEOUT": "1", "DOCXY_CONNECT_TIMEOUT": "1"}
THREADS: Final = ("--worker-class", "gthread", "--threads", "4")
MINE: Final = "Authorization: Bearer mine"

SMALL: Final = (MANIFEST, TOKEN)
"""What is read whole before it is answered."""
PASSED_ON: Final = (BLOB, TAGS)
"""What is answered as it arrives."""
PATHS: Final = (MANIFEST, BLOB, TAGS, TOKEN, "/v2/")


@pytest.fixture
def lone(start: Start) -> Iterator[Wire]:
    """Return a proxy with one worker, which a single request can stop."""
    yield from _lent(start(workers=1, **IMPATIENT))


def _lent(wire: Wire) -> Iterator[Wire]:
    with playing(wire.upstream):
        yield wire


def refused(answer: Answer, status: int = 502) -> None:
    """Assert that an answer is an error in the registries' shape, and whole."""
    assert (answer.status, answer.complete) == (status, True), answer
    assert answer.head.value("Content-Type") == "application/json"
    (error,) = json.loads(answer.body)["errors"]
    assert error["code"] == "UNAVAILABLE"
    assert error["message"]


def assert_sound(wire: Wire, hostile_ones: int = 1) -> None:
    """Assert that the next request is answered, and on no connection that was misused."""
    with wire.client(timeout=5) as client:
        assert client.get(manifest("next"), MINE).body == b"{}"
    for connection in wire.upstream.connections[:hostile_ones]:
        assert connection.left.wait(5)
    assert "Traceback" not in wire.proxy.log


@pytest.mark.parametrize("shape", HEADS)
def test_a_head_that_is_none(lone: Wire, shape: str) -> None:
    """502 in JSON, whatever was asked for, on a connection that is not used again."""
    lone.play(hostile(sending(HEADS[shape])))
    with lone.client(timeout=5) as client:
        for path in PATHS:
            refused(client.get(path, MINE))
        answer = client.get(BLOB, method="HEAD")
        assert (answer.status, answer.body) == (502, b"")
    assert_sound(lone, 6)


@pytest.mark.parametrize("shape", NOT_HTTP)
def test_what_is_no_http(lone: Wire, shape: str) -> None:
    """It is no answer that was cut, which would be asked for again."""
    lone.play(hostile(cutting(NOT_HTTP[shape])))
    with lone.client(timeout=5) as client:
        refused(client.get(MANIFEST))
    assert_sound(lone)


@pytest.mark.parametrize("shape", ENDLESS_HEADS)
def test_a_head_without_end(lone: Wire, shape: str) -> None:
    """It is left early."""
    lone.play(hostile(endless(*ENDLESS_HEADS[shape])))
    started = time.monotonic()
    with lone.client(timeout=10) as client:
        for path in (MANIFEST, BLOB, TOKEN):
            refused(client.get(path))
    assert time.monotonic() - started < 5
    assert_sound(lone, 3)


def in_turn(paths: Iterable[str], shapes: Iterable[str]) -> list[tuple[str, str]]:
    """Return each shape with one of these paths."""
    return [*zip(itertools.cycle(paths), shapes, strict=False)]


@pytest.mark.parametrize(("path", "shape"), in_turn(SMALL, CHUNKS))
def test_chunks_of_something_small(lone: Wire, path: str, shape: str) -> None:
    """Nothing of it has been sent yet, so it becomes an error."""
    lone.play(hostile(sending(CHUNKED, CHUNKS[shape])))
    with lone.client(timeout=5) as client:
        refused(client.get(path))
    assert_sound(lone)


@pytest.mark.parametrize(("path", "shape"), in_turn(PASSED_ON, CHUNKS))
def test_chunks_of_what_is_passed_on(lone: Wire, path: str, shape: str) -> None:
    """The client's transfer is cut, and never looks whole."""
    lone.play(hostile(sending(CHUNKED, chunk(b"some"), CHUNKS[shape])))
    with lone.client(timeout=5) as client:
        answer = client.get(path)
    assert (answer.status, answer.complete) == (200, False)
    assert answer.body in {b"some", b"some{}"}
    assert_sound(lone)


@pytest.mark.parametrize(
    ("path", "shape"), in_turn(SMALL, ENDLESS_CHUNKS) + in_turn(PASSED_ON, ENDLESS_CHUNKS)
)
def test_chunks_without_end(lone: Wire, path: str, shape: str) -> None:
    """They are left early as well."""
    beginning, more = ENDLESS_CHUNKS[shape]
    lone.play(hostile(endless(CHUNKED + beginning, more)))
    with lone.client(timeout=5) as client:
        answer = client.get(path)
    if path in SMALL:
        refused(answer)
    else:
        assert (answer.status, answer.complete) == (200, False)
    assert_sound(lone)


@pytest.mark.parametrize(
    ("path", "shape"), in_turn(SMALL, CUT_CHUNKS) + in_turn(PASSED_ON, CUT_CHUNKS)
)
def test_chunks_that_are_cut(lone: Wire, path: str, shape: str) -> None:
    """A cut is no end, wherever it is."""
    lone.play(hostile(cutting(CHUNKED, CUT_CHUNKS[shape])))
    with lone.client(timeout=5) as client:
        answer = client.get(path)
    if path in SMALL:
        refused(answer, 503)
    else:
        assert (answer.status, answer.complete) == (200, False)
    assert_sound(lone)


@pytest.mark.parametrize(
    "answer",
    [
        pytest.param(GOOD, id="length"),
        pytest.param(CHUNKED + chunk(b"{}") + b"0\r\n\r\n", id="chunks"),
        pytest.param(head(status="304 Not Modified"), id="304"),
        pytest.param(head(status="204 No Content"), id="204"),
        pytest.param(response(b"{}", status="404 Not Found"), id="404"),
        pytest.param(location("/v2/library/alpine/manifests/next"), id="redirect"),
    ],
)
@pytest.mark.parametrize("path", [MANIFEST, BLOB])
def test_more_than_an_answer(lone: Wire, path: str, answer: bytes) -> None:
    """What follows it is never the answer to what is asked next."""
    smuggled = response(b"smuggled", "X-Smuggled: yes")
    lone.play(hostile(sending(answer + smuggled)))
    with lone.client(timeout=5) as client:
        for _ in range(3):
            got = client.get(path)
            assert got.complete
            assert "x-smuggled" not in got.head.names
            assert b"smuggled" not in got.body
            assert b"smuggled" not in client.get(manifest("next")).body
    assert_sound(lone, 3)


@pytest.mark.parametrize(
    ("script", "paths", "status"),
    [
        pytest.param(
            dripping(b"HTTP/1.1 200 OK\r\n", b"X: y\r\n"), (MANIFEST, BLOB, TOKEN), 504, id="fields"
        ),
        pytest.param(dripping(b"", b"HTTP/1.1 103 X\r\n\r\n"), (MANIFEST,), 504, id="interim"),
        pytest.param(dripping(b"HTTP/1.1 200 ", b"OK"), (BLOB,), 504, id="status line"),
        pytest.param(
            dripping(head("Content-Length: 5000"), b"{"), (MANIFEST, TOKEN), 503, id="small body"
        ),
        pytest.param(
            dripping(CHUNKED, chunk(b"{")), (MANIFEST, TOKEN), 503, id="small body in chunks"
        ),
    ],
)
def test_what_drips(lone: Wire, script: Script, paths: tuple[str, ...], status: int) -> None:
    """A byte now and then is no progress where all is wanted; others are answered meanwhile."""
    lone.play(hostile(script))
    for path in paths:
        started = time.monotonic()
        with lone.client(timeout=10) as client:
            client.ask(path)
            with lone.client(timeout=1) as other:
                assert other.get(manifest("next")).body == b"{}"
            refused(client.answer(), status)
        assert PATIENCE - 0.5 < time.monotonic() - started < 2 * PATIENCE + 1
    assert_sound(lone)


@pytest.mark.parametrize("status", [504, 503], ids=["head", "body"])
def test_what_drips_on_threads(start: Start, status: int) -> None:
    """Without gevent the times are the same."""
    wire = start(*THREADS, workers=1, **IMPATIENT)
    drips = dripping(head("Content-Length: 5000") if status == 503 else b"HTTP/1.1 200 ", b"{")
    with playing(wire.upstream):
        wire.play(hostile(drips))
        started = time.monotonic()
        with wire.client(timeout=10) as client:
            refused(client.get(MANIFEST), status)
        assert PATIENCE - 0.5 < time.monotonic() - started < 2 * PATIENCE + 1
        assert_sound(wire)


def test_an_error_that_drips(lone: Wire) -> None:
    """Its status counts, and its text is this proxy's."""
    drips = dripping(head("Content-Length: 5000", status="404 Not Found"), b"{")
    lone.play(hostile(drips))
    started = time.monotonic()
    with lone.client(timeout=10) as client:
        answer = client.get(MANIFEST)
    assert answer.status == 404
    assert json.loads(answer.body)["errors"][0]["code"] == "MANIFEST_UNKNOWN"
    assert time.monotonic() - started < 2 * PATIENCE
    assert_sound(lone)


def test_redirects_that_drip(lone: Wire) -> None:
    """All of them have the time of one."""
    redirect = location(f"{lone.upstream.url}/v2/library/alpine/blobs/again")

    def script(connection: Connection) -> None:
        while NEXT not in connection.head().target:
            for at in range(len(redirect)):
                connection.left.wait(0.008)
                connection.send(redirect[at : at + 1])
        connection.send(GOOD)

    lone.play(script)
    started = time.monotonic()
    with lone.client(timeout=20) as client:
        refused(client.get(BLOB), 504)
    assert PATIENCE - 0.5 < time.monotonic() - started < 2 * PATIENCE + 1
    assert_sound(lone)


def test_a_redirect_whose_body_drips(lone: Wire) -> None:
    """Nobody wants it, so it is not waited for longer than a new connection takes."""
    redirect = head(
        "Location: /v2/library/alpine/blobs/next", "Content-Length: 500", status="307 X"
    )
    lone.play(hostile(dripping(redirect, b"x", every=0.2)))
    started = time.monotonic()
    with lone.client(timeout=10) as client:
        assert client.get(BLOB).body == b"{}"
    assert time.monotonic() - started < 2.5
    assert_sound(lone)


NOWHERE: Final = [
    "ftp://{}/x", "file:///etc/passwd", "gopher://{}/x", "data:application/json,x", "unix:/x",
    "http://user:pw@{}/x", "http://{}@{}/x", "http:\\\\{}/x", "/\\{}/x", "///{}/x",
    "http:/{}/x",
    "http:{}/x", "http://{}/a b", "http://{}\t/x", "http://{}/\x7f", "http://{}/\xe4",
    "http://{}%2f/x", "http://{}/x, http://{}/x", "http://{}\r\n /x", "http://[{}/x", "http://",
]  # fmt: skip


@pytest.mark.parametrize("method", ["GET", "HEAD"])
def test_redirects_to_nowhere(lone: Wire, method: str) -> None:
    """They are followed by nobody."""
    with Upstream() as elsewhere, playing(elsewhere):
        for place in NOWHERE:
            redirect = location(place.replace("{}", elsewhere.url.removeprefix("http://")))
            lone.play(answering(functools.partial(unless_next, redirect)))
            with lone.client(timeout=5) as client:
                answer = client.get(BLOB, MINE, method=method)
            assert (answer.status, answer.complete) == (502, True), place
            assert elsewhere.connections == [], place
            assert len(lone.upstream.asked) == 1, place
            assert_sound(lone, 0)


def unless_next(answer: bytes, asked: Asked) -> bytes:
    """Return an answer, or a good one to what is asked to see whether all is well."""
    return GOOD if NEXT in asked.target else answer


@pytest.mark.parametrize("place", ["/v2/a", "?again", "//{}/v2/a", "http://{}/v2/a", "../x"])
def test_redirects_that_never_end(lone: Wire, place: str) -> None:
    """Ten are followed, whether they lead in a circle or on and on."""
    there = lone.upstream.url.removeprefix("http://")

    def redirect(asked: Asked) -> bytes:
        count = str(len(lone.upstream.asked)) if place == "/v2/a" else ""
        return GOOD if NEXT in asked.target else location(place.replace("{}", there) + count)

    lone.play(answering(redirect))
    with lone.client(timeout=5) as client:
        refused(client.get(BLOB))
    assert len(lone.upstream.asked) == 11
    assert_sound(lone, 0)


def test_a_redirect_to_a_host_that_is_not_there(lone: Wire) -> None:
    """Nothing of that is this proxy's fault, and no traceback is left of a name that has none."""
    lone.play(
        answering(lambda asked: GOOD if NEXT in asked.target else location("http://a.invalid/"))
    )
    with lone.client(timeout=10) as client:
        answer = client.get(BLOB)
    assert answer.status in {503, 504}
    assert_sound(lone, 0)


@pytest.mark.parametrize("threads", [(), THREADS], ids=["gevent", "gthread"])
@pytest.mark.parametrize("handshake", [True, False], ids=["handshake", "record"])
def test_tls_that_drips(
    start: Start,
    certificates: Certificates,
    handshake: bool,  # noqa: FBT001 - a table
    threads: tuple[str, ...],
) -> None:
    """Beneath a byte of HTTP, there is time to lose as well."""
    with Upstream() as cdn, playing(cdn):
        wire = start(*threads, tls=True, workers=1, **IMPATIENT)
        cdn.play(dripping_tls(certificates.context, GOOD + b"x" * 5000, handshake=handshake))
        there = cdn.url.replace("http:", "https:")
        answers = {"next": GOOD}
        with playing(wire.upstream):
            wire.play(answering(lambda asked: answers.get(asked.target[-4:], location(there))))
            started = time.monotonic()
            with wire.client(timeout=20) as client:
                refused(client.get(BLOB), 504)
            assert time.monotonic() - started < 2 * PATIENCE + 1
            assert cdn.connection().left.wait(5)
            assert_sound(wire, 0)
