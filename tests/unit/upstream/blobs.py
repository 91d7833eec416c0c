"""A registry and a CDN on loopback, with one blob, whose answers are planned."""

import re
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import lru_cache

from app.oci.reference import Digest, Operation, RepositoryName
from app.registries import Registry
from app.source import BodyBroken, Request
from app.upstream.client import Upstream
from app.upstream.http.connect import Connector
from app.upstream.http.known_registries import KnownRegistries
from app.upstream.http.retries import Reliability
from app.upstream.http.session import Session
from app.upstream.http.urls import OutboundProxies
from tests.unit.upstream.hurry import hurried, listening
from tests.unit.upstream.server import Server, request, serving

BLOB = bytes(range(256)) * 4
NAME = RepositoryName("a/b")
DIGEST = Digest("sha256:" + "7" * 64)
SECRET = "s3cr3t"  # noqa: S105 - it must never be logged

_RANGE = re.compile(rb"\r\n[Rr]ange: bytes=(\d+)-(\d*)")


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """How the CDN answers one request for the blob: well, unless something is said here."""

    status: int | None = None
    """Nothing but this."""
    cut: int | None = None
    """Close after so many bytes of the body."""
    ignores_range: bool = False
    shifted: int = 0
    """Begin so many bytes later than asked."""
    shortened: int = 0
    """Answer with so many bytes fewer than asked, and say so."""
    grown: int = 0
    """Be a blob of so many bytes more."""
    nameless: bool = False
    """Leave out Content-Range."""
    chunked: bool = False
    unframed: bool = False
    """Leave out Content-Length: the end of the connection is the end."""
    no_total: bool = False
    """Have `*` for the total in Content-Range."""
    fields: tuple[str, ...] = ()
    blob: bytes | None = None
    """Another one."""

    def written(self, head: bytes, blob: bytes) -> bytes:
        """Return the bytes of the answer."""
        if self.status is not None:
            fields = [f"HTTP/1.1 {self.status} X", "Content-Length: 0", *self.fields, "", ""]
            return "\r\n".join(fields).encode()
        blob = (self.blob or blob) + bytes(self.grown)
        asked = None if self.ignores_range else _RANGE.search(head)
        start, end = 0, len(blob)
        if asked:
            start = int(asked[1]) + self.shifted
            end = min(int(asked[2]) + 1, end) if asked[2] else end
            end = max(end - self.shortened, start)
        fields = [f"HTTP/1.1 {206 if asked else 200} X", "Connection: close", *self.fields]
        if asked and start >= end:
            fields[0] = "HTTP/1.1 416 X"
            start = end
        if asked and start < end and not self.nameless:
            total = "*" if self.no_total else len(blob)
            fields.append(f"Content-Range: bytes {start}-{end - 1}/{total}")
        elif asked:
            fields.append(f"Content-Range: bytes */{len(blob)}")
        body = blob[start:end]
        if self.chunked:
            fields.append("Transfer-Encoding: chunked")
            body = b"".join(b"1\r\n%c\r\n" % byte for byte in body) + b"0\r\n\r\n"
        elif not self.unframed:
            fields.append(f"Content-Length: {len(body)}")
        return "\r\n".join([*fields, "", ""]).encode() + body[: self.cut]


GOOD = Answer()


@dataclass
class Hosts:
    """The two servers, what they will answer, and what they were asked."""

    blob: bytes
    plan: list[Answer]
    """The CDN's answers; when they are used up, all is well."""
    token: str = ""
    """The only Authorization that the registry takes, if there is one."""
    at_registry: list[bytes] = field(default_factory=list)
    at_cdn: list[bytes] = field(default_factory=list)
    url: str = ""
    _cdn: str = ""

    def registry(self, peer: socket.socket, server: Server) -> None:
        """Send to the CDN, by another URL each time."""
        del server
        head = request(peer)
        self.at_registry.append(head)
        if self.token and f"Authorization: {self.token}\r\n".encode() not in head:
            peer.sendall(b"HTTP/1.1 401 X\r\nConnection: close\r\nContent-Length: 0\r\n\r\n")
            return
        location = f"{self._cdn}layer{len(self.at_registry)}?signature={SECRET}"
        fields = f"Location: {location}\r\nConnection: close\r\nContent-Length: 0\r\n\r\n"
        peer.sendall(f"HTTP/1.1 307 X\r\n{fields}".encode())

    def cdn(self, peer: socket.socket, server: Server) -> None:
        """Answer as planned."""
        del server
        head = request(peer)
        self.at_cdn.append(head)
        answer = self.plan.pop(0) if self.plan else GOOD
        peer.sendall(answer.written(head, self.blob))

    @contextmanager
    def up(self) -> Iterator["Hosts"]:
        """Serve."""
        with serving(self.registry) as registry, serving(self.cdn) as cdn:
            self.url, self._cdn = registry.url.rstrip("/"), cdn.url
            yield self

    def asked_for(self, field: str = "Range") -> list[str]:
        """Return what the CDN was asked for in one field, request by request."""
        pattern = re.compile(rf"\r\n{field}: ([^\r]*)", re.IGNORECASE)
        found = [pattern.search(head.decode()) for head in self.at_cdn]
        return [match[1] if match else "" for match in found]

    def upstream(self, resume_budget: float = 60) -> Upstream:
        """Return what is under test."""
        reliability = Reliability(retry_budget=45, resume_budget=resume_budget)
        row = Registry(name="r.example", url=self.url, allow_private=True)
        return Upstream(row, _session(), KnownRegistries(), reliability)


def fetched(upstream: Upstream, *headers: tuple[str, str]) -> Iterator[bytes]:
    """Yield the pieces of the blob as a client gets them."""
    reply = upstream.answer(
        Operation.blob(NAME, DIGEST), Request(method="GET", headers=list(headers))
    )
    assert reply.status in {200, 206}, reply
    try:
        yield from reply.chunks()
    finally:
        reply.close()


@lru_cache(maxsize=1)
def _session() -> Session:
    """Return one Session for all: it takes a while to load the authorities."""
    return Session(
        ca_bundles=(),
        proxies=OutboundProxies(https=None, http=None, no_proxy=""),
        connect_timeout=5,
        read_timeout=5,
        connector=Connector(allow_private=True, prefer_ipv4=False),
    )


def pull(
    hosts: Hosts, *headers: tuple[str, str], budget: float = 60
) -> tuple[bytes, bool, list[str]]:
    """Return the bytes that came, whether they came to their end, and what was logged."""
    received = bytearray()
    with hosts.up(), hurried(), listening() as lines:
        try:
            for piece in fetched(hosts.upstream(budget), *headers):
                received += piece
        except BodyBroken:
            return bytes(received), False, lines
    return bytes(received), True, lines


def resumed(lines: list[str]) -> list[str]:
    """Return the lines that tell of a body that goes on."""
    return [line for line in lines if "Resumed a broken body" in line]
