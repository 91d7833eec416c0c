"""A body that goes on where its connection broke, as if nothing had happened."""

import logging
import random
import time
from collections.abc import Iterator
from dataclasses import replace
from http import HTTPStatus
from typing import Final, Protocol

import requests

from app.content import BodyBroken, Client, Event
from app.oci.errors import ClientGone, Denied, RegistryError, UpstreamDown
from app.upstream.answer import observer_of
from app.upstream.attempts import seconds_in, sleep, told_to_wait
from app.upstream.body import Body, client_left
from app.upstream.discarding import discard
from app.upstream.failures import redacted
from app.upstream.parts import Part, part_at_end, part_of

logger = logging.getLogger(__name__)

_PAUSES: Final = (0.05, 0.5, 1.0, 2.0, 4.0, 8.0)
"""Seconds before each attempt to go on, more or less; the last one is repeated."""

_PROGRESS: Final = 64 * 1024
"""Bytes after which the pauses begin anew: fewer at a time would be many requests for little."""


_SLOWEST_SKIP: Final = 1024 * 1024
"""Bytes a second at which an answer of the whole is worth reading up to where the client is."""


class Again(Protocol):
    """Asks for the rest of a blob; each may raise RegistryError, and Denied if that is final."""

    @property
    def budget(self) -> float:
        """Return the seconds after which no further attempt begins."""

    @property
    def client(self) -> Client | None:
        """Who waits for it."""

    def at_same_place(self, part: Part, broken: requests.Response) -> requests.Response | None:
        """Ask where the broken answer came from, or return None where that needs a new URL."""

    def from_registry(self, part: Part) -> requests.Response:
        """Ask the registry, which may send to a fresh URL."""


