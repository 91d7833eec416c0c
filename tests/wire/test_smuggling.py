"""Requests that two servers could read as two: here they are one, or none."""

import json
import re
from typing import Final

import pytest

from tests.wire.upstream import Asked, answering, response
from tests.wire.wires import DIGEST, Wire

HIDDEN: Final = b"GET /v2/library/smuggled/manifests/x HTTP/1.1\r\nHost: a\r\n\r\n"
FORM: Final = b"POST /auth/token HTTP/1.1\r\nHost: a\r\n"
ASK: Final = b"GET /v2/library/alpine/manifests/latest HTTP/1.1\r\nHost: a\r\n"
END: Final = b"\r\n"


def answer(asked: Asked) -> bytes:
    """Answer whatever is asked."""
    return response(b'{"token":"t"}' if asked.target.startswith("/token") else b"{}")


def length(*values: bytes) -> bytes:
    """Return Content-Length fields."""
    return b"".join(b"Content-Length: %b\r\n" % value for value in values)


def coding(*values: bytes) -> bytes:
    """Return Transfer-Encoding fields."""
    return b"".join(b"Transfer-Encoding:%b\r\n" % value for value in values)


ALL: Final = b"%d" % len(HIDDEN)
LAST: Final = b"0\r\n\r\n"

REFUSED: Final = {
    "two lengths": FORM + length(b"0", ALL) + END + HIDDEN,
    "two lengths the other way": FORM + length(ALL, b"0") + END + HIDDEN,
    "a list of lengths": FORM + length(b"0, " + ALL) + END + HIDDEN,
    "a signed length": FORM + length(b"+" + ALL) + END + HIDDEN,
    "a negative length": FORM + length(b"-1") + END + HIDDEN,
    "a hexadecimal length": FORM + length(b"0x0") + END + HIDDEN,
    "a length with an underscore": FORM + length(b"1_0") + END + HIDDEN,
    "an empty length": FORM + length(b"") + END + HIDDEN,
    "a length and chunks": FORM + length(b"5") + coding(b" chunked") + END + LAST + HIDDEN,
    "chunks and a length": FORM + coding(b" chunked") + length(ALL) + END + LAST + HIDDEN,
    "a length and chunks of a GET": ASK + length(b"5") + coding(b" chunked") + END + LAST + HIDDEN,
    "chunks twice": FORM + coding(b" chunked", b" chunked") + END + LAST + HIDDEN,
    "chunks in chunks": FORM + coding(b" chunked, chunked") + END + LAST + HIDDEN,
    "an unknown coding": FORM + coding(b" xchunked") + END + LAST + HIDDEN,
    "chunks, then another": FORM + coding(b" chunked", b" x") + END + LAST + HIDDEN,
    "a coding with a vertical tab": FORM + coding(b"\x0bchunked") + END + LAST + HIDDEN,
    "a coding with NUL": FORM + coding(b" chunked\x00") + END + LAST + HIDDEN,
    "a coding that is folded": FORM + coding(b"\r\n chunked") + END + LAST + HIDDEN,
    "a space before the colon": FORM + b"Transfer-Encoding : chunked\r\n" + END + LAST + HIDDEN,
    "a space before the length's colon": FORM + b"Content-Length : 0\r\n" + END + HIDDEN,
    "a space before a field": FORM.replace(b"Host", b" Host") + length(ALL) + END + HIDDEN,
    "chunks in HTTP/1.0": FORM.replace(b"1.1", b"1.0") + coding(b" chunked") + END + LAST + HIDDEN,
    "NUL in a value": ASK + b"X: a\x00b\r\n" + END + HIDDEN,
    "a bare CR in a value": ASK + b"X: a\rContent-Length: 50\r\n" + END + HIDDEN,
    "a bare LF in a head": ASK + b"X: a\nContent-Length: 50\r\n" + END + HIDDEN,
    "no colon": ASK + b"Content-Length\r\n" + END + HIDDEN,
    "no name": ASK + b": 50\r\n" + END + HIDDEN,
    "two targets": b"GET /v2/ /v2/library/smuggled/manifests/x HTTP/1.1\r\nHost: a\r\n\r\n"
    + HIDDEN,
    "NUL in the target": b"GET /v2/a\x00/manifests/x HTTP/1.1\r\nHost: a\r\n\r\n" + HIDDEN,
    "a bare CR in the target": b"GET /v2/\rX: HTTP/1.1\r\nHost: a\r\n\r\n" + HIDDEN,
}
"""What leaves a doubt where it ends: nothing that follows is read."""

