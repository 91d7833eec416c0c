"""Retries before the first byte; no other module retries then."""

import logging
import random
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from http import HTTPStatus
from typing import Final, Self

import requests

from app.events import NOBODY, Event, Observer
from app.oci.errors import (
    OutboundProxyFails,
    UpstreamDown,
    UpstreamTimeout,
    UpstreamUnavailable,
    UpstreamUnreachable,
    UpstreamUnresolved,
    UpstreamUntrusted,
)
from app.oci.headers import parse_retry_after
from app.upstream.http.body import discard
from app.upstream.http.deadlines import Call
from app.upstream.http.errors import FAILURES, redact_url
from app.waiting import sleep


@dataclass(frozen=True, slots=True, kw_only=True)
class Reliability:
    """How failed requests and broken bodies are retried, and whether blobs are verified.

    `retry_budget`: seconds in which attempts may begin before the first byte.
    `resume_budget`: seconds in which attempts may begin after a body broke.
    `verify_blobs`: whether a whole blob is hashed and its end held back until the digest matches.
    """

    retry_budget: float
    resume_budget: float
    verify_blobs: bool = False


logger = logging.getLogger(__name__)

_PAUSES: Final = (0.05, 0.5, 1.5)
"""Seconds before the second, third and fourth attempt, varied at random by up to half."""

_SHORT_PAUSE: Final = 0.1
"""The longest pause, in seconds, that a caller with a fallback waits: the first pause only."""

_LONGEST_RETRY_AFTER: Final = 5
"""The longest Retry-After, in seconds, that is waited for here; a longer one goes to the client."""

_QUICK_BUDGET: Final = 8.0
_QUICK_ATTEMPT_LIMIT: Final = 6.0
_QUICK_TOTAL_LIMIT: Final = 12.0
"""The limits of `Retrier` for pings and tokens, in seconds: Docker waits 15 seconds for one, and
then sends no other request."""

_FOREVER: Final = float("inf")

_TRANSIENT_STATUSES: Final = frozenset({
    HTTPStatus.INTERNAL_SERVER_ERROR, HTTPStatus.BAD_GATEWAY, HTTPStatus.SERVICE_UNAVAILABLE,
    HTTPStatus.GATEWAY_TIMEOUT,
})  # fmt: skip
"""Statuses that may be gone when the request is repeated."""


_Failures = tuple[type[UpstreamUnavailable], ...]

_UNSENT_FAILURES: Final[_Failures] = (UpstreamUnreachable, UpstreamUnresolved)
"""Failures before any byte of the request was sent."""

_LASTING_FAILURES: Final[_Failures] = (*_UNSENT_FAILURES, OutboundProxyFails, UpstreamTimeout)
"""Failures that another attempt within two seconds hardly ever fixes."""


