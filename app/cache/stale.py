"""Stale-if-error (RFC 5861): what is served when the registry cannot be asked.

Waiting for an unreachable registry may take long, and a pull is many requests. Once the registry
has failed, callers that can be served from the cache are served without asking it. After a pause,
one of their requests is the probe. If the registry refuses connections, the probe costs nothing,
and the first client after the outage gets current content. If the registry was silent, no client
waits: the probe is a ping in the background.
"""

import logging
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import partial
from http import HTTPStatus
from typing import Final

from app.background import BackgroundPool
from app.cache.authz.callers import Caller
from app.cache.authz.grants import BoundedMap
from app.cache.disk import DiskExecutor
from app.oci.errors import (
    AccountRefused,
    RegistryError,
    TooManyRequests,
    UpstreamDown,
    UpstreamMisbehaved,
    UpstreamTimeout,
    UpstreamUnavailable,
    UpstreamUnresolved,
)
from app.source import Reply, Request

logger = logging.getLogger(__name__)

TOKENS_OUTAGE_KIND: Final = "token service away"
"""The kind of the note that says that a registry's token service issues no tokens now."""

_PAUSE: Final = 2.0
"""Seconds after a failure in which public content is served without asking again."""

_PING_PAUSE: Final = 1.0
"""Seconds between two background pings that the circuit breaker refuses."""

_PROBE_LIMIT: Final = 3.0
"""Seconds that a probe has before another request may be the probe."""

_OUTAGE_MEMORY: Final = 30.0
"""Seconds after a pause for which an outage is remembered. If no request comes for so long, nothing
is known of a registry that was silent, and the next client waits for its answer."""

Stale = Callable[[int | None], Reply | None]
"""Returns the cached public answer, or None if nothing suitable is cached.

Its argument is the status that the registry answered; None if it did not answer.
"""


@dataclass(slots=True)
class _Outage:
    """The outage of a registry, or of one of its repositories.

    Until `next_probe` (monotonic seconds), callers that can be served from the cache do not ask it.
    `is_silent`: it gave no answer in time, so a probe takes long.
    """

    next_probe: float
    is_silent: bool = False


