"""Resume a blob where its connection broke, invisibly to the reader."""

import logging
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from http import HTTPStatus
from typing import Final, Protocol

import requests

from app.events import Event
from app.oci import headers
from app.oci.conditional import ContentRange, build_range
from app.oci.errors import ClientGone, Denied, RegistryError, UpstreamDown
from app.oci.headers import Headers, parse_retry_after
from app.source import BodyBroken, Client, Permit, Place
from app.upstream.http.body import (
    Body,
    discard,
    get_content_range,
    get_observer,
    is_client_disconnect,
    parse_unsatisfied_total,
)
from app.upstream.http.deadlines import Call
from app.upstream.http.errors import redact_url
from app.upstream.http.redirects import Redirects
from app.upstream.http.retries import get_retry_after
from app.upstream.http.urls import parse_origin
from app.waiting import choose_pause, sleep

# Requests for the rest of a blob, to the place where it broke off or to the registry.

_MAX_RENEWALS = 2
"""Two, because the first replacement token may come from memory and be refused as well."""


def request_from_place(
    redirects: Redirects, place: Place, fields: Headers, call: Call, permit: Permit | None
) -> requests.Response:
    """Send a GET with a Range to where redirects have led, and return the response.

    No credentials are sent there. Raise RegistryError if it cannot be read.
    """
    fields = headers.filter_redirect_headers(fields)
    if place.etag.startswith('"'):
        fields.append(("If-Range", place.etag))  # only a strong one: RFC 9110, section 13.1.5
    return redirects.fetch_without_redirects(place.url, fields, call, permit)


@dataclass(frozen=True, slots=True, kw_only=True)
class BlobRangeRequester:
    """A client's request for a blob, which can be repeated for the rest of it.

    `renew_authorization` takes a refused Authorization and returns a new one, or "" if only the
    client can get one. `budget` is in seconds.
    """

    redirects: Redirects
    url: str
    fields: Headers
    client: Client | None
    budget: float
    renew_authorization: Callable[[str], str]
    permit: Permit | None = None

    def is_redirected(self, response: requests.Response) -> bool:
        """Return whether a response comes from another place than the registry."""
        return parse_origin(response.url) != parse_origin(self.url)

    def request_same_url(
        self, part: ContentRange, broken_response: requests.Response
    ) -> requests.Response | None:
        """Ask the URL that the broken response came from, such as a signed URL of a CDN.

        Return None if that was the registry itself. A signed URL is valid for some minutes, and
        no credentials are sent to it. Raise RegistryError if it cannot be read.
        """
        if not self.is_redirected(broken_response):
            return None
        place = Place(broken_response.url, broken_response.headers.get("ETag", ""))
        fields = self._build_headers(part)
        return request_from_place(self.redirects, place, fields, Call(self.client), self.permit)

    def request_from_registry(self, part: ContentRange) -> requests.Response:
        """Ask the registry for a part of the blob, as `fetch` does."""
        return self.fetch(self._build_headers(part), Call(self.client))

    def fetch(self, fields: Headers, call: Call) -> requests.Response:
        """Ask the registry, and replace the token if it is refused and this proxy can get another.

        Raise Denied if only the client can get one, or another RegistryError if the registry
        cannot be read.
        """
        response = self._send(fields, call)
        for _ in range(_MAX_RENEWALS):
            if not self._is_refused(response):
                break
            discard(response)
            refused = headers.get_first(fields, "authorization")
            if not (new_authorization := self.renew_authorization(refused)):
                raise Denied
            fields = [
                *headers.without(fields, "authorization"),
                ("Authorization", new_authorization),
            ]
            response = self._send(fields, call)
        return response

    def _send(self, fields: Headers, call: Call) -> requests.Response:
        return self.redirects.fetch("GET", self.url, fields, call, self.permit)

    def _is_refused(self, response: requests.Response) -> bool:
        is_own_origin = parse_origin(response.url) == parse_origin(self.url)
        return is_own_origin and response.status_code == HTTPStatus.UNAUTHORIZED

    def _build_headers(self, part: ContentRange) -> Headers:
        range_field = build_range(part.start, part.end)
        return [*headers.without(self.fields, *headers.PARTIAL), range_field]