class Retrier:
    """Sends a request that may be repeated (GET or HEAD) up to four times, within a budget."""

    def __init__(
        self,
        budget: float,
        attempt_limit: float = _FOREVER,
        total_limit: float = _FOREVER,
        observer: Observer = NOBODY,
    ) -> None:
        """Limit the attempts in time; all three limits are in seconds.

        `budget`: no attempt begins later than this after the first.
        `attempt_limit`: how long each attempt may take, redirects and slow responses included.
        `total_limit`: how long all attempts may take together.
        """
        self._budget = budget
        self._patience = attempt_limit
        self._total_limit = total_limit
        self._observer = observer

    @classmethod
    def for_quick_requests(cls, budget: float, observer: Observer = NOBODY) -> Self:
        """Return a Retrier for pings and tokens, for which clients wait only some seconds."""
        return cls(min(budget, _QUICK_BUDGET), _QUICK_ATTEMPT_LIMIT, _QUICK_TOTAL_LIMIT, observer)

    def __call__(self, send: Callable[[Call], requests.Response], call: Call) -> requests.Response:
        """Call `send` until its response is worth passing on; return that response or the last one.

        `send` takes `call`, with the deadline of its attempt.
        A caller that has a fallback does not wait long. If the host is unreachable or timed out,
        `send` is called only once. If it cut the connection or answered 5xx, `send` is called once
        more, after the first pause.
        Raise what the last call of `send` raised, or ClientGone if its client disconnects.
        """
        return self._repeat(send, call, (UpstreamUnavailable,), _is_transient, call.has_fallback)

    def retry_connecting(
        self, send: Callable[[Call], requests.Response], call: Call
    ) -> requests.Response:
        """Return the response to a request that must be sent only once, such as a POST.

        Repeat it only if no byte of it was sent.
        Raise what the last call of `send` raised, or ClientGone if its client disconnects.
        """
        return self._repeat(send, call, _UNSENT_FAILURES, lambda _: False)

    def _repeat(
        self,
        send: Callable[[Call], requests.Response],
        call: Call,
        failures: _Failures,
        is_transient: Callable[[requests.Response], bool],
        has_fallback: Callable[[], bool] | None = None,
    ) -> requests.Response:
        now = time.monotonic()
        deadline, total_deadline = now + self._budget, now + self._total_limit

        def attempt() -> requests.Response:
            return send(call.limit_time(min(self._patience, total_deadline - time.monotonic())))

        is_over = partial(_should_stop, deadline, has_fallback)
        for pause in _PAUSES:
            delay = pause * random.uniform(0.5, 1.5)  # noqa: S311 - no secret
            try:
                response = attempt()
            except failures as error:
                delay = max(delay, _choose_pause(error, first=pause == _PAUSES[0]))
                if is_over(delay, error):
                    raise
                _log_retry(error)
            else:
                delay = max(delay, get_retry_after(response))
                if not is_transient(response) or is_over(delay):
                    return response
                fields = {"status": response.status_code, "url": redact_url(response.url)}
                logger.warning("Retrying an upstream request.", extra={"fields": fields})
                discard(response, call)
            sleep(delay, call.client)
            self._observer.observe(Event.RETRIED)
        return attempt()


def _should_stop(
    deadline: float,
    has_fallback: Callable[[], bool] | None,
    delay: float,
    error: UpstreamUnavailable | None = None,
) -> bool:
    """Return True if no other attempt follows after `delay` seconds.

    It would be too late, or the caller has a fallback and the attempt is not worth the wait.
    """
    if time.monotonic() + delay > deadline:
        return True
    is_costly = delay > _SHORT_PAUSE or isinstance(error, _LASTING_FAILURES)
    return is_costly and has_fallback is not None and has_fallback()


def _log_retry(error: UpstreamUnavailable) -> None:
    """Log why an upstream is asked again, unless that has been logged already.

    `errors.translate_error` logs the exceptions of requests, and the circuit breaker logs that it
    opened. Nothing else logs a body that breaks.
    """
    is_logged = isinstance(error, UpstreamDown | UpstreamUnresolved)
    if not is_logged and not isinstance(error.__cause__, FAILURES):
        logger.warning("Retrying an upstream request.", extra={"fields": {"error": str(error)}})


def _is_transient(response: requests.Response) -> bool:
    return (
        response.status_code in _TRANSIENT_STATUSES
        and get_retry_after(response) <= _LONGEST_RETRY_AFTER
    )


def get_retry_after(response: requests.Response) -> float:
    """Return the seconds of the response's Retry-After, as `parse_retry_after` does."""
    return parse_retry_after(response.headers.get("Retry-After", ""))


def _choose_pause(error: UpstreamUnavailable, *, first: bool) -> float:
    """Return the least number of seconds to wait; infinity if another attempt would not help.

    An open circuit breaker ends a request whose first attempt it refuses. A request that has made
    an attempt waits for the breaker's next probe.
    """
    if isinstance(error, UpstreamUntrusted) or (first and isinstance(error, UpstreamDown)):
        return float("inf")
    if not isinstance(error, UpstreamDown):
        return 0
    retry_after = parse_retry_after(error.extra_headers.get("Retry-After", ""))
    return retry_after if retry_after <= _LONGEST_RETRY_AFTER else float("inf")