CHUNKED: Final = FORM + coding(b" chunked") + END
BAD_CHUNKS: Final = {
    "a hexadecimal mark": CHUNKED + b"0x0\r\n\r\n" + HIDDEN,
    "a signed size": CHUNKED + b"+0\r\n\r\n" + HIDDEN,
    "a negative size": CHUNKED + b"-0\r\n\r\n" + HIDDEN,
    "no size": CHUNKED + b"\r\n\r\n" + HIDDEN,
    "a space before a size": CHUNKED + b" 0\r\n\r\n" + HIDDEN,
    "a bare LF behind a size": CHUNKED + b"0\n\r\n" + HIDDEN,
    "a bare LF in an extension": CHUNKED + b"2;\nxx\r\n48\r\n0\r\n\r\n" + HIDDEN,
    "no end of a chunk": CHUNKED + b"1\r\naXX0\r\n\r\n" + HIDDEN,
    "a size beyond measure": CHUNKED + b"F" * 17 + b"\r\n" + HIDDEN,
}

WHOLE: Final = {
    "in the body of a GET": ASK + length(ALL) + END + HIDDEN,
    "in the chunks of a GET": (
        ASK + coding(b" chunked") + END + b"%x\r\n" % len(HIDDEN) + HIDDEN + b"\r\n" + LAST
    ),
    "in a form": FORM + length(ALL) + END + HIDDEN,
    "in the chunks of a form": CHUNKED + b"%x\r\n" % len(HIDDEN) + HIDDEN + b"\r\n" + LAST,
    "in a push": (
        b"PUT /v2/a/manifests/b HTTP/1.1\r\nHost: a\r\n" + length(ALL) + END + HIDDEN
    ),
}  # fmt: skip
"""What hides in a body, where it belongs to that body."""


def statuses(got: bytes) -> list[int]:
    """Return the statuses of all answers."""
    return [int(status) for status in re.findall(rb"HTTP/1\.[01] (\d{3}) ", got)]


def asked_for_hidden(wire: Wire) -> bool:
    """Tell whether what was hidden has been asked for."""
    return any("smuggled" in asked.target for asked in wire.upstream.asked)


def exchanged(wire: Wire, sent: bytes) -> bytes:
    """Send this and no more, and return all that comes."""
    wire.play(answering(answer))
    with wire.client(timeout=10) as client:
        client.send(sent)
        client.send_no_more()
        got = client.rest()
    with wire.client(timeout=5) as other:
        assert other.get("/v2/library/alpine/manifests/latest").body == b"{}"
    assert "Traceback" not in wire.proxy.log
    return got


@pytest.mark.parametrize("shape", REFUSED)
def test_what_leaves_a_doubt(wire: Wire, shape: str) -> None:
    """It is refused, the connection ends, and nobody is asked for anything."""
    got = exchanged(wire, REFUSED[shape])
    assert statuses(got) in ([400], [501])
    (error,) = json.loads(got.partition(b"\r\n\r\n")[2])["errors"]
    assert error["code"]
    assert [asked.target for asked in wire.upstream.asked] == [
        "/v2/library/alpine/manifests/latest"
    ]


@pytest.mark.parametrize("shape", BAD_CHUNKS)
def test_chunks_that_leave_a_doubt(wire: Wire, shape: str) -> None:
    """No form is read from them, and no request behind them."""
    got = exchanged(wire, BAD_CHUNKS[shape])
    assert statuses(got) == [400]
    assert not asked_for_hidden(wire)
    assert not any("/token" in asked.target for asked in wire.upstream.asked)