logger = logging.getLogger(__name__)

_PROGRESS_SIZE: Final = 64 * 1024
"""Bytes after which the pauses start over. With less progress between two failures, starting over
would mean many requests for few bytes."""


_SLOWEST_SKIP: Final = 1024 * 1024
"""Bytes per second. Below this rate, skipping through a response with the whole blob up to the
client's position is not worth it."""


class RangeRequester(Protocol):
    """Requests the rest of a blob.

    Both methods may raise RegistryError; Denied means that no further attempt can succeed.
    """

    @property
    def budget(self) -> float:
        """The seconds without a byte after which no further attempt begins."""

    @property
    def client(self) -> Client | None:
        """The client that waits for the blob; None if no client waits."""

    def is_redirected(self, response: requests.Response) -> bool:
        """Return whether a response comes from another place than the registry."""

    def request_same_url(
        self, part: ContentRange, broken_response: requests.Response
    ) -> requests.Response | None:
        """Ask the place that the broken response came from; return None if that needs a new URL."""

    def request_from_registry(self, part: ContentRange) -> requests.Response:
        """Ask the registry, which may redirect to a fresh URL."""


class ResumingBody:
    """The bytes of a blob, or of a range of it, joined from as many responses as it takes.

    The digest identifies a blob, so every response of the registry has the same bytes
    (docs/decisions/upstream/resumed-blobs.md). Start and total are checked nevertheless.
    Iterating raises BodyBroken if the body cannot be resumed in time.
    """

    def __init__(
        self, response: requests.Response, part: ContentRange, requester: RangeRequester
    ) -> None:
        self._response = response
        self._body = Body(response)
        self._remaining = part
        self._requester = requester
        self._try_same_url = True
        self._is_last_response = True
        """Whether the current response ends where the body ends."""
        self._failures = 0
        self._received = 0
        """Bytes received since the last failure."""
        self._last_end = -1
        self._deadline: float | None = None
        """When to give up on a stalled body (monotonic); None while bytes arrive."""

    def __iter__(self) -> Iterator[bytes]:
        while True:
            failure: BodyBroken | None = None
            try:
                for data in self._iter_remaining():
                    self._deadline = None
                    self._received += len(data)
                    yield data
            except BodyBroken as error:
                if is_client_disconnect(error):
                    raise
                failure = error
            if self._is_complete() or (failure is None and self._has_ended()):
                return
            self._body.close()
            self._resume(failure or BodyBroken("the registry sent too little"))
            if self._is_complete():
                return

    def _is_complete(self) -> bool:
        """Return whether all bytes have arrived, even if the end of the chunks has not."""
        return self._remaining.start == self._remaining.end

    def _has_ended(self) -> bool:
        """Return whether a body of unknown length is at its end.

        A chunked body marks its own end. If the end of the connection is the only mark (RFC 9112,
        section 6.3), the connection may have been cut, so the end counts once two responses stop at
        the same byte.
        """
        if self._remaining.end is not None:
            return False
        if self._response.raw.chunked or self._last_end == self._remaining.start:
            return True
        self._last_end = self._remaining.start
        return False

    def close(self) -> None:
        """Close the connection, unless the body was read to its end and has returned it."""
        self._body.close()

    def _iter_remaining(self) -> Iterator[bytes]:
        """Yield those of the remaining bytes that the current response has."""
        for data in self._body:
            start, end = self._remaining.start, self._remaining.end
            limit = len(data) if end is None else end - start
            piece = data if len(data) <= limit else data[:limit]
            self._remaining = replace(self._remaining, start=start + len(piece))
            if piece:
                yield piece
            if len(data) > limit or (self._is_complete() and not self._is_last_response):
                return  # do not wait for bytes that nobody needs

    def _resume(self, failure: BodyBroken) -> None:
        """Find a response that continues the body; raise BodyBroken if none comes in time."""
        if self._received >= _PROGRESS_SIZE:
            self._failures = 0
        self._received = 0
        if self._deadline is None:
            self._deadline = time.monotonic() + self._requester.budget
        retry_after: float | None = 0.0
        while retry_after is not None:
            self._pause(retry_after, failure)
            retry_after = self._attempt(failure)

    def _pause(self, retry_after: float, failure: BodyBroken) -> None:
        """Wait before the next attempt, for at least `retry_after` seconds (from Retry-After).

        Raise BodyBroken if that would pass the deadline, or if the client leaves.
        """
        pause = max(retry_after, choose_pause(self._failures))
        if self._deadline is None or time.monotonic() + pause > self._deadline:
            raise failure
        try:
            sleep(pause, self._requester.client)
        except ClientGone:
            raise failure from None

    def _attempt(self, failure: BodyBroken) -> float | None:
        """Return None if a response continues the body, or else the seconds to wait.

        Raise BodyBroken if the client leaves or the registry's refusal is final.
        """
        try:
            response = self._request_rest()
        except (ClientGone, Denied):
            raise failure from None
        except RegistryError as error:
            self._try_same_url = False
            if isinstance(error, UpstreamDown):  # no request was sent
                return parse_retry_after(error.extra_headers.get("Retry-After", ""))
            self._failures += 1
            self._log_failure(error)
            return 0.0
        self._failures += 1
        try:
            if self._adopt(response, failure):
                return None
        except ClientGone:
            response.close()
            raise failure from None
        self._log_failure(response.status_code)
        return get_retry_after(response)

    def _log_failure(self, reason: object) -> None:
        offset, attempt = self._remaining.start, self._failures
        fields = {"offset": offset, "attempt": attempt, "reason": str(reason)}
        logger.warning("Resume attempt failed.", extra={"fields": fields})

    def _request_rest(self) -> requests.Response:
        if self._try_same_url:
            response = self._requester.request_same_url(self._remaining, self._response)
            if response is not None and self._can_continue_with(response):
                return response
            if response is not None:
                discard(response)
            self._try_same_url = False  # the signed URL has expired, or the server is failing
        return self._requester.request_from_registry(self._remaining)

    def _can_continue_with(self, response: requests.Response) -> bool:
        """Return whether the same place still has the same bytes.

        If the ETag had changed, If-Range would have made it answer with the whole blob (RFC 9110,
        section 13.1.5).
        """
        if parse_unsatisfied_total(response) == self._remaining.start:
            return True
        etag = self._response.headers.get("ETag")
        is_whole = response.status_code == HTTPStatus.OK
        return response.status_code < HTTPStatus.BAD_REQUEST and not (
            is_whole and etag and response.headers.get("ETag") != etag
        )

    def _adopt(self, response: requests.Response, failure: BodyBroken) -> bool:
        start, end = self._remaining.start, self._remaining.end
        if end is None and parse_unsatisfied_total(response) == start:
            self._remaining = replace(self._remaining, end=start)  # all bytes have arrived
            discard(response)
            return True
        part, body = get_content_range(response), Body(response)
        if part is None or not self._seek(part, body):
            body.close()
            self._try_same_url = False
            return False
        fields = {
            "offset": self._remaining.start,
            "attempt": self._failures,
            "reason": failure.strerror,
            "url": redact_url(response.url),
        }
        logger.warning("Resumed a broken body.", extra={"fields": fields})
        get_observer(response).observe(Event.RESUMED)
        self._response, self._body, self._try_same_url = response, body, True
        end = part.total if self._remaining.end is None else self._remaining.end
        self._remaining = replace(
            self._remaining, end=end, total=self._remaining.total or part.total
        )
        self._is_last_response = part.end == self._remaining.end
        return True

    def _seek(self, part: ContentRange, body: Body) -> bool:
        """Return whether a response continues the body, skipping ahead in a whole one if needed."""
        if part.continues(self._remaining):
            # If the end is not known yet, a part without a total may stop short of it.
            return self._remaining.end is not None or part.total is not None or part.end is None
        if part.start or part.end != part.total or not part.is_compatible_with(self._remaining):
            return False
        # The rate is not known in advance. Below `_SLOWEST_SKIP`, another attempt is better.
        seconds = self._requester.budget + self._remaining.start / _SLOWEST_SKIP
        return body.skip(self._remaining.start, Call(self._requester.client).limit_time(seconds))
