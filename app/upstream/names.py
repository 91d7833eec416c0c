"""Names become addresses: one question for all who want the same, on threads of its own.

The C library cannot be told to stop, so a name that is not answered keeps one thread, and not one
for each request.
"""

import socket
import threading
import time
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from typing import Final

from urllib3.util.connection import allowed_gai_family

from app.offloop import Pending, RealThreads, original
from app.upstream.racing import AddressInfo

_THREADS: Final = 4
"""Names that one registry may have resolved at a time."""


class NameUnanswered(Exception):
    """A name that was not answered in time; that says nothing about the host.

    No OSError, which urllib3 would make a failure to connect of.
    """


@dataclass(slots=True)
class _Question:
    """One name; `pending` is what those who come meanwhile wait for as well."""

    lock: threading.Lock = field(default_factory=threading.Lock)
    pending: Pending | None = None


class Names:
    """Resolves the names of one registry, and of where it leads."""

    def __init__(self) -> None:
        self._threads = RealThreads(_THREADS)
        self._questions: dict[tuple[str, int], _Question] = {}

    def resolve(self, host: str, port: int, timeout: float | None) -> Sequence[AddressInfo]:
        """Return the addresses of a host; raise gaierror or NameUnanswered."""
        until = None if timeout is None else time.monotonic() + timeout
        question = self._questions.setdefault((host, port), _Question())
        try:
            pending = self._asked(question, host, port, timeout)
            left = None if until is None else max(until - time.monotonic(), 0)
            found: Sequence[AddressInfo] = pending.result(left)
        except TimeoutError:
            message = f"the name {host} was not answered in time"
            raise NameUnanswered(message) from None
        return found

    def _asked(self, question: _Question, host: str, port: int, timeout: float | None) -> Pending:
        """Return what is being asked; raise TimeoutError where no thread is free."""
        if not question.lock.acquire(timeout=-1 if timeout is None else timeout):
            raise TimeoutError
        with ExitStack() as held:
            held.callback(question.lock.release)
            if question.pending is None:
                held.callback(self._forget_unless_asked, question, host, port)
                question.pending = self._threads.begin(
                    self._looked_up, host, port, patience=timeout
                )
            return question.pending

    def _forget_unless_asked(self, question: _Question, host: str, port: int) -> None:
        if question.pending is None:
            self._questions.pop((host, port), None)

    def _looked_up(self, host: str, port: int) -> Sequence[AddressInfo]:
        """Ask the C library; whoever comes after the answer asks anew."""
        try:
            found: Sequence[AddressInfo] = original("socket", "getaddrinfo")(
                host, port, allowed_gai_family(), socket.SOCK_STREAM
            )
        finally:
            self._questions.pop((host, port), None)
        return found
