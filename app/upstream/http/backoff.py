"""Requests that are not sent, because of what an upstream did a moment ago.

A circuit breaker stops requests to a host that does not answer, except one probe at a time. A 429
is repeated to the caller who received it, for some seconds and without asking the registry.
"""

import hashlib
import hmac
import json
import logging
import math
import secrets
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from http import HTTPStatus
from typing import Final

from cachetools import LRUCache, TLRUCache

from app.events import NOBODY, Event, Observer
from app.oci import headers
from app.oci.errors import (
    ClientGone,
    ErrorCode,
    RegistryError,
    UpstreamDown,
    UpstreamTimeout,
    UpstreamUnreachable,
    error_document,
)
from app.oci.headers import Headers
from app.source import Reply, build_reply
from app.upstream.http.urls import Origin

logger = logging.getLogger(__name__)

# Circuit breakers.

_FAILURE_LIMIT: Final = 5
_FAILURE_SPAN: Final = 3.0
"""A breaker opens after so many failures without a readable response between them, if they have
gone on for so many seconds. Many simultaneous requests count one short failure many times, so the
number alone is not enough."""

_FIRST_PAUSE: Final = 1.0
_LONGEST_PAUSE: Final = 3.0
"""The pause between two probes, in seconds, at first and at most. A host may be back for that long
before we notice."""

_MAX_BREAKERS: Final = 256

_COUNTED_FAILURES: Final = (UpstreamUnreachable, UpstreamTimeout)
"""The failures that count: no connection, or no response in time. A refusal is a response."""


class CircuitBreaker:
    """The circuit breaker of one origin.

    Every request passes while it is closed, none while it is open, one probe while it is half open.
    """

    def __init__(self, observer: Observer = NOBODY) -> None:
        self._observer = observer
        self._lock = threading.Lock()
        self._failures = 0
        self._failing_since = 0.0
        self._succeeded_at = 0.0
        self._pause = _FIRST_PAUSE
        self._open_until: float | None = None
        """Monotonic seconds; None while the breaker is closed."""
        self._probing = False

    @contextmanager
    def guard(self, host: str) -> Iterator[None]:
        """Run the request in this block and record its outcome.

        Raise UpstreamDown, with a Retry-After, instead of running the block if the breaker is open
        or another request is the probe. `host` is for the message and the log.
        """
        started_at = time.monotonic()
        probing = self._admit(host)
        try:
            yield
            self._record_success(host)
        except _COUNTED_FAILURES:
            self._record_failure(host, started_at, probing=probing)
            raise
        except ClientGone:
            raise  # this says nothing about the host
        except RegistryError:
            if probing:
                # A host that cuts connections or sends malformed responses is reachable.
                self._record_success(host)
            raise
        finally:
            if probing:
                self._probing = False

    def detach(self) -> None:
        """Report the breaker as closed if it is open, and report nothing more.

        `CircuitBreakers` has dropped it, so its closing would never be reported, and the count of
        open breakers would stay too high.
        """
        with self._lock:
            observer, self._observer = self._observer, NOBODY
            is_open = self._open_until is not None
        if is_open:
            observer.observe(Event.CIRCUIT_CLOSED)

    def _admit(self, host: str) -> bool:
        """Return True if the request is the probe; raise UpstreamDown if it must not be sent."""
        if self._open_until is None:
            return False
        with self._lock:
            seconds_left = (self._open_until or 0.0) - time.monotonic()
            if seconds_left > 0 or self._probing:
                retry_after = str(max(1, math.ceil(seconds_left)))
                message = f"{host}: {UpstreamDown.message}"
                raise UpstreamDown(message, headers={"Retry-After": retry_after})
            self._probing = True
            return True

    def _record_failure(self, host: str, started_at: float, *, probing: bool) -> None:
        now = time.monotonic()
        with self._lock:
            if not self._failures:
                self._failing_since = max(started_at, self._succeeded_at)
            self._failures += 1
            if probing:
                self._pause = min(self._pause * 2, _LONGEST_PAUSE)
            elif self._failures < _FAILURE_LIMIT or now - self._failing_since < _FAILURE_SPAN:
                return
            is_opening = self._open_until is None
            self._open_until = now + self._pause
        if is_opening:
            self._observer.observe(Event.CIRCUIT_OPENED)
            fields = {"host": host}
            logger.warning("Circuit breaker opened.", extra={"fields": fields})

    def _record_success(self, host: str) -> None:
        self._succeeded_at = time.monotonic()
        if not self._failures:
            return
        with self._lock:
            is_closing = self._open_until is not None
            self._failures, self._pause, self._open_until = 0, _FIRST_PAUSE, None
        if is_closing:
            self._observer.observe(Event.CIRCUIT_CLOSED)
            logger.warning("Circuit breaker closed.", extra={"fields": {"host": host}})


