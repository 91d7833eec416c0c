"""Send to a client over loopback, and tell how it went; run by test_worker.py.

A process of its own: gevent's sockets need gevent's loop, and no test may run in one.
"""

import json
import sys
import tempfile
import time
from functools import partial
from typing import Any

import gevent
import gevent.socket

from server.client_socket import ClientSocket


class Impatient(ClientSocket):
    """What is done where nobody sets a timeout, in a test's time."""

    patience = 0.6


KINDS = {
    "ours": ClientSocket,
    "impatient": Impatient,
    "file": ClientSocket,
    "gevent": gevent.socket.socket,
}


def pair(kind: str) -> tuple[Any, gevent.socket.socket]:
    """Return our end and the client's, with little room between them."""
    listener = gevent.socket.socket()
    listener.setsockopt(gevent.socket.SOL_SOCKET, gevent.socket.SO_SNDBUF, 16 * 1024)
    listener.bind(("127.0.0.1", 0))
    listener.listen()
    theirs = gevent.socket.socket()
    theirs.setsockopt(gevent.socket.SOL_SOCKET, gevent.socket.SO_RCVBUF, 8 * 1024)
    theirs.connect(listener.getsockname())
    accepted, _ = listener.accept()
    listener.close()
    ours = KINDS[kind](accepted.family, accepted.type, accepted.proto, fileno=accepted.detach())
    return ours, theirs


def main(kind: str, timeout: str, size: str, behaviour: str) -> dict[str, object]:
    """Send `size` bytes to a client that does what `behaviour` says, and then nothing more.

    `behaviour` is JSON, [[what, pause], ...]: after a pause of seconds, take so many bytes; or
    "close"; or take "all" to the end, 4 KiB at a time with the pause between.
    """
    ours, theirs = pair(kind)
    ours.settimeout(json.loads(timeout))
    data = bytes(range(251)) * (int(size) // 251 + 1)
    send = partial(send_file, ours) if kind == "file" else ours.sendall
    taken = bytearray()

    def take() -> None:
        for what, pause in json.loads(behaviour):
            gevent.sleep(pause)
            if what == "close":
                theirs.close()
            elif what == "all":
                while piece := theirs.recv(4096):
                    taken.extend(piece)
                    gevent.sleep(pause)
            else:
                for _ in range(what // 4096):
                    taken.extend(theirs.recv(4096))

    client = gevent.spawn(take)
    began = time.monotonic()
    outcome = ""
    try:
        send(data)
    except OSError as error:
        outcome = type(error).__name__
    seconds = time.monotonic() - began
    timeout_after = ours.gettimeout()
    ours.close()
    client.join()
    return {
        "outcome": outcome,
        "seconds": seconds,
        "timeout_after": timeout_after,
        "whole": bytes(taken) == data,
        "beginning": data.startswith(bytes(taken)),
        "taken": len(taken),
        "end": end(theirs),
    }


def send_file(ours: ClientSocket, data: bytes) -> None:
    """Send data from the midst of a file."""
    with tempfile.TemporaryFile(buffering=0) as file:
        file.write(b"before" + data + b"after")
        recorded = list[int]()
        try:
            ours.send_file(file.fileno(), len(b"before"), len(data), recorded.append)
        except BaseException:
            assert sum(recorded) < len(data), "what the kernel took, and no more"
            raise
        assert sum(recorded) == len(data)


def end(theirs: gevent.socket.socket) -> str:
    """Return how the client finds its connection, at once: reset, ended, or as if it went on."""
    if theirs.fileno() == -1:
        return "closed"
    theirs.settimeout(1)
    try:
        while theirs.recv(65536):
            pass
    except ConnectionResetError:
        return "reset"
    except TimeoutError:
        return "open"
    return "ended"


if __name__ == "__main__":
    json.dump(main(*sys.argv[1:]), sys.stdout)