class ResumingBody:
    """The bytes of a blob, or of a range of it, from as many answers as it takes.

    A blob is known by its digest, so whatever the registry serves for it is the same
    (design.md, section 5); start and total are checked all the same.
    """

    def __init__(self, response: requests.Response, part: Part, again: Again) -> None:
        self._response = response
        self._body = Body(response)
        self._left = part
        self._again = again
        self._same_place = True
        self._ends_there = True
        """Whether the present answer ends where the body does."""
        self._failures = 0
        self._came = 0
        """Bytes since the last failure."""
        self._ended_at = -1
        self._deadline: float | None = None
        """When a body that brings nothing is given up; None while it brings something."""

    def __iter__(self) -> Iterator[bytes]:
        while True:
            broken: BodyBroken | None = None
            try:
                for data in self._wanted():
                    self._deadline = None
                    self._came += len(data)
                    yield data
            except BodyBroken as error:
                if client_left(error):
                    raise
                broken = error
            if self._is_complete() or (broken is None and self._has_ended()):
                return
            self._body.close()
            self._go_on(broken or BodyBroken("the registry sent too little"))
            if self._is_complete():
                return

    def _is_complete(self) -> bool:
        """Tell whether all bytes have come, if only the end of the chunks has not."""
        return self._left.start == self._left.end

    def _has_ended(self) -> bool:
        """Tell whether a body of unknown length is at its end.

        Chunks have an end of their own. Where only the connection ends (RFC 9112, section 6.3), it
        may have been cut; two answers that end at the same byte are believed.
        """
        if self._left.end is not None:
            return False
        if self._response.raw.chunked or self._ended_at == self._left.start:
            return True
        self._ended_at = self._left.start
        return False

    def close(self) -> None:
        """Close the connection, unless the body was read to its end and gave it back."""
        self._body.close()

    def _wanted(self) -> Iterator[bytes]:
        """Yield what the present answer has of the bytes that are left."""
        for data in self._body:
            left = len(data) if self._left.end is None else self._left.end - self._left.start
            piece = data if len(data) <= left else data[:left]
            self._left = replace(self._left, start=self._left.start + len(piece))
            if piece:
                yield piece
            if len(data) > left or (self._is_complete() and not self._ends_there):
                return  # the rest is not wanted, nor waited for

    def _go_on(self, broken: BodyBroken) -> None:
        """Find an answer that goes on; raise BodyBroken where there is none in time."""
        if self._came >= _PROGRESS:
            self._failures = 0
        self._came = 0
        if self._deadline is None:
            self._deadline = time.monotonic() + self._again.budget
        told: float | None = 0.0
        while told is not None:
            self._pause(told, broken)
            told = self._attempt(broken)

    def _pause(self, told: float, broken: BodyBroken) -> None:
        """Wait before the next attempt, as long as was told at least; raise BodyBroken."""
        pause = _PAUSES[min(self._failures, len(_PAUSES) - 1)]
        pause = max(told, pause * random.uniform(0.5, 1.5))  # noqa: S311 - no secret
        if self._deadline is None or time.monotonic() + pause > self._deadline:
            raise broken
        try:
            sleep(pause, self._again.client)
        except ClientGone:
            raise broken from None

    def _attempt(self, broken: BodyBroken) -> float | None:
        """Return None where an answer goes on, else the seconds to wait; raise BodyBroken."""
        try:
            response = self._ask()
        except (ClientGone, Denied):
            raise broken from None
        except RegistryError as error:
            self._same_place = False
            if isinstance(error, UpstreamDown):  # nobody has been asked
                return seconds_in(error.added.get("Retry-After", ""))
            self._failures += 1
            self._tell_failure(error)
            return 0.0
        self._failures += 1
        try:
            if self._continue_with(response, broken):
                return None
        except ClientGone:
            response.close()
            raise broken from None
        self._tell_failure(response.status_code)
        return told_to_wait(response)

    def _tell_failure(self, reason: object) -> None:
        fields = {
            "offset": self._left.start,
            "attempt": self._failures,
            "reason": str(reason),
        }
        logger.warning("A body does not go on yet.", extra={"fields": fields})

    def _ask(self) -> requests.Response:
        if self._same_place:
            response = self._again.at_same_place(self._left, self._response)
            if response is not None and self._may_go_on(response):
                return response
            if response is not None:
                discard(response)
            self._same_place = False  # a signed URL that has expired, or a server that is ill
        return self._again.from_registry(self._left)

    def _may_go_on(self, response: requests.Response) -> bool:
        """Tell whether the same place still has the same: its ETag kept a part back otherwise."""
        if part_at_end(response) == self._left.start:
            return True
        etag = self._response.headers.get("ETag")
        ignored = response.status_code == HTTPStatus.OK
        return response.status_code < HTTPStatus.BAD_REQUEST and not (
            ignored and etag and response.headers.get("ETag") != etag
        )

    def _continue_with(self, response: requests.Response, broken: BodyBroken) -> bool:
        if self._left.end is None and part_at_end(response) == self._left.start:
            self._left = replace(self._left, end=self._left.start)  # all that there is has come
            discard(response)
            return True
        part, body = part_of(response), Body(response)
        if part is None or not self._positioned(part, body):
            body.close()
            self._same_place = False
            return False
        fields = {
            "offset": self._left.start,
            "attempt": self._failures,
            "reason": broken.strerror,
            "url": redacted(response.url),
        }
        logger.warning("A body broke and goes on.", extra={"fields": fields})
        observer_of(response).happened(Event.RESUMED)
        self._response, self._body, self._same_place = response, body, True
        end = part.total if self._left.end is None else self._left.end
        self._left = replace(self._left, end=end, total=self._left.total or part.total)
        self._ends_there = part.end == self._left.end
        return True

    def _positioned(self, part: Part, body: Body) -> bool:
        """Tell whether an answer continues, or can be read up to where it does."""
        if part.continues(self._left):
            # Of what has no end yet, a part that tells no total may be any part.
            return self._left.end is not None or part.total is not None or part.end is None
        if part.start or part.end != part.total or not part.belongs(self._left):
            return False
        # Nobody can tell how fast it comes; slower than this, another attempt is worth more.
        seconds = self._again.budget + self._left.start / _SLOWEST_SKIP
        return body.skip(self._left.start, seconds, self._again.client)
