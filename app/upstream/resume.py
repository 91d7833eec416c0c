"""Resume a blob where its connection broke, invisibly to the reader, and verify its digest."""

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

# Requests for the rest of a blob, to the place where it broke off or to the registry.

_RENEWALS = 2
"""Two, because the first replacement token may come from memory and be refused as well."""


@dataclass(frozen=True, slots=True, kw_only=True)
class BlobAgain:
    """A client's request for a blob, which can be repeated for the rest of it.

    `renewed` takes a refused Authorization and returns a new one, or "" if only the client can get
    one. `budget` is in seconds.
    """

    redirects: Redirects
    url: str
    fields: Headers
    client: Client | None
    budget: float
    renewed: Callable[[str], str]
    permit: Permit | None = None

    def at_same_place(self, part: Part, broken: requests.Response) -> requests.Response | None:
        """Ask the URL that the broken response came from, such as a signed URL of a CDN.

        Return None if that was the registry itself. A signed URL is valid for some minutes, and
        no credentials are sent to it. Raise RegistryError if it cannot be read.
        """
        if origin(broken.url) == origin(self.url):
            return None
        fields = headers.pass_elsewhere(self._for(part))
        etag = broken.headers.get("ETag", "")
        if etag.startswith('"'):
            fields.append(("If-Range", etag))  # only a strong one: RFC 9110, section 13.1.5
        return self.redirects.send_again(broken.url, fields, self.client, self.permit)

    def from_registry(self, part: Part) -> requests.Response:
        """Ask the registry, and replace the token if it is refused and this proxy can get another.

        Raise Denied if only the client can get one, or another RegistryError if the registry
        cannot be read.
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


# Verification: the end of a blob is held back until its digest has been checked.

logger = logging.getLogger(__name__)

_THREADS: Final = RealThreads(2)


def verifies(digest: Digest) -> bool:
    """Return whether the algorithm of a digest can be computed here.

    A blob with any other digest passes unverified. Refusing it would withhold it from a client that
    can check it itself, because of a setting that is meant for all other blobs.
    """
    return digest.can_be_verified


def digest_of_nothing(digest: Digest) -> str:
    """Return the digest of zero bytes, computed with the algorithm of `digest`."""
    algorithm = digest.algorithm
    return f"{algorithm}:{hashlib.new(algorithm).hexdigest()}"


class VerifiedBody:
    """The bytes of a whole blob. Raises BodyBroken before the last byte if the digest is wrong.

    `length` is in bytes, or None if it is not known.
    """

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
            # If the length is known, only the last piece waits. If not, one byte of each piece.
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
"""Seconds before each attempt to resume, give or take half. The last value is repeated."""

_PROGRESS: Final = 64 * 1024
"""Bytes after which the pauses start over. With less progress between two failures, starting over
would mean many requests for few bytes."""


_SLOWEST_SKIP: Final = 1024 * 1024
"""Bytes per second. Below this rate, skipping through a response with the whole blob up to the
client's position is not worth it."""


class Again(Protocol):
    """Requests the rest of a blob.

    Both methods may raise RegistryError; Denied means that no further attempt can succeed.
    """

    @property
    def budget(self) -> float:
        """The seconds without a byte after which no further attempt begins."""

    @property
    def client(self) -> Client | None:
        """The client that waits for the blob; None if there is none."""

    def at_same_place(self, part: Part, broken: requests.Response) -> requests.Response | None:
        """Ask the place that the broken response came from; return None if that needs a new URL."""

    def from_registry(self, part: Part) -> requests.Response:
        """Ask the registry, which may redirect to a fresh URL."""


