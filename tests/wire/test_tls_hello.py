import ssl

import pytest

from tests.wire.client import Ending
from tests.wire.wires import Start, Wire


def openssl_hello() -> bytes:
    """Return the hello of this Python's OpenSSL; the number of an extension is a line feed."""
    outgoing = ssl.MemoryBIO()
    context = ssl.create_default_context()
    tls = context.wrap_bio(ssl.MemoryBIO(), outgoing, server_hostname="proxy.test")
    with pytest.raises(ssl.SSLWantReadError):
        tls.do_handshake()
    hello = outgoing.read()
    assert b"\n" in hello
    return hello


def plain_hello() -> bytes:
    """Return a hello of TLS 1.2 with one cipher and no extension, without a line feed."""
    body = b"\x03\x03" + b"r" * 32 + b"\x00" + b"\x00\x02\xc0\x2f" + b"\x01\x00"
    handshake = b"\x01" + len(body).to_bytes(3, "big") + body
    hello = b"\x16\x03\x01" + len(handshake).to_bytes(2, "big") + handshake
    assert b"\n" not in hello
    return hello


@pytest.mark.parametrize("hello", [openssl_hello(), plain_hello()], ids=["with lf", "without lf"])
def test_a_tls_hello_is_answered_in_http_at_once(wire: Wire, hello: bytes) -> None:
    """Docker's containerd image store tries plain HTTP only after such an answer."""
    with wire.client(timeout=1) as client:
        client.send(hello)
        answer = client.rest()
        assert answer.startswith(b"HTTP/1.")
        assert b" 400 " in answer.splitlines()[0]
        assert client.ending is Ending.FIN


def test_a_hello_in_pieces_is_answered_too(wire: Wire) -> None:
    """The first byte tells."""
    hello = plain_hello()
    with wire.client(timeout=1) as client:
        client.send(hello[:1])
        assert client.head().status == 400


def test_a_request_in_pieces_is_served(wire: Wire) -> None:
    """To look at the first byte takes nothing away."""
    with wire.client() as client:
        for byte in f"GET /health HTTP/1.1\r\nHost: {wire.proxy.host}\r\n\r\n".encode():
            client.send(bytes([byte]))
        assert client.answer().status == 200


def test_a_request_that_comes_late_is_served_without_keepalive(start: Start) -> None:
    """A `keepalive` of 0 means one request for a connection, and not none."""
    wire = start("--keep-alive", "0", workers=1)
    for _ in range(3):
        with wire.client() as client:
            client.settimeout(0.2)
            with pytest.raises(TimeoutError):
                client.some(1)
            client.settimeout(10)
            assert client.get("/health").status == 200
            client.send_no_more()
            assert client.rest() == b""
