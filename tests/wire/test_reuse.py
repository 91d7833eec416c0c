import random
from concurrent.futures import ThreadPoolExecutor
from itertools import count

import pytest

from tests.wire.upstream import (
    LAST_CHUNK,
    Asked,
    Connection,
    PeerLeft,
    always,
    answering,
    chunk,
    head,
    response,
)
from tests.wire.wires import BLOB, MANIFEST, Wire, manifest


def named(target: str, size: int) -> bytes:
    """Return a body that repeats the URL it belongs to."""
    line = f"{target}\n".encode()
    return (line * (size // len(line) + 1))[:size]


def test_fifty_manifests_use_one_connection(either_wire: Wire) -> None:
    """A client that keeps its connection stays with one worker, and that with one of its own."""
    either_wire.play(answering(lambda asked: response(asked.target.encode())))
    with either_wire.client() as client:
        for number in range(50):
            path = manifest(f"t{number}")
            assert client.get(path).body == path.encode()
    assert len(either_wire.upstream.asked) == 50
    assert len(either_wire.upstream.connections) == 1


@pytest.mark.parametrize(
    ("method", "answer"),
    [
        pytest.param("GET", response(b"x" * 300_000), id="large body"),
        pytest.param(
            "GET", head("Transfer-Encoding: chunked") + chunk(b"x") + LAST_CHUNK, id="chunked"
        ),
        pytest.param("GET", response(b"{}", status="404 Not Found"), id="refused"),
        pytest.param("HEAD", head("Content-Length: 300000"), id="head of a large body"),
        pytest.param("HEAD", head(), id="head without length"),
        pytest.param("HEAD", head("Content-Length: 99999", status="404 Not Found"), id="head, 404"),
        pytest.param("GET", head(status="304 Not Modified"), id="304"),
        pytest.param("GET", head("Content-Length: 9", status="304 Not Modified"), id="304, length"),
    ],
)
def test_a_connection_is_kept_after_a_whole_answer(wire: Wire, method: str, answer: bytes) -> None:
    """An answer without a body is whole at its head, whatever length it tells."""
    wire.play(always(answer))
    with wire.client() as client:
        for _ in range(4):
            client.get(BLOB, method=method)
    assert len(wire.upstream.asked) == 4
    assert len(wire.upstream.connections) == 1


def test_the_connection_is_free_before_the_client_has_read(wire: Wire) -> None:
    """An upstream that has sent all is not held by a client that takes its time."""
    wire.play(answering(lambda asked: response(named(asked.target, 200_000))))
    with wire.client() as client:
        client.ask(manifest("one"))
        client.head()
        client.ask(manifest("two"))
        assert client.exactly(200_000) == named(manifest("one"), 200_000)
        assert client.answer().body == named(manifest("two"), 200_000)
    assert len(wire.upstream.connections) == 1


def test_an_upstream_that_says_close_is_connected_anew(wire: Wire) -> None:
    """Connection: close is obeyed."""
    wire.play(always(response(b"{}", "Connection: close")))
    with wire.client() as client:
        for _ in range(3):
            assert client.get(MANIFEST).body == b"{}"
    assert len(wire.upstream.connections) == 3


def test_an_idle_connection_that_the_upstream_closed_is_connected_anew(either_wire: Wire) -> None:
    """No client notices, also where the end is still on its way."""

    def script(connection: Connection) -> None:
        connection.head()
        connection.send(response(b"{}"))

    either_wire.play(script)
    with either_wire.client() as client:
        for _ in range(5):
            assert client.get(MANIFEST).status == 200


def test_a_kept_connection_that_ends_under_a_request_is_tried_anew(either_wire: Wire) -> None:
    """An upstream may give up an idle connection just when a request is on its way there.

    Nothing has been answered, so a GET may be sent again (RFC 9110, section 9.2.2).
    """

    def script(connection: Connection) -> None:
        connection.head()
        connection.send(response(b"{}"))
        connection.head()

    either_wire.play(script)
    with either_wire.client() as client:
        for _ in range(3):
            assert client.get(MANIFEST).status == 200


@pytest.mark.parametrize(
    "extra",
    [
        pytest.param(response(b"poison"), id="an answer"),
        pytest.param(response(b"poison") * 400, id="many answers"),
        pytest.param(b"poison" * 3000, id="bytes"),
    ],
)
@pytest.mark.parametrize("method", ["GET", "HEAD"])
def test_bytes_beyond_an_answer_reach_nobody(either_wire: Wire, method: str, extra: bytes) -> None:
    """What was sent unasked, in the same packet and TLS record, is no answer to what comes next."""

    def answer(asked: Asked) -> bytes:
        if asked.method == "HEAD":
            return head("Content-Length: 5") + extra
        return response(b"right") + (extra if method == "GET" else b"")

    either_wire.play(answering(answer))
    with either_wire.client() as client:
        for _ in range(3):
            assert client.get(MANIFEST, method=method).status == 200
            assert client.get(MANIFEST).body == b"right"


KINDS = ("length", "chunked", "short", "cut chunks", "reset", "close", "head", "refused", "early")


def answer_of(kind: str, asked: Asked, connection: Connection) -> None:
    """Answer in one of many ways, always with a body that names its URL."""
    size = 1 + len(asked.target) * 7919 % 400_000
    body = named(asked.target, size)
    if asked.method == "HEAD":
        connection.send(head(f"Content-Length: {size}"))
        return
    pieces = [body[start : start + 50_000] for start in range(0, size, 50_000)]
    if kind == "chunked":
        connection.send(head("Transfer-Encoding: chunked"), *map(chunk, pieces), LAST_CHUNK)
    elif kind == "cut chunks":
        connection.send(head("Transfer-Encoding: chunked"), *map(chunk, pieces))
        connection.close()
        raise PeerLeft
    elif kind in {"short", "reset"}:
        connection.send(head(f"Content-Length: {size + 1000}"), body)
        (connection.close if kind == "short" else connection.reset)()
        raise PeerLeft
    elif kind == "close":
        connection.send(response(body, "Connection: close"))
        raise PeerLeft
    elif kind == "refused":
        connection.send(response(body[:20_000], status="404 Not Found"))
    elif kind == "early":
        connection.send(head(status="103 Early Hints"), response(body))
    else:
        connection.send(response(body))


def confusing(connection: Connection) -> None:
    """Answer in all ways, and see that nothing is asked after a body that was given up."""
    while True:
        asked = connection.head()
        kind = KINDS[int(asked.target.rpartition("/k")[2].partition("-")[0])]
        answer_of(kind, asked, connection)


def pull_much(wire: Wire, seed: int, numbers: "count[int]") -> int:
    """Behave as a crowd of clients does; return how many answers were checked."""
    chance = random.Random(seed)  # noqa: S311 - no secret
    checked = 0
    client = wire.client()
    try:
        for _ in range(25):
            kind = chance.randrange(len(KINDS))
            path = manifest(f"k{kind}-{next(numbers)}-{'x' * chance.randrange(40)}")
            method = "HEAD" if KINDS[kind] == "head" else "GET"
            client.ask(path, method=method)
            if chance.random() < 0.35:
                if method == "GET" and chance.random() < 0.7:
                    client.head()
                    client.some(chance.randrange(1, 30_000))
                (client.close if chance.random() < 0.5 else client.reset)()
                client = wire.client()
                continue
            answer = client.answer(method)
            if answer.status == 200:
                size = 1 + len(path) * 7919 % 400_000
                assert named(path, size).startswith(answer.body), path
                checked += 1
            if not answer.complete or answer.head.value("Connection") == "close":
                client.close()
                client = wire.client()
    finally:
        client.close()
    return checked


@pytest.mark.parametrize("tls", [False, True], ids=["plain", "tls"])
def test_no_byte_of_one_answer_is_in_another(wire: Wire, tls_wire: Wire, *, tls: bool) -> None:
    """However many come and go, and whatever the upstream does to its connections."""
    crowded = tls_wire if tls else wire
    crowded.play(confusing)
    numbers = count()
    with ThreadPoolExecutor(16) as crowd:
        checked = sum(crowd.map(lambda seed: pull_much(crowded, seed, numbers), range(16)))
    assert checked > 100
    assert "Traceback" not in crowded.proxy.log


def test_an_abandoned_body_ends_its_connection(wire: Wire) -> None:
    """The rest of it would be the beginning of the next answer."""
    abandoned: list[Connection] = []

    def script(connection: Connection) -> None:
        while connection.head().target != BLOB:
            connection.send(response(b"right"))
        abandoned.append(connection)
        connection.send(head("Content-Length: 10000000"), b"abandoned")
        connection.until_left()

    wire.play(script)
    for number in range(4):
        with wire.client() as client:
            client.ask(BLOB)
            client.head()
            assert client.exactly(9) == b"abandoned"
        assert abandoned[number].left.wait(2)
        with wire.client() as client:
            assert client.get(MANIFEST).body == b"right"