class CircuitBreakers:
    """The breakers of a session, one per origin; the least recently used are dropped beyond 256."""

    def __init__(self, observer: Observer = NOBODY) -> None:
        self._observer = observer
        self._by_origin = LRUCache[Origin, CircuitBreaker](_MAX_BREAKERS)
        self._lock = threading.Lock()

    def get_breaker(self, origin: Origin) -> CircuitBreaker:
        """Return the breaker of an origin; create it, closed, if it does not exist."""
        with self._lock:
            breaker = self._by_origin.get(origin)
            if breaker is None:
                if len(self._by_origin) == _MAX_BREAKERS:
                    _, evicted_breaker = self._by_origin.popitem()
                    evicted_breaker.detach()
                breaker = self._by_origin[origin] = CircuitBreaker(self._observer)
            return breaker


# Recent 429s.

_MAX_REPEAT_SECONDS: Final = 5.0
"""The longest time, in seconds, for which a 429 is repeated. containerd retries a 429 five times at
once. The windows in which pulls are counted roll on, so the next request may succeed."""

_MAX_REPEAT_SECONDS_FOR_ALL: Final = 10.0
"""The same for a 429 from a limit in front of the registry, which counts every request of an IP
address."""

_EVERYTHING: Final = "*"
"""Stands for all requests: neither a repository name nor a token request can equal it."""

_CONTENT_LIMIT: Final = 4096
"""The maximum size, in bytes, of a body that is repeated as it is."""

_FIELDS_LIMIT: Final = 4096
"""The maximum size, in bytes, of the header names and values that are repeated."""

_LIMIT_FIELD_PREFIXES: Final = ("retry-after", "ratelimit", "x-ratelimit")
"""Prefixes of the header fields that say when to come back; they are repeated with any body."""

_DOCUMENT: Final = json.dumps(
    error_document(ErrorCode.TOOMANYREQUESTS, "the registry has just answered 429")
).encode()

_MAX_ENTRIES: Final = 10_000


@dataclass(frozen=True, slots=True)
class _RecentReply:
    """A 429 to repeat until `until` (monotonic seconds)."""

    until: float
    headers: Headers
    content: bytes

    def repeat(self, now: float) -> Reply:
        """Return the 429 again, with the remaining seconds in its Retry-After."""
        fields = headers.without(self.headers, "retry-after")
        fields.append(("Retry-After", str(int(self.until - now) + 1)))
        return build_reply(HTTPStatus.TOO_MANY_REQUESTS, fields, self.content)


class RecentTooManyRequests:
    """The recent 429s, by the caller's Authorization and the subject of the request.

    A caller who sends another token or other credentials counts as another caller.
    """

    def __init__(self) -> None:
        self._key = secrets.token_bytes(32)
        self._lock = threading.Lock()
        self._entries = TLRUCache[bytes, _RecentReply](
            _MAX_ENTRIES, lambda _key, entry, _now: entry.until, timer=time.monotonic
        )

    def __len__(self) -> int:
        return len(self._entries)

    def lookup(self, authorization: str, subject: str) -> Reply | None:
        """Return the 429 to repeat to this caller, or None if the registry should be asked."""
        if not self._entries:
            return None
        now = time.monotonic()
        for candidate in (subject, _EVERYTHING):
            with self._lock:
                entry = self._entries.get(self._hash_key(authorization, candidate))
            if entry is not None:
                logger.info("Repeated a recent 429 without asking the registry.")
                return entry.repeat(now)
        return None

    def record(self, authorization: str, subject: str, reply: Reply, content_type: str) -> Reply:
        """Record `reply` if it is a 429, and return it; `content_type` is its Content-Type.

        Docker Hub counts the pulls of an identity, and answers with a registry's error document.
        The limit in front of it counts every request of an IP address, and answers in plain text:
        such a 429 is repeated for every request of the caller.
        """
        if reply.status != HTTPStatus.TOO_MANY_REQUESTS:
            return reply
        content = reply.read()
        fields, repeated_content = _select_repeatable(reply.headers, content)
        retry_after = float(reply.header("retry-after"))
        is_for_all = content_type.startswith("text/plain")
        seconds = min(
            retry_after, _MAX_REPEAT_SECONDS_FOR_ALL if is_for_all else _MAX_REPEAT_SECONDS
        )
        entry = _RecentReply(time.monotonic() + seconds, fields, repeated_content)
        with self._lock:
            self._entries[self._hash_key(authorization, _EVERYTHING if is_for_all else subject)] = (
                entry
            )
        return replace(reply, body=content)

    def _hash_key(self, authorization: str, subject: str) -> bytes:
        text = f"{authorization}\0{subject}".encode(errors="surrogateescape")
        return hmac.digest(self._key, text, hashlib.sha256)


def _select_repeatable(fields: Headers, content: bytes) -> tuple[Headers, bytes]:
    """Return the header fields and the body to repeat.

    The response to a HEAD has no body, and a long body is not kept. Our own document then takes its
    place, with its own type, no encoding, and only the fields about limits.
    """
    if 0 < len(content) <= _CONTENT_LIMIT and _size(fields) <= _FIELDS_LIMIT:
        return fields, content
    limit_fields = [
        (name, value) for name, value in fields if name.lower().startswith(_LIMIT_FIELD_PREFIXES)
    ]
    repeated_fields = limit_fields if _size(limit_fields) <= _FIELDS_LIMIT else []
    return [("Content-Type", "application/json"), *repeated_fields], _DOCUMENT


def _size(fields: Headers) -> int:
    return sum(len(name) + len(value) for name, value in fields)
