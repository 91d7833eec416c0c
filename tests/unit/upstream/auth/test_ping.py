"""Pings without credentials over real sockets: what no stub can break."""

import socket

from app.oci.reference import Operation
from app.source import Request
from tests.unit.upstream.blobs import Hosts
from tests.unit.upstream.hurry import hurried
from tests.unit.upstream.server import Server, request, serving

WHOLE = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nConnection: close\r\n\r\n{}"


def test_a_ping_that_is_cut() -> None:
    """It is asked for once more, as a manifest is."""
    cuts = [1, 0, 2]

    def script(peer: socket.socket, server: Server) -> None:
        del server
        request(peer)
        peer.sendall(WHOLE[: len(WHOLE) - cuts.pop()] if cuts else WHOLE)

    with serving(script) as server, hurried():
        hosts = Hosts(b"", [], url=server.url.rstrip("/"))
        reply = hosts.upstream().answer(Operation.ping(), Request(method="GET", headers=[]))
        assert (reply.status, reply.read()) == (200, b"{}")
    assert cuts == [1]
