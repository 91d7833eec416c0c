"""A client that asks both workers of a Docxy, each in its turn, and writes targets as they are."""

import http.client
import itertools
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from types import TracebackType
from typing import Final, Self

from tests.servers import Docxy

FRONT: Final = "127.0.0.9"
"""The one server in front that is trusted: what it says of a client is believed."""
DIRECT: Final = "127.0.0.2"
"""A client without a server in front."""


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
        self.proxy.await_workers()
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
        """Return a connection to one worker, which has taken it."""
        found = self._connections.get((peer, worker))
        if found is None:
            found = http.client.HTTPConnection(
                self._name, self._port, timeout=60, source_address=(peer, 0)
            )
            with self.proxy.only(worker):
                found.request("GET", "/health", headers={"Host": self.proxy.host})
                found.getresponse().read()
            self._connections[peer, worker] = found
        return found
