"""A fuzz of a running server: whatever comes in, it answers what it should and goes on.

`FUZZ_SEED=7 FUZZ_COUNT=100000` looks further than every run does.
"""

import os
import re
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Final

import pytest

from tests.wire.client import Client, Ending
from tests.wire.fuzzing import INJECTED, Fuzzer
from tests.wire.upstream import Asked, Connection, head, response
from tests.wire.wires import Wire

SEEDS: Final = [int(os.environ["FUZZ_SEED"])] if "FUZZ_SEED" in os.environ else [1, 2, 3, 4]
COUNT: Final = int(os.environ.get("FUZZ_COUNT", "1000"))
"""Connections for each seed."""

AT_ONCE: Final = 4
PATIENCE: Final = 15
"""Seconds after which a connection that is neither answered nor closed hangs."""

HEAD: Final = re.compile(
    rb"HTTP/1\.[01] ([1-4][0-9]{2}|50[1-4]) [^\r\n]*\r\n((?:[^\r\n]+\r\n)*)\r\n"
)
FIELD: Final = re.compile(rb"([!#$%&'*+.^_`|~0-9A-Za-z-]+):[\t\x20-\x7e\x80-\xff]*")
TARGET: Final = re.compile(
    r"/(?:v2/(?:[a-z0-9/._-]+/(?:manifests|blobs|tags|referrers)/[A-Za-z0-9._:=+-]+)?|token)"
    r"(?:\?[\x21-\x7e]*)?"
)


def registry(connection: Connection) -> None:
    """Be a registry that is asked for nothing but what one is asked for, however clients ask."""
    while True:
        asked = connection.head()
        assert_sound(asked)
        if length := asked.value("Content-Length"):
            connection.body(int(length))
        if asked.method == "HEAD":
            connection.send(head("Content-Length: 2"))
        else:
            connection.send(response(b'{"token":"t"}' if "/token" in asked.target else b"{}"))


def assert_sound(asked: Asked) -> None:
    """Assert that a request has one meaning only, and nothing that a client must not bring in."""
    line, *fields = asked.raw.split(b"\r\n")
    assert re.fullmatch(rb"(?:GET|HEAD|POST) [\x21-\x7e]+ HTTP/1\.1", line), asked.raw
    assert TARGET.fullmatch(asked.target), asked.raw
    assert ".." not in asked.target.partition("?")[0], asked.raw
    assert all(FIELD.fullmatch(field) for field in fields), asked.raw
    assert len(asked.values("Host")) == 1, asked.raw
    assert len(asked.values("Content-Length")) == (asked.method == "POST"), asked.raw
    for name in ("Transfer-Encoding", INJECTED.decode(), "Cookie", "TE", "Upgrade", "Expect"):
        assert not asked.values(name), asked.raw


@pytest.mark.parametrize("seed", SEEDS)
def test_whatever_comes_in(wire: Wire, seed: int) -> None:
    """No 500, no traceback, no hang, no header of the client's making; and then it goes on."""
    print(f"seed {seed}")  # noqa: T201 - pytest shows it where this fails
    wire.play(registry)
    before = len(wire.proxy.log)
    fuzzer = Fuzzer(seed)
    sent: Iterator[tuple[int, bytes]] = iter([(n, fuzzer.connection()) for n in range(COUNT)])
    lock = threading.Lock()

    def some() -> None:
        while True:
            with lock:
                number, data = next(sent, (-1, b""))
            if number < 0:
                return
            _try(wire, data, f"seed {seed}, number {number}: {data!r}")

    with ThreadPoolExecutor(AT_ONCE) as threads:
        for done in [threads.submit(some) for _ in range(AT_ONCE)]:
            done.result()
    wire.upstream.check()
    log = wire.proxy.log[before:]
    for trouble in ("Traceback", " ERROR ", "Booting worker", "WORKER TIMEOUT"):
        assert trouble not in log


def _try(wire: Wire, data: bytes, told: str) -> None:
    """Send this and no more; whoever then only waits is wrong."""
    with wire.client(timeout=PATIENCE) as client:
        try:
            client.send(data)
            client.send_no_more()
            got = client.rest()
        except TimeoutError:
            pytest.fail(f"neither answered nor closed: {told}")
        except OSError:  # closed before all was sent
            got = b""
    _assert_answers(got, told)


def _assert_answers(got: bytes, told: str) -> None:
    assert not got or HEAD.match(got), f"{got!r} to {told}"
    for _, fields in HEAD.findall(got):
        for field in fields.split(b"\r\n")[:-1]:
            named = FIELD.fullmatch(field)
            assert named, f"{field!r} in answer to {told}"
            assert named[1].lower() not in {INJECTED.lower(), b"set-cookie"}, told
    assert got.count(b"HTTP/1.") == len(HEAD.findall(got)), f"{got!r} to {told}"


@pytest.mark.parametrize("seed", SEEDS)
def test_whoever_leaves_in_the_middle(wire: Wire, seed: int) -> None:
    """A reset, anywhere, troubles nobody."""
    wire.play(registry)
    before = len(wire.proxy.log)
    fuzzer = Fuzzer(seed)
    for _ in range(COUNT // 10):
        with wire.client() as client:
            client.send(fuzzer.connection()[:3000])
            client.reset()
    with wire.client(timeout=PATIENCE) as client:
        assert client.get("/v2/library/alpine/manifests/latest").status == 200
        assert client.ending is Ending.NONE
    assert "Traceback" not in wire.proxy.log[before:]


def test_the_server_that_was_fuzzed_answers(wire: Wire) -> None:
    """Many clients at once, each on its own connection, and each gets the right answer."""
    wire.play(registry)
    clients: list[Client] = [wire.client(timeout=PATIENCE) for _ in range(50)]
    for client in clients:
        client.ask("/v2/library/alpine/manifests/latest")
    for client in clients:
        with client:
            answer = client.answer()
            assert (answer.status, answer.body) == (200, b"{}")
