"""Bodies as nobody should send them: too large, packed, in crumbs, or where none belongs."""

import contextlib
import gzip
import json
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from pathlib import Path
from typing import Final

import pytest

from tests.pairs import pairs
from tests.servers import wait_until
from tests.wire.hostile import CHUNKED, GOOD, NEXT, hostile, sending
from tests.wire.upstream import (
    LAST_CHUNK,
    Connection,
    Script,
    answering,
    chunk,
    head,
    playing,
    response,
)
from tests.wire.wires import BLOB, MANIFEST, Start, Wire, manifest

TOKEN: Final = "/auth/token?service=registry.test&scope=repository:library/alpine:pull"  # noqa: S105 - a path
TAGS: Final = "/v2/library/alpine/tags/list"
MEBIBYTE: Final = 1 << 20
HUNDRED: Final = 100 * MEBIBYTE


@cache
def bomb() -> bytes:
    """Return a hundred megabytes in a hundred kilobytes."""
    return gzip.compress(b"\x00" * HUNDRED)


@pytest.fixture
def lone(start: Start) -> Iterator[Wire]:
    """Return a proxy with one worker, which a single request can stop."""
    wire = start(workers=1, DOCXY_READ_TIMEOUT="5")
    with playing(wire.upstream):
        yield wire


@contextlib.contextmanager
def growing_by(wire: Wire, most: int) -> Iterator[None]:
    """Assert that the workers together never hold so many bytes more than at first."""
    children = _workers(wire)
    for child in children:
        (child / "clear_refs").write_text("5")  # the peak begins anew: proc(5)
    before = sum(_high_water((child / "status").read_text()) for child in children)
    yield
    after = sum(_high_water((child / "status").read_text()) for child in children)
    assert after - before < most


def _workers(wire: Wire) -> list[Path]:
    master = wire.proxy.server.process.pid
    pids = Path(f"/proc/{master}/task/{master}/children").read_text().split()
    assert pids
    return [Path(f"/proc/{pid}") for pid in pids]


def _high_water(status: str) -> int:
    (line,) = [line for line in status.splitlines() if line.startswith("VmHWM:")]
    return int(line.split()[1]) * 1024


def assert_sound(wire: Wire) -> None:
    """Assert that the next request is answered, and that nothing went wrong inside."""
    with wire.client(timeout=5) as client:
        assert client.get(manifest("next")).body == b"{}"
    assert "Traceback" not in wire.proxy.log


def but_next(answer: bytes) -> Script:
    """Answer everything so, and on the same connections whatever else is asked."""
    return answering(lambda asked: GOOD if NEXT in asked.target else answer)


