"""A body that goes on where its connection broke, as if nothing had happened."""

import hashlib
import logging
import random
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from http import HTTPStatus
from typing import Final, Protocol

import requests

from app.oci import headers
from app.oci.errors import ClientGone, Denied, RegistryError, UpstreamDown
from app.oci.headers import Headers
from app.oci.reference import Digest
from app.source import BodyBroken, Client, Event, Permit
from app.threads import RealThreads
from app.upstream.http.body import (
    Body,
    Part,
    client_left,
    discard,
    observer_of,
    part_at_end,
    part_of,
)
from app.upstream.http.errors import redacted
from app.upstream.http.origin import origin
from app.upstream.http.redirects import Redirects
from app.upstream.http.retries import seconds_in, sleep, told_to_wait

# The question for the rest of a blob: where it broke off, or at the registry.

_RENEWALS = 2
"""The first token in place of the client's may be a remembered one, and refused as well."""


@dataclass(frozen=True, slots=True, kw_only=True)
class BlobAgain:
    """The client's request for a blob, to be made once more for a part of it.

    `renewed` returns an Authorization in place of one that is refused, or "" where that is the
    client's to do.
    """

    redirects: Redirects
    url: str
    fields: Headers
    client: Client | None
    budget: float
    renewed: Callable[[str], str]
    permit: Permit | None = None

    def at_same_place(self, part: Part, broken: requests.Response) -> requests.Response | None:
        """Ask where the broken answer came from; None if that was the registry itself.

        A signed URL is good for some minutes, and no credentials go there.
        """
        if origin(broken.url) == origin(self.url):
            return None
        fields = headers.pass_elsewhere(self._for(part))
        etag = broken.headers.get("ETag", "")
        if etag.startswith('"'):
            fields.append(("If-Range", etag))  # a strong one only: RFC 9110, section 13.1.5
        return self.redirects.send_again(broken.url, fields, self.client, self.permit)

    def from_registry(self, part: Part) -> requests.Response:
        """Ask the registry, with a new token where the old one is refused and may be replaced.

        Raise Denied where only the client can get one.
        """
        fields = self._for(part)
        response = self._fetch(fields)
        for _ in range(_RENEWALS):
            if not self._is_refused(response):
                break
            discard(response)
            if not (renewed := self.renewed(headers.value(fields, "authorization"))):
                raise Denied
            fields = [*headers.without(fields, "authorization"), ("Authorization", renewed)]
            response = self._fetch(fields)
        return response

    def _fetch(self, fields: Headers) -> requests.Response:
        return self.redirects.fetch("GET", self.url, fields, self.client, self.permit)

    def _is_refused(self, response: requests.Response) -> bool:
        own = origin(response.url) == origin(self.url)
        return own and response.status_code == HTTPStatus.UNAUTHORIZED

    def _for(self, part: Part) -> Headers:
        last = "" if part.end is None else str(part.end - 1)
        wanted = ("Range", f"bytes={part.start}-{last}")
        return [*headers.without(self.fields, *headers.PARTIAL), wanted]


# A blob whose end is held back until its digest is right.

logger = logging.getLogger(__name__)

_THREADS: Final = RealThreads(2)


def verifies(digest: Digest) -> bool:
    """Tell whether a digest is one that can be computed here.

    A blob by another one passes unverified: to refuse it would take it from a client that can
    check it itself, because of a setting that is about all the others.
    """
    return digest.can_be_verified


def digest_of_nothing(digest: Digest) -> str:
    """Return the digest of no bytes, by the algorithm of this one."""
    algorithm = digest.algorithm
    return f"{algorithm}:{hashlib.new(algorithm).hexdigest()}"


class VerifiedBody:
    """The bytes of a whole blob; raises BodyBroken before the last of them if they are wrong."""

    def __init__(
        self,
        inner: Iterable[bytes],
        digest: Digest,
        length: int | None,
        close: Callable[[], None],
    ) -> None:
        self._inner = inner
        self._digest = digest
        self._length = length
        self.close = close

    def __iter__(self) -> Iterator[bytes]:
        algorithm, _, wanted = self._digest.partition(":")
        running = hashlib.new(algorithm)
        received = 0
        held = b""
        for data in self._inner:
            received += len(data)
            hashing = _THREADS.begin(running.update, data)
            # Where the length is known only the last piece waits; else, a byte of every piece.
            if self._length is None:
                held, data = data[-1:], held + data[:-1]  # noqa: PLW2901 - what may go out
            elif received >= self._length:
                held, data = data, b""  # noqa: PLW2901 - what may go out
            if data:
                yield data
            hashing.result()
        if running.hexdigest() != wanted:
            fields = {"digest": str(self._digest)}
            logger.error("A blob is not what its digest says.", extra={"fields": fields})
            message = "the digest is wrong"
            raise BodyBroken(message)
        if held:
            yield held


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
    (docs/decisions/upstream/resumed-blobs.md); start and total are checked all the same.
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