@pytest.mark.parametrize("shape", WHOLE)
def test_what_hides_in_a_body(wire: Wire, shape: str) -> None:
    """A body is no request."""
    got = exchanged(wire, WHOLE[shape])
    assert len(statuses(got)) == 1
    assert not asked_for_hidden(wire)


def test_what_hides_in_nothing(wire: Wire) -> None:
    """The test of the test: two requests are two."""
    got = exchanged(wire, ASK + END + HIDDEN)
    assert statuses(got) == [200, 200]
    assert asked_for_hidden(wire)


ODD_PATHS: Final = [
    "/..", "/../", "/v2/..", "/v2/../", "/v2/../v2/a/manifests/x", "/v2/../../etc/passwd",
    "/v2/a/../b/manifests/x", "/v2/a/%2e%2e/b/manifests/x", "/v2/a/%2E%2e/b/manifests/x",
    "/v2/a/.%2e/b/manifests/x", "/v2/a/%252e%252e/b/manifests/x", "/v2/a/./b/manifests/x",
    "/v2/a/manifests/..", "/v2/a/manifests/%2e%2e", "/v2/a/manifests/../../b/manifests/x",
    "/v2/a/manifests/..%2f..%2fx", "/v2/a/blobs/..", "/v2/a/blobs/sha256:..%2f..",
    f"/v2/a/blobs/{DIGEST}/..", f"/v2/a/blobs/{DIGEST}%00", "/v2/a%00/manifests/x", "/v2/%00",
    "/v2/a/manifests/x%00", "/v2/a/manifests/x%0d%0aX-Injected:%20yes", "/v2/a%0a/manifests/x",
    "/v2/a\\b/manifests/x", "/v2/a%5cb/manifests/x", "/v2/a//b/manifests/x", "/v2//manifests/x",
    "/v2///", "/v2/a/manifests//x", "/v2/%c0%ae%c0%ae/manifests/x",
    "/v2/%ff/manifests/x", "/v2/%e2%80%ae/manifests/x", "/v2/a/manifests/%", "/v2/a/manifests/%zz",
    "/v2/a/manifests/%u002e", "/v2/A/manifests/x", "/v2/-a/manifests/x", "/v2/a./manifests/x",
    "/v2/" + "a" * 256 + "/manifests/x", "/v2/" + "a/" * 200 + "manifests/x",
    "/v2/a/manifests/" + "x" * 129, "/v2/a/blobs/sha256:" + "5" * 65, "/v2/a/blobs/" + "5" * 8000,
    "/v2/" + "../" * 2000 + "manifests/x", "/v2/" + "%2e%2e%2f" * 800 + "manifests/x",
    "/v2/a/tags/list/..", "/v2/a/referrers/..", "/auth/../v2/a/manifests/x", "/auth/token/..",
    "/health/..", "/v2/a/manifests/x/../../blobs/y", "/v2/*/manifests/x", "/v2/a;b/manifests/x",
    "/v2/a/manifests/x;y", "/v2/a@b/manifests/x", "/v2/a:1/manifests/x", "/v2/a%20b/manifests/x",
]  # fmt: skip


@pytest.mark.parametrize("method", ["GET", "HEAD"])
def test_paths_that_are_none(wire: Wire, method: str) -> None:
    """They are refused here: no registry ever sees one, and no other page answers."""
    wire.play(answering(answer))
    for path in ODD_PATHS:
        with wire.client(timeout=5) as client:
            got = client.get(path, method=method)
        assert 400 <= got.status < 500, (path, got)
        assert "x-injected" not in got.head.names, path
        if method == "GET":
            assert json.loads(got.body)["errors"][0]["code"], path
        assert wire.upstream.asked == [], path
    assert "Traceback" not in wire.proxy.log