class StaleIfError:
    """Asks a registry, and serves cached public content when it cannot be asked.

    It remembers outages in this process: of the registry under the name "", and of single
    repositories under theirs.
    """

    def __init__(self, registry: str, disk: DiskExecutor, reach: Callable[[], None]) -> None:
        """Take `reach`, which returns if the registry answers and raises RegistryError if not."""
        self._registry = registry
        self._disk = disk
        self._reach = reach
        self._background = BackgroundPool("probe")
        self._lock = threading.Lock()
        self._outages = BoundedMap[_Outage]()

    def fetch_or_serve_stale(  # noqa: PLR0913 - each by its name
        self,
        caller: Caller,
        name: str,
        request: Request,
        fetch: Callable[[Request], Reply],
        serve_stale: Stale,
        *,
        lasting: bool = True,
    ) -> Reply:
        """Return the registry's answer to `fetch`, or the stale one if it cannot be asked.

        Without `lasting`, the content may have changed: a registry that answers anything, even
        5xx, is asked for it each time. `fetch` receives the request with a `has_fallback` that
        tells whether a stale answer exists, so that the upstream need not try for long.

        Raise the RegistryError of `fetch` if there is no stale answer, or if it does not mean
        that the registry is unreachable.
        """
        with self._acquire_turn(name if lasting else "") as may_ask:
            if not may_ask and (stale_reply := self._serve_stale(serve_stale, None)):
                return stale_reply
            upstream_request = replace(request, has_fallback=lambda: _has_stale(serve_stale))
            return self._try_fetch(caller, name, lambda: fetch(upstream_request), serve_stale)

    def _try_fetch(
        self, caller: Caller, name: str, fetch: Callable[[], Reply], serve_stale: Stale
    ) -> Reply:
        try:
            reply = fetch()
        except RegistryError as error:
            self.record_failure(name, error)
            if is_outage(error) and (stale_reply := self._serve_stale(serve_stale, None)):
                return stale_reply
            raise
        if is_outage_status(reply.status):
            return self._replace_failure(name, reply, serve_stale)
        if caller.has_stale_placeholder and reply.status == HTTPStatus.UNAUTHORIZED:
            return self._replace_unauthorized(reply, serve_stale)
        if not reply.is_remembered:
            self._clear_outages(name)
        return reply

    def has_outage(self, name: str) -> bool:
        """Return whether the registry has recently failed, as a whole or for this repository."""
        outages = (self._outages.get((key,)) for key in ("", name))
        now = time.monotonic()
        return any(
            outage is not None and now < outage.next_probe + _OUTAGE_MEMORY for outage in outages
        )

    def record_failure(self, name: str, failure: RegistryError | int) -> None:
        """Record a failure: a RegistryError, or the status of an answer.

        It is ignored if it says nothing about the registry's state.
        """
        if isinstance(failure, RegistryError):
            if is_outage(failure):
                self._record_error(name, failure)
        elif is_outage_status(failure) and failure != HTTPStatus.TOO_MANY_REQUESTS:
            self._record_outage(name)

    def _serve_stale(self, serve_stale: Stale, status: int | None) -> Reply | None:
        """Return the stale answer, and log its use; return None if nothing suitable is cached."""
        reply = serve_stale(status)
        if reply is not None:
            fields = {"registry": self._registry} | ({"status": status} if status else {})
            logger.warning("Serving stale content.", extra={"fields": fields})
        return reply

    def _record_error(self, name: str, error: RegistryError) -> None:
        if isinstance(error, UpstreamMisbehaved):
            self._record_outage(name)  # this says nothing about other repositories
        elif not isinstance(error, TooManyRequests):
            self._record_unreachable(error)

    def _record_unreachable(self, error: RegistryError) -> None:
        """Record that the registry is unreachable, for all its repositories."""
        if isinstance(error, UpstreamDown):
            # The circuit breaker refused without asking, and lets a probe pass in time.
            outage = self._outages.get(("",))
            is_silent = outage is not None and outage.is_silent
            self._record_outage("", pause=_PING_PAUSE if is_silent else 0.0, silent=is_silent)
        else:
            self._record_outage("", silent=isinstance(error, UpstreamTimeout | UpstreamUnresolved))

    def _replace_failure(self, name: str, reply: Reply, serve_stale: Stale) -> Reply:
        self.record_failure(name, reply.status)
        if stale_reply := self._serve_stale(serve_stale, reply.status):
            reply.close()
            return stale_reply
        return _replace_status(reply)

    def _replace_unauthorized(self, reply: Reply, serve_stale: Stale) -> Reply:
        """Return the answer that replaces a 401 to a client with a placeholder token.

        The placeholder is no secret, so the token alone proves nothing. The 401 stands, unless the
        cache has noted that the token service issues no tokens now. Raise TooManyRequests or
        UpstreamUnavailable if there is no stale answer.
        """
        status = self._lookup_token_failure()
        if status is None:
            return reply
        reply.close()
        if stale_reply := self._serve_stale(
            serve_stale, int(status) if status.isdecimal() else None
        ):
            return stale_reply
        if status == str(int(HTTPStatus.TOO_MANY_REQUESTS)):
            raise TooManyRequests
        message = "the registry's token service does not answer"
        raise UpstreamUnavailable(message)

    def _lookup_token_failure(self) -> str | None:
        """Return what the token service last answered in place of a token.

        None if no recent failure of the token service is known.
        """
        note = self._disk.read(self._disk.ledger.notes.lookup, TOKENS_OUTAGE_KIND, self._registry)
        return note.value if note is not None and note.seconds_left > 0 else None

    @contextmanager
    def _acquire_turn(self, name: str) -> Iterator[bool]:
        """Yield whether to ask the registry; end the probe on leaving, if this request is one.

        Do not ask just after a failure, or while another request probes.
        """
        may_ask, outages = self._try_acquire_turn(name)
        try:
            yield may_ask
        finally:
            _end_probe(outages)

    def _try_acquire_turn(self, name: str) -> tuple[bool, Sequence[_Outage]]:
        """Return whether to ask, and the outages that this request then probes."""
        now = time.monotonic()
        with self._lock:
            outages = [outage for key in {"", name} if (outage := self._outages.get((key,)))]
            if any(now < outage.next_probe for outage in outages):
                return False, ()
            is_silent = any(
                outage.is_silent and now < outage.next_probe + _OUTAGE_MEMORY for outage in outages
            )
            for outage in outages:
                outage.next_probe = now + _PROBE_LIMIT
        if is_silent:
            if not self._background.submit(partial(self._probe, outages)):
                _end_probe(outages)  # the next request tries again
            return False, ()
        return True, outages

    def _probe(self, outages: Sequence[_Outage]) -> None:
        """Probe the registry with a ping, in a thread for which no client waits."""
        try:
            self._reach()
            self._outages.forget(("",))
        except RegistryError as error:
            self._record_unreachable(error)
        finally:
            _end_probe(outages)

    def _record_outage(self, key: str, *, pause: float = _PAUSE, silent: bool = False) -> None:
        self._outages.put((key,), _Outage(time.monotonic() + pause, silent))

    def _clear_outages(self, name: str) -> None:
        for key in ("", name):
            self._outages.forget((key,))


def _end_probe(outages: Sequence[_Outage]) -> None:
    """Let the next request probe at once, in case this probe decided nothing.

    A probe that failed has recorded a new outage in place of these.
    """
    for outage in outages:
        outage.next_probe = time.monotonic()


def _has_stale(serve_stale: Stale) -> bool:
    """Return whether a stale answer exists."""
    reply = serve_stale(None)
    if reply is not None:
        reply.close()
    return reply is not None


def _replace_status(reply: Reply) -> Reply:
    """Return the reply with status 503 in place of another 5xx; 429 stays.

    Clients retry some of the 5xx statuses, and not others.
    """
    if reply.status in {HTTPStatus.TOO_MANY_REQUESTS, HTTPStatus.SERVICE_UNAVAILABLE}:
        return reply
    return replace(reply, status=HTTPStatus.SERVICE_UNAVAILABLE)


def is_outage(error: RegistryError) -> bool:
    """Return whether an error means that the registry cannot be asked now, by any caller.

    These are the errors with a 5xx status, except AccountRefused, and TooManyRequests.
    """
    if isinstance(error, AccountRefused):
        return False
    is_server_error = error.status >= HTTPStatus.INTERNAL_SERVER_ERROR
    return is_server_error or isinstance(error, TooManyRequests)


def is_outage_status(status: int) -> bool:
    """Return whether a status means that the registry is in trouble: 429, or 5xx except 501.

    501 is an answer: the registry does not support the method (RFC 9110, section 15.6.2). Some do
    not support HEAD, and answer a GET.
    """
    if status == HTTPStatus.NOT_IMPLEMENTED:
        return False
    is_too_many = status == HTTPStatus.TOO_MANY_REQUESTS
    return is_too_many or status >= HTTPStatus.INTERNAL_SERVER_ERROR
