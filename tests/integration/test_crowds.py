"""Crowds of connections that never ask for anything, at full size: nobody else may notice them.

tests/wire/test_places.py has the rules that this follows from, each with a few connections.
"""

import contextlib
import socket
import ssl
import struct
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import pytest

from tests import programs, proxies
from tests.hub.hub import Hub
from tests.hub.images import Image
from tests.integration.caching import ACCEPT, asked, push
from tests.integration.curling import curl
from tests.proxies import Front
from tests.servers import Docxy, docxy_on_its_own_socket, wait_until
from tests.wire.client import Client

pytestmark = pytest.mark.integration

NAME = "library/crowded"
CONNECTIONS, STREAMS = 36, 120
DIRECT: Final = 4200
"""More than both workers have places."""
LONG_ENOUGH: Final = 20
"""Looks at the workers that find nothing new; one is a fiftieth of a second after the other."""
PING: Final = b"all seen"
VISITOR: Final = "127.0.0.2"
SOON: Final = 10
"""Seconds for what takes some hundredths of one when nothing else goes on."""


@pytest.fixture(scope="module")
def hub() -> Iterator[Hub]:
    programs.require("docker-registry")
    with Hub() as hub:
        yield hub


@pytest.fixture(scope="module")
def image(hub: Hub) -> Image:
    """Return what is pulled meanwhile."""
    return push(hub, NAME, 100_000)


@pytest.fixture(scope="module")
def proxy(hub: Hub, image: Image) -> Iterator[Docxy]:
    """Return Docxy as it is shipped: two workers, which believe servers on this machine."""
    del image
    with docxy_on_its_own_socket(**hub.settings | {"DOCXY_CREDENTIALS": "managed"}) as proxy:
        yield proxy


@pytest.fixture(params=["nginx", "caddy"])
def front(request: pytest.FixtureRequest, proxy: Docxy) -> Iterator[Front]:
    with getattr(proxies, request.param)(proxy.host) as front:
        yield front


def frame(kind: int, flags: int, stream: int, payload: bytes) -> bytes:
    """Return a frame of HTTP/2 (RFC 9113, section 4.1)."""
    head = struct.pack(">I", len(payload))[1:] + bytes([kind, flags])
    return head + struct.pack(">I", stream) + payload


def field(name: bytes, value: bytes) -> bytes:
    """Return a header field, neither indexed nor compressed (RFC 7541, section 6.2.2)."""
    return b"\x00" + bytes([len(name)]) + name + bytes([len(value)]) + value


def half_a_form(stream: int) -> bytes:
    """Return a token request of which one byte comes, and 99 never do."""
    head = [(b":method", b"POST"), (b":scheme", b"https"), (b":path", b"/auth/token"),
            (b":authority", b"localhost"), (b"content-length", b"100"),
            (b"content-type", b"application/x-www-form-urlencoded")]  # fmt: skip
    fields = b"".join(field(name, value) for name, value in head)
    return frame(1, 4, stream, fields) + frame(0, 0, stream, b"g")


def send_half_forms(front: Front) -> ssl.SSLSocket:
    """Open a connection of HTTP/2 on which many token requests begin, and none ends."""
    context = ssl.create_default_context(cafile=str(front.ca_path))
    context.set_alpn_protocols(["h2"])
    plain = socket.create_connection(("127.0.0.1", int(front.host.rpartition(":")[2])), timeout=20)
    client = context.wrap_socket(plain, server_hostname="localhost")
    assert client.selected_alpn_protocol() == "h2"
    requests = b"".join(half_a_form(2 * number + 1) for number in range(STREAMS))
    preface = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + frame(4, 0, 0, b"")
    client.sendall(preface + requests + frame(6, 0, 0, PING))
    seen = b""
    while PING not in seen:  # which the front answers when it has read all before it
        seen = seen[-len(PING) :] + client.recv(65536)
    return client


def visit(front: Front, target: str) -> int:
    """Ask a front from another address, and return the status; 0 if there is no answer in time.

    The crowd has used up what nginx gives to its own (with nginx 1.22, streams of HTTP/2 that wait
    for the rest of a form count as well).
    """
    arguments = ("--interface", VISITOR, "--max-time", str(SOON), "--header", ACCEPT)
    return curl(front, target, *arguments).status


def ask(proxy: Docxy, target: str) -> int:
    """Ask Docxy itself, on a connection of its own, and return the status."""
    with Client(proxy.host, timeout=SOON) as client:
        return client.get(target, ACCEPT).status


def open_files(proxy: Docxy) -> int:
    """Return how many files the workers have open, connections among them."""
    return sum(len(list(Path(f"/proc/{pid}/fd").iterdir())) for pid in proxy.workers)


def await_arrival(proxy: Docxy) -> None:
    """Wait until no more connections come in: a crowd takes the workers some seconds."""
    counts: list[int] = []

    def is_over() -> bool:
        counts.append(open_files(proxy))
        return counts[-LONG_ENOUGH:] == [counts[-1]] * LONG_ENOUGH

    wait_until(is_over, what="the crowd")


def test_token_requests_that_never_end(proxy: Docxy, front: Front, image: Image) -> None:
    """Through the shipped fronts: the form's rest is waited for, and nobody waits with it."""
    layer = max(image.all_blobs.values(), key=lambda blob: blob.size).digest
    before = open_files(proxy)
    with contextlib.ExitStack() as stack:
        for _ in range(CONNECTIONS):
            stack.enter_context(send_half_forms(front))
        await_arrival(proxy)
        # nginx waits for the rest of a form itself.
        assert (open_files(proxy) - before < STREAMS) is (front.name == "nginx")
        for target in ("/health", f"/v2/{NAME}/manifests/1", f"/v2/{NAME}/blobs/{layer}"):
            assert {visit(front, target) for _ in range(8)} == {200}


def test_connections_that_never_ask(proxy: Docxy, hub: Hub) -> None:
    """Straight to gunicorn, a byte on each: those that ask for something go before them."""
    hub.reset()
    with contextlib.ExitStack() as stack:
        for _ in range(DIRECT):
            stack.enter_context(Client(proxy.host)).send(b"G")
        await_arrival(proxy)
        for target in ("/health", f"/v2/{NAME}/manifests/1"):
            assert {ask(proxy, target) for _ in range(20)} == {200}
    assert asked(hub)
