"""A client that asks both workers of a Docxy, each in its turn, and writes targets as they are."""

import http.client
import itertools
import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Final, Self

from tests.servers import Docxy

FRONT: Final = "127.0.0.9"
"""The one server in front that is trusted: what it says of a client is believed."""
DIRECT: Final = "127.0.0.2"
"""A client without a server in front."""

_DIALS: Final = 400


@dataclass(frozen=True, slots=True, kw_only=True)
class Origin:
    """From where a request comes: the address of the connection, and what is said of others."""

    peer: str = FRONT
    forwarded: str = ""


@dataclass(frozen=True, slots=True)
class Answer:
    """An answer, whole."""

    status: int
    fields: tuple[tuple[str, str], ...]
    body: bytes

    def value(self, name: str) -> str:
        """Return a field; "" where there is none."""
        return next((text for field, text in self.fields if field.lower() == name.lower()), "")

    @property
    def text(self) -> str:
        """All that it tells."""
        head = "\n".join(": ".join(field) for field in self.fields)
        return f"{head}\n{self.body.decode('latin-1')}"


class BothWorkers:
    """Connections that stay: for each address one to each worker.

    The standard library's client is the one that neither mends a path nor adds a header.
    """

    def __init__(self, proxy: Docxy) -> None:
        self.proxy = proxy
        self._name, _, port = proxy.host.partition(":")
        self._port = int(port)
        self._turns: dict[str, Iterator[int]] = {}
        self._connections: dict[tuple[str, int], http.client.HTTPConnection] = {}

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        for connection in self._connections.values():
            connection.close()

    def ask(  # noqa: PLR0913 - what a request has
        self,
        method: str,
        target: str,
        *,
        origin: Origin,
        host: str = "",
        fields: Mapping[str, str] | None = None,
        form: str = "",
    ) -> Answer:
        """Send a request to the worker whose turn it is, and read the whole answer."""
        worker = self._turn(origin.peer)
        connection = self._connection(origin.peer, worker)
        connection.putrequest(method, target, skip_host=True, skip_accept_encoding=True)
        connection.putheader("Host", host or self.proxy.host)
        if origin.forwarded:
            connection.putheader("X-Forwarded-For", origin.forwarded)
        for name, value in (fields or {}).items():
            connection.putheader(name, value)
        if form:
            connection.putheader("Content-Type", "application/x-www-form-urlencoded")
            connection.putheader("Content-Length", str(len(form)))
        connection.endheaders(form.encode() or None)
        answer = connection.getresponse()
        body = answer.read()
        if connection.sock is None:
            del self._connections[origin.peer, worker]
        return Answer(answer.status, tuple(answer.getheaders()), body)

    def _turn(self, peer: str) -> int:
        if peer not in self._turns:
            self._turns[peer] = itertools.cycle(self.proxy.workers)
        return next(self._turns[peer])

    def _connection(self, peer: str, worker: int) -> http.client.HTTPConnection:
        """Return a connection to one worker; the kernel chooses, so the others are kept as well."""
        for _ in range(_DIALS):
            if found := self._connections.get((peer, worker)):
                return found
            dialled = http.client.HTTPConnection(
                self._name, self._port, timeout=60, source_address=(peer, 0)
            )
            dialled.request("GET", "/health", headers={"Host": self.proxy.host})
            dialled.getresponse().read()
            before = self._connections.setdefault((peer, self._who_has(dialled)), dialled)
            if before is not dialled:
                dialled.close()
        message = f"worker {worker} took none of {_DIALS} connections"
        raise TimeoutError(message)

    def _who_has(self, connection: http.client.HTTPConnection) -> int:
        """Return the worker that has the other end of a connection."""
        address, port = connection.sock.getsockname()
        inode = _inode(self._port, address, port)
        for worker in self.proxy.workers:
            for descriptor in Path(f"/proc/{worker}/fd").iterdir():
                try:
                    if os.readlink(descriptor) == f"socket:[{inode}]":  # noqa: PTH115 - it is no path
                        return worker
                except FileNotFoundError:
                    continue  # closed meanwhile
        message = "no worker has this connection"
        raise LookupError(message)


def _inode(port: int, peer: str, peer_port: int) -> str:
    """Return the number of the socket at a port of this machine that is connected to a peer."""
    wanted = f"{port:04X}", f"{_hexadecimal(peer)}:{peer_port:04X}"
    for line in Path("/proc/net/tcp").read_text().splitlines()[1:]:
        _, local, remote, *rest = line.split()
        if (local.rpartition(":")[2], remote) == wanted:
            return rest[6]
    message = f"there is no connection from {peer}:{peer_port}"
    raise LookupError(message)


def _hexadecimal(address: str) -> str:
    """Write an IPv4 address as the kernel does on little-endian machines."""
    return "".join(f"{int(part):02X}" for part in reversed(address.split(".")))