def filling(beginning: bytes, piece: bytes, size: int, end: bytes = b"") -> Script:
    """Send so many bytes of content, in such pieces."""

    def script(connection: Connection) -> None:
        connection.send(beginning)
        for _ in range(size // MEBIBYTE):
            connection.send(piece)
        connection.send(end)

    return script


LARGE: Final = {
    "length": filling(head(f"Content-Length: {HUNDRED}"), b"{" * MEBIBYTE, HUNDRED),
    "chunks": filling(CHUNKED, chunk(b"{" * MEBIBYTE), HUNDRED, LAST_CHUNK),
    "until it closes": filling(head("Connection: close"), b"{" * MEBIBYTE, HUNDRED),
    "small chunks": filling(CHUNKED, chunk(b"{" * 64) * (MEBIBYTE // 64), HUNDRED, LAST_CHUNK),
}


@pytest.mark.parametrize(
    ("path", "shape"),
    [
        pytest.param(MANIFEST, "length", id="a manifest with a length"),
        pytest.param(TOKEN, "chunks", id="a token in chunks"),
        pytest.param(MANIFEST, "until it closes", id="a manifest without an end"),
        pytest.param(TOKEN, "small chunks", id="a token in small chunks"),
        pytest.param("/v2/", "length", id="a ping with a length"),
        pytest.param("/v2/", "small chunks", id="a ping in small chunks"),
    ],
)
def test_a_hundred_megabytes_of_something_small(wire: Wire, path: str, shape: str) -> None:
    """They are refused when they are too large, and not when they are there."""
    wire.play(hostile(LARGE[shape]))
    with growing_by(wire, 150 * MEBIBYTE), ThreadPoolExecutor(2) as threads:
        list(threads.map(lambda _: _refused(wire, path), range(4)))
    assert_sound(wire)


def _refused(wire: Wire, path: str) -> None:
    with wire.client() as client:
        answer = client.get(path, "Authorization: Bearer mine")
    if path == "/v2/":  # nothing of it is kept, however large it is
        assert answer.status == 200
        return
    assert (answer.status, answer.complete) == (502, True)
    assert "is larger than" in json.loads(answer.body)["errors"][0]["message"]


def test_an_error_of_a_hundred_megabytes(wire: Wire) -> None:
    """Its status is what counts."""
    wire.play(
        hostile(
            filling(
                head(f"Content-Length: {HUNDRED}", status="404 Not Found"),
                b"{" * MEBIBYTE,
                HUNDRED,
            )
        )
    )
    with growing_by(wire, 40 * MEBIBYTE), wire.client() as client:
        answer = client.get(MANIFEST)
    assert answer.status == 404
    assert json.loads(answer.body)["errors"][0]["code"] == "MANIFEST_UNKNOWN"
    assert_sound(wire)


@pytest.mark.parametrize(
    ("path", "coding"),
    [
        *((path, "gzip") for path in (MANIFEST, BLOB, TOKEN, TAGS)),
        (MANIFEST, "x-gzip"),
        (BLOB, "gzip, gzip"),
        (TOKEN, "deflate"),
        (TAGS, "br"),
        (MANIFEST, "zstd"),
    ],
)
def test_a_bomb(wire: Wire, path: str, coding: str) -> None:
    """It passes as it is: what is packed is for the client to unpack."""
    kind = ("Content-Type: application/json", f"Content-Encoding: {coding}")
    wire.play(but_next(response(bomb(), *kind)))
    with growing_by(wire, 40 * MEBIBYTE), wire.client() as client:
        answer = client.get(path)
    assert (answer.status, answer.body) == (200, bomb())
    assert answer.head.values("Content-Encoding") == [coding]
    assert_sound(wire)


def test_a_bomb_in_an_error(wire: Wire) -> None:
    """It is not unpacked to see whether it is OCI JSON."""
    wire.play(but_next(response(bomb(), "Content-Encoding: gzip", status="403 Forbidden")))
    with growing_by(wire, 40 * MEBIBYTE), wire.client() as client:
        answer = client.get(MANIFEST)
    assert answer.status == 403
    assert answer.head.values("Content-Encoding") == []
    assert json.loads(answer.body)["errors"][0]["code"] == "DENIED"
    assert_sound(wire)


@pytest.mark.parametrize("size", [1, 3, 100])
def test_a_flood_of_small_chunks(lone: Wire, size: int) -> None:
    """All of it arrives, and the worker has time for others meanwhile."""
    content = bytes(range(250)) * 1200
    crumbs = b"".join(chunk(content[at : at + size]) for at in range(0, len(content), size))
    repeated = 3 * size
    lone.play(but_next(CHUNKED + crumbs * repeated + LAST_CHUNK))
    with ThreadPoolExecutor(1) as thread, lone.client() as client:
        pulled = thread.submit(client.get, BLOB)
        wait_until(lambda: bool(lone.upstream.asked), 5, "the request")
        while not pulled.done():
            started = time.monotonic()
            with lone.client(timeout=5) as other:
                assert other.get("/health").status == 200
            assert time.monotonic() - started < 1
        answer = pulled.result()
    assert (answer.complete, answer.body == content * repeated) == (True, True)
    assert_sound(lone)


def test_a_manifest_in_crumbs(lone: Wire) -> None:
    """A byte a chunk is slow, but no fault."""
    crumbs = b"".join(chunk(b"%c" % byte) for byte in b"0123456789" * 5000)
    lone.play(but_next(CHUNKED + crumbs + LAST_CHUNK))
    with lone.client() as client:
        assert client.get(MANIFEST).body == b"0123456789" * 5000
    assert_sound(lone)


@pytest.mark.parametrize("path", [MANIFEST, BLOB, TOKEN, TAGS])
def test_trailers_do_not_pass(wire: Wire, path: str) -> None:
    """They are dropped: nothing that follows a body may change its head (RFC 9110, 6.5.1)."""
    trailer = b"0\r\nSet-Cookie: a=b\r\nX-Accel-Redirect: /etc\r\nContent-Length: 5\r\n\r\n"
    wire.play(answering(lambda _: CHUNKED + chunk(b"{}") + trailer))
    with wire.client() as client:
        for _ in range(2):
            answer = client.get(path)
            assert (answer.status, answer.body, answer.complete) == (200, b"{}", True)
            assert not {"set-cookie", "x-accel-redirect", "trailer"} & answer.head.names
    assert len(wire.upstream.connections) <= 2
    assert "Traceback" not in wire.proxy.log


WITHOUT: Final = [
    ("GET", "304 Not Modified"),
    ("GET", "204 No Content"),
    ("HEAD", "200 OK"),
    ("HEAD", "404 Not Found"),
    ("HEAD", "401 Unauthorized"),
]
FRAMINGS: Final = ["Content-Length: 8", "Transfer-Encoding: chunked", "X: y"]


@pytest.mark.parametrize(
    ("without", "path", "framing"), pairs(WITHOUT, [MANIFEST, BLOB], FRAMINGS), ids=str
)
def test_a_body_where_none_belongs(
    wire: Wire, without: tuple[str, str], path: str, framing: str
) -> None:
    """It is nobody's answer, neither the client's next one nor the proxy's."""
    method, status = without
    stray = chunk(b"smuggled") + LAST_CHUNK if "chunked" in framing else b"smuggled"
    wire.play(hostile(sending(head(framing, status=status), stray)))
    with wire.client(timeout=5) as client:
        for _ in range(2):
            answer = client.get(path, method=method)
            if (path, status[:3]) == (BLOB, "204"):
                assert answer.status == 502  # no blob comes with that
            else:
                assert answer.body == b""
                assert str(answer.status) in {status[:3], "403"}
            assert client.get(manifest("next")).body == b"{}"
    assert_sound(wire)


CONTENT_RANGES: Final = [
    "", "bytes", "bytes ", "bytes */10", "bytes 0-9", "bytes 5-4/10", "bytes 0-9/5",
    "bytes 0-99/10",
    "bytes -1-9/10", "bytes 0-9/" + "9" * 400, "lines 0-9/10", "bytes 0-9/10, bytes 0-9/10",
    "bytes 0-9/*", "bytes=0-9/10", "bytes 0x0-9/10", "bytes 0-9/10 ", "\xff",
]  # fmt: skip


@pytest.mark.parametrize("status", ["206 Partial Content", "416 Range Not Satisfiable"])
def test_a_part_that_is_none(wire: Wire, status: str) -> None:
    """Who asked for a part gets one that can be read as it, or an error, as who asked for all."""
    sent = int(status[:3])
    for told in CONTENT_RANGES:
        wire.play(but_next(response(b"0123456789", f"Content-Range: {told}", status=status)))
        fits = told.strip() in {"bytes 0-9/10", "bytes 0-9/*"}
        with wire.client(timeout=5) as client:
            got = client.get(BLOB, "Range: bytes=0-9")
            part = (502 if sent == 206 and not fits else sent, True)
            assert (got.status, got.complete) == part, told
            assert got.status != 206 or got.body == b"0123456789", told
            whole = client.get(BLOB)
            assert (whole.status, whole.complete) == (502 if sent == 206 else 416, True), told
            assert client.get(BLOB, "Range: bytes=0-9", method="HEAD").status == sent, told
        assert_sound(wire)


def test_multipart_ranges_pass(wire: Wire) -> None:
    """Several ranges are an answer of their own kind, which passes as it is."""
    kind = "multipart/byteranges; boundary=x"
    answer = response(b"--x--", f"Content-Type: {kind}", status="206 Partial Content")
    wire.play(but_next(answer))
    with wire.client(timeout=5) as client:
        got = client.get(BLOB, "Range: bytes=0-1,3-4")
    assert (got.status, got.body, got.head.value("Content-Type")) == (206, b"--x--", kind)
    assert_sound(wire)


LINKS: Final = [
    "", "<", ">", "<>", "<>; rel=next", "</v2/a>", "</v2/a>; rel", "</v2/a>; rel=",
    '</v2/a>; rel="',
    "</v2/a?n=1>; rel=prev", "/v2/a?n=1; rel=next", "<<>>; rel=next", "</v2/a?n=1; rel=next",
    "<http://[::1?n=1>; rel=next", "<javascript:alert(1)>; rel=next", "<\xff?n=\xff>; rel=next",
    "</a b?n=1>; rel=next", '</v2/a?n=">; rel=next', "<" + "<" * 30_000, ";" * 30_000, '"' * 30_000,
    "</v2/a>" + "; a=b" * 6_000, "<a>," * 10_000, '</v2/a>; a="' + "\\" * 30_000,
    "</v2/a>; rel=" + "next " * 6_000, "<?" + "a" * 30_000 + ">; rel=prev",
]  # fmt: skip

OWN: Final = "</v2/library/alpine/tags/list"


def test_links_that_lead_nowhere(lone: Wire) -> None:
    """The next page is at this proxy, or there is none; and no time is lost over it."""
    for link in LINKS:
        lone.play(but_next(response(b"{}", f"Link: {link}")))
        started = time.monotonic()
        with lone.client(timeout=5) as client:
            got = client.get(TAGS)
        assert time.monotonic() - started < 2, link
        assert (got.status, got.body) == (200, b"{}"), link
        assert all(told.startswith(OWN) for told in got.head.values("Link")), link
        assert_sound(lone)


def test_a_link_elsewhere_leads_here(lone: Wire) -> None:
    """Only its query is the registry's to choose."""
    link = "<https://evil.test/v2/other/tags/list?n=1&last=%0d%0aa#b>; rel=next"

    lone.play(but_next(response(b"{}", f"Link: {link}")))
    with lone.client(timeout=5) as client:
        (told,) = client.get(TAGS).head.values("Link")
    assert told == f'{OWN}?n=1&last=%0d%0aa>; rel="next"'
    assert_sound(lone)
