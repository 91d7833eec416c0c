"""Upstreams as nobody should be: what they send, and how slowly."""

import ssl
from collections.abc import Callable
from typing import Final

from tests.wire.upstream import Connection, Script, chunk, head, response

CHUNKED: Final = head("Transfer-Encoding: chunked")
GOOD: Final = response(b"{}", "Content-Type: application/json")
NEXT: Final = "next"
"""What asks for it is answered well, whatever else is played."""

_MUCH: Final = 64 * 1024


def hostile(script: Script) -> Script:
    """Play a script once it is asked, but answer well whoever asks for NEXT.

    After the script nothing may be asked on its connection.
    """

    def play(connection: Connection) -> None:
        while NEXT in connection.head().target:
            connection.send(GOOD)
        script(connection)
        connection.until_left()
        assert connection.unread == b""

    return play


def sending(*parts: bytes) -> Script:
    """Send this, and nothing more until the peer has left."""
    return lambda connection: connection.send(*parts)


def cutting(*parts: bytes) -> Script:
    """Send this and end the connection."""

    def script(connection: Connection) -> None:
        connection.send(*parts)
        connection.close_notify()

    return script


def endless(beginning: bytes, more: bytes) -> Script:
    """Send the same until the peer leaves."""

    def script(connection: Connection) -> None:
        connection.send(beginning)
        while True:
            connection.send(more * (_MUCH // len(more)))

    return script


def dripping(beginning: bytes, more: bytes, every: float = 0.05) -> Script:
    """Send the first at once, and the other a byte at a time, again and again."""

    def script(connection: Connection) -> None:
        connection.send(beginning)
        while True:
            for at in range(len(more)):
                connection.left.wait(every)
                connection.send(more[at : at + 1])

    return script


def dripping_tls(context: ssl.SSLContext, sent: bytes, *, handshake: bool) -> Script:
    """Speak TLS on a plain connection, and drip its handshake, or the record of an answer."""

    def script(connection: Connection) -> None:
        incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        tls = context.wrap_bio(incoming, outgoing, server_side=True)
        send = _dripped(connection) if handshake else connection.send
        _until(tls.do_handshake, connection, incoming, outgoing, send)
        _until(lambda: tls.read(65536), connection, incoming, outgoing, send)
        tls.write(sent)
        _dripped(connection)(outgoing.read())
        connection.until_left()

    return script


def _dripped(connection: Connection) -> Callable[[bytes], None]:
    def send(data: bytes) -> None:
        for at in range(len(data)):
            connection.left.wait(0.01)
            connection.send(data[at : at + 1])

    return send


def _until(
    step: Callable[[], object],
    connection: Connection,
    incoming: ssl.MemoryBIO,
    outgoing: ssl.MemoryBIO,
    send: Callable[[bytes], None],
) -> None:
    while True:
        try:
            step()
        except ssl.SSLWantReadError:
            send(outgoing.read())
            incoming.write(connection.receive())
        else:
            send(outgoing.read())
            return


HEADS: Final = {
    "conflicting lengths": head("Content-Length: 2", "Content-Length: 3") + b"{}x",
    "one length twice": head("Content-Length: 2", "Content-Length: 2") + b"{}",
    "a list of lengths": head("Content-Length: 2, 2") + b"{}",
    "a signed length": head("Content-Length: +2") + b"{}",
    "a hexadecimal length": head("Content-Length: 0x2") + b"{}",
    "a negative length": head("Content-Length: -2") + b"{}",
    "an empty length": head("Content-Length:") + b"{}",
    "an endless length": head("Content-Length: " + "9" * 30) + b"{}",
    "a folded length": head("Content-Length: 2\r\n 2") + b"{}",
    "a length and chunks": head("Content-Length: 2", "Transfer-Encoding: chunked") + chunk(b"{}"),
    "gzip as a coding": head("Transfer-Encoding: gzip") + b"{}",
    "gzip in chunks": head("Transfer-Encoding: gzip, chunked") + chunk(b"{}"),
    "chunks twice": head("Transfer-Encoding: chunked", "Transfer-Encoding: chunked") + b"0\r\n\r\n",
    "an unknown coding": head("Transfer-Encoding: xchunked") + chunk(b"{}"),
    "a coding with a vertical tab": head("Transfer-Encoding: \x0bchunked") + chunk(b"{}"),
    "chunks in HTTP/1.0": CHUNKED.replace(b"1.1", b"1.0") + chunk(b"{}") + b"0\r\n\r\n",
    "a space in a name": head("Content Length: 2") + b"{}",
    "a space behind a name": head("Content-Length : 2") + b"{}",
    "no name": head(": 2", "Content-Length: 2") + b"{}",
    "no colon": head("Content-Length", "Content-Length: 2") + b"{}",
    "a fold before all fields": head(" X: y", "Content-Length: 2") + b"{}",
    "a bare CR": head("X: a\rSet-Cookie: b", "Content-Length: 2") + b"{}",
    "NUL in a value": head("X: a\x00b", "Content-Length: 2") + b"{}",
    "NUL in a name": head("X\x00: a", "Content-Length: 2") + b"{}",
    "too many fields": head(*(f"X-{number}: y" for number in range(300))) + b"{}",
    "a field too long": head("X: " + "y" * 70_000, "Content-Length: 2") + b"{}",
    "too much of it": head(*(f"X-{n}: {'y' * 60_000}" for n in range(6))) + b"{}",
    "a location of 100 kB": head("Location: /" + "a" * 100_000, status="307 X"),
    "garbage before the status": b"\x00\x01" + GOOD,
    "an empty line before the status": b"\r\n" + GOOD,
    "another protocol": b"SSH-2.0-OpenSSH_9.2\r\n\r\n",
    "HTTP/2": b"HTTP/2 200\r\nContent-Length: 2\r\n\r\n{}",
    "a status of words": b"HTTP/1.1 OK 200\r\n\r\n",
    "a status of 999": head("Content-Length: 2", status="999 X") + b"{}",
    "a bare CR in the status line": b"HTTP/1.1 200 O\rK\r\nContent-Length: 2\r\n\r\n{}",
    "another protocol from now on": head("Upgrade: x", status="101 X") + GOOD,
    "a hundred interim answers": head(status="103 Early Hints") * 100 + GOOD,
}
"""Answers whose head is none: whoever reads them has to guess."""

NOT_HTTP: Final = {
    "HTTP/2": b"\x00\x00\x12\x04\x00\x00\x00\x00\x00" + b"\x00" * 18,
    "an alert of TLS": b"\x15\x03\x01\x00\x02\x02\x46",
    "a word": b"ok",
    "a line": b"220 smtp.test ESMTP\r\n",
}
"""What other servers say before they close the connection."""

ENDLESS_HEADS: Final = {
    "fields": (b"HTTP/1.1 200 OK\r\n", b"X: y\r\n"),
    "a field": (b"HTTP/1.1 200 OK\r\nX: ", b"y"),
    "folds": (b"HTTP/1.1 200 OK\r\nX: y\r\n", b" z\r\n"),
    "a status line": (b"HTTP/1.1 200 ", b"O"),
    "garbage": (b"", b"\x00"),
    "interim answers": (b"", head(status="100 Continue")),
    "fields of an interim answer": (b"HTTP/1.1 103 Early Hints\r\n", b"Link: </x>\r\n"),
}

CHUNKS: Final = {
    "no size": b"\r\n{}\r\n0\r\n\r\n",
    "a size of words": b"two\r\n{}\r\n0\r\n\r\n",
    "a signed size": b"+2\r\n{}\r\n0\r\n\r\n",
    "a negative size": b"-2\r\n{}\r\n0\r\n\r\n",
    "0x": b"0x2\r\n{}\r\n0\r\n\r\n",
    "an underscore": b"0_2\r\n{}\r\n0\r\n\r\n",
    "a size beyond measure": b"F" * 17 + b"\r\n{}",
    "an extension too long": b"2;" + b"x" * 5000 + b"\r\n{}\r\n0\r\n\r\n",
    "NUL in an extension": b"2;\x00\r\n{}\r\n0\r\n\r\n",
    "a bare LF": b"2\n{}\r\n0\r\n\r\n",
    "more than the size": b"2\r\n{} \r\n0\r\n\r\n",
    "no end of a chunk": b"2\r\n{}0\r\n\r\n",
    "LF for the end of a chunk": b"2\r\n{}\n\n0\r\n\r\n",
    "too many trailers": b"2\r\n{}\r\n0\r\n" + b"X: y\r\n" * 100 + b"\r\n",
    "a trailer too long": b"2\r\n{}\r\n0\r\nX: " + b"y" * 20_000 + b"\r\n\r\n",
    "a trailer that is none": b"2\r\n{}\r\n0\r\nHTTP/1.1 200 OK\r\n\r\n",
}
"""Chunked bodies of which nobody can tell where they end."""

ENDLESS_CHUNKS: Final = {
    "a size": (b"", b"0"),
    "an extension": (b"2;", b"x"),
    "trailers": (b"2\r\n{}\r\n0\r\n", b"X: y\r\n"),
    "a trailer": (b"2\r\n{}\r\n0\r\nX: ", b"y"),
}

CUT_CHUNKS: Final = {
    "before a size": b"",
    "in a size": b"2",
    "in a chunk": b"3\r\n{}",
    "behind a chunk": b"2\r\n{}",
    "in the end of a chunk": b"2\r\n{}\r",
    "before the last chunk": b"2\r\n{}\r\n",
    "in the last chunk": b"2\r\n{}\r\n0",
    "before the end of all": b"2\r\n{}\r\n0\r\n",
    "in the end of all": b"2\r\n{}\r\n0\r\n\r",
    "in a trailer": b"2\r\n{}\r\n0\r\nX: y\r\n",
}
"""The connection ends there."""