class ResumingBody:
    """The bytes of a blob, or of a range of it, joined from as many responses as it takes.

    The digest identifies a blob, so every response of the registry has the same bytes
    (docs/decisions/upstream/resumed-blobs.md). Start and total are checked nevertheless.
    Iterating raises BodyBroken if the body cannot be resumed in time.
    """

    def __init__(self, response: requests.Response, part: Part, again: Again) -> None:
        self._response = response
        self._body = Body(response)
        self._left = part
        self._again = again
        self._same_place = True
        self._ends_there = True
        """Whether the current response ends where the body ends."""
        self._failures = 0
        self._came = 0
        """Bytes received since the last failure."""
        self._ended_at = -1
        self._deadline: float | None = None
        """When to give up on a stalled body (monotonic); None while bytes arrive."""

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
        """Return whether all bytes have arrived, even if the end of the chunks has not."""
        return self._left.start == self._left.end

    def _has_ended(self) -> bool:
        """Return whether a body of unknown length is at its end.

        A chunked body marks its own end. If the end of the connection is the only mark (RFC 9112,
        section 6.3), the connection may have been cut, so the end counts once two responses stop at
        the same byte.
        """
        if self._left.end is not None:
            return False
        if self._response.raw.chunked or self._ended_at == self._left.start:
            return True
        self._ended_at = self._left.start
        return False

    def close(self) -> None:
        """Close the connection, unless the body was read to its end and has returned it."""
        self._body.close()

    def _wanted(self) -> Iterator[bytes]:
        """Yield those of the remaining bytes that the current response has."""
        for data in self._body:
            left = len(data) if self._left.end is None else self._left.end - self._left.start
            piece = data if len(data) <= left else data[:left]
            self._left = replace(self._left, start=self._left.start + len(piece))
            if piece:
                yield piece
            if len(data) > left or (self._is_complete() and not self._ends_there):
                return  # do not wait for bytes that nobody needs

    def _go_on(self, broken: BodyBroken) -> None:
        """Find a response that continues the body; raise BodyBroken if there is none in time."""
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
        """Wait before the next attempt, for at least `told` seconds (from Retry-After).

        Raise BodyBroken if that would pass the deadline, or if the client leaves.
        """
        pause = _PAUSES[min(self._failures, len(_PAUSES) - 1)]
        pause = max(told, pause * random.uniform(0.5, 1.5))  # noqa: S311 - no secret
        if self._deadline is None or time.monotonic() + pause > self._deadline:
            raise broken
        try:
            sleep(pause, self._again.client)
        except ClientGone:
            raise broken from None

    def _attempt(self, broken: BodyBroken) -> float | None:
        """Return None if a response continues the body, or else the seconds to wait.

        Raise BodyBroken if the client leaves or the registry's refusal is final.
        """
        try:
            response = self._ask()
        except (ClientGone, Denied):
            raise broken from None
        except RegistryError as error:
            self._same_place = False
            if isinstance(error, UpstreamDown):  # no request was sent
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
            self._same_place = False  # the signed URL has expired, or the server is failing
        return self._again.from_registry(self._left)

    def _may_go_on(self, response: requests.Response) -> bool:
        """Return whether the same place still has the same bytes.

        If the ETag had changed, If-Range would have made it answer with the whole (RFC 9110,
        section 13.1.5).
        """
        if part_at_end(response) == self._left.start:
            return True
        etag = self._response.headers.get("ETag")
        ignored = response.status_code == HTTPStatus.OK
        return response.status_code < HTTPStatus.BAD_REQUEST and not (
            ignored and etag and response.headers.get("ETag") != etag
        )

    def _continue_with(self, response: requests.Response, broken: BodyBroken) -> bool:
        if self._left.end is None and part_at_end(response) == self._left.start:
            self._left = replace(self._left, end=self._left.start)  # all bytes have arrived
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
        """Return whether a response continues the body, skipping ahead in a whole one if needed."""
        if part.continues(self._left):
            # If the end is not known yet, a part without a total may stop short of it.
            return self._left.end is not None or part.total is not None or part.end is None
        if part.start or part.end != part.total or not part.belongs(self._left):
            return False
        # The rate is not known in advance. Below this one, another attempt is the better choice.
        seconds = self._again.budget + self._left.start / _SLOWEST_SKIP
        return body.skip(self._left.start, seconds, self._again.client)
