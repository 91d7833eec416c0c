"""A request with a body: what of it reaches the registry, and how often."""

import socket

import pytest

from app.oci.errors import UpstreamMisbehaved, UpstreamUnavailable
from app.oci.reference import Kind, Operation, RepositoryName, Tag
from app.oci.scope import Action
from app.registries import Registry
from app.source import Request, RequestBody
from app.upstream.client import Upstream
from app.upstream.http.known_registries import KnownRegistries
from app.upstream.http.retries import Reliability
from app.upstream.http.session import Session
from tests.unit.upstream.server import Script, Server, serving

PUSHED = Operation(Kind.MANIFEST, RepositoryName("a/b"), Tag("1"), Action.PUSH)
DOCUMENT = [b"{", b"}"]


def reading(answer: bytes, heard: list[bytes]) -> Script:
    """Return a script that reads a request and a body of two bytes, and answers so."""

    def script(peer: socket.socket, server: Server) -> None:
        del server
        received = b""
        while not received.endswith(b"{}"):
            if not (piece := peer.recv(65536)):
                break
            received += piece
        heard.append(received)
        peer.sendall(answer)

    return script


def push(session: Session, server: Server) -> int:
    """Push a document and return the status of the answer."""
    row = Registry(name="r.example", url=server.url.rstrip("/"), allow_private=True)
    patient = Reliability(retry_budget=5, resume_budget=0)
    upstream = Upstream(row, session, KnownRegistries(), patient)
    body = RequestBody(iter(DOCUMENT), length=2)
    reply = upstream.answer(PUSHED, Request(method="PUT", body=body))
    reply.close()
    return reply.status


@pytest.mark.parametrize("status", [201, 503])
def test_a_body_is_sent_once(session: Session, status: int) -> None:
    """Its length is told; a failure that would be retried without a body is not."""
    heard: list[bytes] = []
    answer = b"HTTP/1.1 %d X\r\nContent-Length: 0\r\nConnection: close\r\n\r\n" % status
    with serving(reading(answer, heard)) as server:
        assert push(session, server) == status
    (sent,) = heard
    head, _, body = sent.partition(b"\r\n\r\n")
    assert head.startswith(b"PUT /v2/a/b/manifests/1 HTTP/1.1\r\n")
    assert b"content-length: 2" in head.lower()
    assert b"transfer-encoding" not in head.lower()
    assert body == b"{}"


def test_a_connection_that_breaks(session: Session) -> None:
    """The registry may have the body already."""
    heard: list[bytes] = []
    with serving(reading(b"", heard)) as server, pytest.raises(UpstreamUnavailable):
        push(session, server)
    assert len(heard) == 1


def test_a_redirect_is_not_followed(session: Session) -> None:
    """The bytes are gone."""
    heard: list[bytes] = []
    answer = b"HTTP/1.1 307 X\r\nLocation: /elsewhere\r\nContent-Length: 0\r\n\r\n"
    with serving(reading(answer, heard)) as server, pytest.raises(UpstreamMisbehaved):
        push(session, server)
    assert len(heard) == 1
