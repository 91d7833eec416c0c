"""Whatever others send is read so quickly that nobody else waits for it."""

import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest

from tests.wire.client import Client
from tests.wire.upstream import always, playing, response
from tests.wire.wires import MANIFEST, Start, Wire

AT_ONCE = 8
PATIENCE = 5
"""Seconds that nobody waits for /health; each of these texts took a worker longer, or for ever."""


@pytest.fixture
def wire(start: Start, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Wire]:
    """Return a proxy with a cache, and two workers."""
    wire = start(DOCXY_CACHE_DIR=str(tmp_path_factory.getbasetemp() / "read"))
    with playing(wire.upstream):
        wire.play(always(response(b"{}")))
        yield wire


def rewriting(text: str) -> tuple[str, tuple[str, ...], bytes]:
    """Return what the page sends to have a text rewritten."""
    return "/page/rewrite", (), text.encode()


COMMAS = "," * 8000 + '"' * 8001
CLIENTS = [
    pytest.param((MANIFEST, (f"Accept: {COMMAS}",), b""), id="commas and quotes"),
    pytest.param((f"/page/tags?image=a:{'a%24A' * 300}!", (), b""), id="letters and variables"),
    pytest.param(rewriting("FROM ${" + "a" * 60_000), id="a variable without its end"),
    pytest.param(rewriting("\n".join(f"a{n}:{'a$A' * 300}!" for n in range(60))), id="many images"),
]
REGISTRIES = [
    pytest.param("tags/list", "Link: " + '<>\\"' * 14_000, id="a string without its end"),
    pytest.param(
        "manifests/3", f"Content-Type: application/vnd.{'manifest' * 7_000}!", id="a word again"
    ),
]


def assert_that_nobody_waits(
    wire: Wire, path: str, fields: tuple[str, ...] = (), body: bytes = b""
) -> None:
    """Assert that eight of such a request leave /health quick, and are answered."""

    def ask() -> int:
        with Client(wire.proxy.host, timeout=60) as client:
            client.ask(path, *fields, method="POST" if body else "GET", body=body)
            return client.answer().status

    with ThreadPoolExecutor(AT_ONCE) as pool:
        asked = [pool.submit(ask) for _ in range(AT_ONCE)]
        slowest, last = 0.0, False
        while not last:
            last = all(one.done() for one in asked)  # and once more after that
            began = time.monotonic()
            with wire.client() as client:
                assert client.get("/health").status == 200
            slowest = max(slowest, time.monotonic() - began)
        assert {one.result() for one in asked} <= {200, 400, 404, 502}
    assert slowest < PATIENCE


@pytest.mark.parametrize("request_", CLIENTS)
def test_clients(wire: Wire, request_: tuple[str, tuple[str, ...], bytes]) -> None:
    """What anybody can send stops no worker."""
    path, fields, body = request_
    assert_that_nobody_waits(wire, path, fields, body)


@pytest.mark.parametrize(("what", "field"), REGISTRIES)
def test_registries(wire: Wire, what: str, field: str) -> None:
    """What any registry can send stops no worker."""
    wire.play(always(response(b"{}", field)))
    assert_that_nobody_waits(wire, f"/v2/library/alpine/{what}")
