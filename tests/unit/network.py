"""A resolver and a network that a test makes up, where sockets begin."""

import socket
from collections.abc import Callable, Iterator
from typing import Any

import pytest

PUBLIC = "93.184.215.14"
PUBLIC_6 = "2606:2800:21f:cb07:6820:80da:af6b:8b2c"


class Network:
    """What names resolve to, and where addresses lead to.

    Other names resolve as ever; other addresses lead where they always do, but never off this
    machine.
    """

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self._answers: dict[str, Iterator[list[str] | OSError]] = {}
        self._routes: dict[str, int | OSError] = {}
        self._connect = socket.socket.connect
        self._getaddrinfo = socket.getaddrinfo
        self.asked: list[str] = []
        """The names that were resolved."""
        self.connected: list[str] = []
        """The addresses that were connected to, or would have been."""
        self.peers: list[tuple[Any, ...]] = []
        """The same as the system was given them."""
        monkeypatch.setattr(socket, "getaddrinfo", self._resolve)
        monkeypatch.setattr(socket.socket, "connect", self._connector(), raising=False)

    def resolves(self, name: str, *answers: list[str] | OSError) -> None:
        """Let a name resolve to these addresses, or fail; each time as the next one says."""
        self._answers[name] = iter(answers)

    def routed(self, address: str, to: int | OSError) -> None:
        """Let an address lead to a port of this machine, or to an error."""
        self._routes[address] = to

    def _resolve(self, host: str, port: int, *args: Any, **options: Any) -> list[Any]:
        self.asked.append(host)
        if host not in self._answers:
            return self._getaddrinfo(host, port, *args, **options)
        answer = next(self._answers[host])
        if isinstance(answer, OSError):
            raise answer
        return [_found(address, port) for address in answer]

    def _connector(self) -> Callable[[socket.socket, tuple[Any, ...]], None]:
        def connect(sock: socket.socket, peer: tuple[Any, ...]) -> None:
            self.connected.append(peer[0])
            self.peers.append(peer)
            route = self._routes.get(peer[0])
            if isinstance(route, OSError):
                raise route
            if route is not None:
                self._lead(sock, route)
            elif peer[0] in {"127.0.0.1", "::1"}:
                self._connect(sock, peer)
            else:
                message = f"{peer[0]} is off this machine"
                raise AssertionError(message)

        return connect

    def _lead(self, sock: socket.socket, port: int) -> None:
        """Connect to this machine, with an IPv6 socket too."""
        loopback = "::ffff:127.0.0.1" if sock.family == socket.AF_INET6 else "127.0.0.1"
        self._connect(sock, (loopback, port))


def _found(address: str, port: int) -> tuple[Any, ...]:
    if ":" in address:
        peer: tuple[Any, ...] = (address, port, 0, 0)
        return socket.AF_INET6, socket.SOCK_STREAM, socket.IPPROTO_TCP, "", peer
    return socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP, "", (address, port)
