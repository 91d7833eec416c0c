"""A push, whose body goes on until somebody answers: whether the front waits for all of it."""

import http.client
import io
import socket
from dataclasses import dataclass
from http import HTTPStatus
from typing import Final

from app.doctor.asking import AGENT, Answer, Line, NoAnswer, told

SIZE: Final = 2 << 20
_PIECE: Final = 64 * 1024
_PAUSE: Final = 0.1
"""Seconds for which an answer is waited for, after each piece."""
_PATIENCE: Final = 10.0
_REST: Final = 1.0
"""Seconds for the rest of an answer that has begun."""
_FAILED: Final = frozenset({HTTPStatus.BAD_GATEWAY, HTTPStatus.GATEWAY_TIMEOUT})
_TARGET: Final = "/v2/library/doctor/blobs/uploads/"


@dataclass(frozen=True, slots=True)
class Pushed:
    """What came, and whether it did before the body was whole."""

    answer: Answer | NoAnswer
    early: bool = True


def push(line: Line) -> Pushed:
    """Send zeros that nobody wants.

    Docxy answers before it has read them, which some fronts take for a failure now and then: who
    fails is asked once more.
    """
    pushed = _pushed(line)
    failed = isinstance(pushed.answer, NoAnswer) or pushed.answer.status in _FAILED
    return _pushed(line) if failed else pushed


def _pushed(line: Line) -> Pushed:
    try:
        with line.connected(_PATIENCE) as connection:
            connection.sendall(_head(line))
            begun, early = _sent(connection)
            return Pushed(_read(connection, begun), early)
    except (OSError, http.client.HTTPException) as error:
        return Pushed(NoAnswer(told(error)))


def _head(line: Line) -> bytes:
    fields = {
        "Host": line.place.authority,
        "User-Agent": AGENT,
        "Content-Type": "application/octet-stream",
        "Content-Length": str(SIZE),
        "Connection": "close",
    }
    lines = [
        f"POST {line.place.path}{_TARGET} HTTP/1.1",
        *(f"{name}: {text}" for name, text in fields.items()),
    ]
    return "\r\n".join([*lines, "", ""]).encode()


def _sent(connection: socket.socket) -> tuple[bytes, bool]:
    """Send until something comes; return that, and whether there was more to send."""
    for left in range(SIZE, 0, -_PIECE):
        connection.settimeout(_PATIENCE)
        try:
            connection.sendall(bytes(min(left, _PIECE)))
        except ConnectionError:  # an answer may have come before the other side hung up
            return b"", True
        connection.settimeout(_PAUSE)
        try:
            return connection.recv(_PIECE), left > _PIECE
        except TimeoutError:
            continue
    return b"", False


def _read(connection: socket.socket, begun: bytes) -> Answer:
    connection.settimeout(_PATIENCE)
    whole = begun or connection.recv(_PIECE)
    connection.settimeout(_REST)
    try:
        while piece := connection.recv(_PIECE):
            whole += piece
    except OSError:  # it was kept open, or cut: what came counts
        pass
    response = http.client.HTTPResponse(_Read(whole))  # type: ignore[arg-type]
    response.begin()
    with response:
        body = response.read(_PIECE)
    return Answer(
        status=response.status, headers=response.getheaders(), body=body, length=len(body)
    )


class _Read:
    """What http.client takes for a socket."""

    def __init__(self, whole: bytes) -> None:
        self._whole = whole

    def makefile(self, mode: str) -> io.BytesIO:
        """Return what was read."""
        del mode
        return io.BytesIO(self._whole)
