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

from app.oci.errors import (
    OutboundProxyFails,
    UpstreamDown,
    UpstreamTimeout,
    UpstreamUnavailable,
    UpstreamUnreachable,
    UpstreamUnresolved,
    UpstreamUntrusted,
)
from app.source import NOBODY, Event, Observer
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

_SHORT: Final = 0.1
"""The longest pause, in seconds, that a caller with a fallback waits: the first pause only."""

_LONGEST_TOLD: Final = 5
"""The longest Retry-After, in seconds, that is waited for here; a longer one goes to the client."""

_HURRIED_BUDGET: Final = 8.0
_HURRIED_PATIENCE: Final = 6.0
_HURRIED_WHOLE: Final = 12.0
"""The limits of `Retrier` for pings and tokens, in seconds: Docker waits 15 seconds for one, and
then sends no other request."""

_FOREVER: Final = float("inf")

_PASSING: Final = frozenset({
    HTTPStatus.INTERNAL_SERVER_ERROR, HTTPStatus.BAD_GATEWAY, HTTPStatus.SERVICE_UNAVAILABLE,
    HTTPStatus.GATEWAY_TIMEOUT,
})  # fmt: skip
"""Statuses that may be gone when the request is repeated."""


_Failures = tuple[type[UpstreamUnavailable], ...]

_UNASKED: Final[_Failures] = (UpstreamUnreachable, UpstreamUnresolved)
"""Failures before any byte of the request was sent."""

_ABSENT: Final[_Failures] = (*_UNASKED, OutboundProxyFails, UpstreamTimeout)
"""Failures that another attempt within two seconds hardly ever fixes."""


class Retrier:
    """Sends a request that may be repeated (GET or HEAD) up to four times, within a budget."""

    def __init__(
        self,
        budget: float,
        patience: float = _FOREVER,
        whole: float = _FOREVER,
        observer: Observer = NOBODY,
    ) -> None:
        """Limit the attempts in time; all three limits are in seconds.

        `budget`: no attempt begins later than this after the first.
        `patience`: how long each attempt may take, redirects and slow responses included.
        `whole`: how long all attempts may take together.
        """
        self._budget = budget
        self._patience = patience
        self._total_limit = whole
        self._observer = observer

    @classmethod
    def for_quick_requests(cls, budget: float, observer: Observer = NOBODY) -> Self:
        """Return a Retrier for pings and tokens, for which clients wait only some seconds."""
        return cls(min(budget, _HURRIED_BUDGET), _HURRIED_PATIENCE, _HURRIED_WHOLE, observer)

    def __call__(self, ask: Callable[[Call], requests.Response], call: Call) -> requests.Response:
        """Call `ask` until its response is worth passing on; return that response or the last one.

        `ask` takes `call`, with the deadline of its attempt.
        A caller that has a fallback does not wait long. If the host is unreachable or timed out,
        `ask` is called only once. If it cut the connection or answered 5xx, `ask` is called once
        more, after the first pause.
        Raise what the last call of `ask` raised, or ClientGone if its client disconnects.
        """
        return self._repeat(ask, call, (UpstreamUnavailable,), _is_transient, call.has_fallback)

    def retry_connecting(
        self, ask: Callable[[Call], requests.Response], call: Call
    ) -> requests.Response:
        """Return the response to a request that must be sent only once, such as a POST.

        Repeat it only if no byte of it was sent.
        Raise what the last call of `ask` raised, or ClientGone if its client disconnects.
        """
        return self._repeat(ask, call, _UNASKED, lambda _: False)

    def _repeat(
        self,
        ask: Callable[[Call], requests.Response],
        call: Call,
        failure: _Failures,
        is_passing: Callable[[requests.Response], bool],
        has_fallback: Callable[[], bool] | None = None,
    ) -> requests.Response:
        now = time.monotonic()
        deadline, end = now + self._budget, now + self._total_limit

        def attempt() -> requests.Response:
            return ask(call.limit_time(min(self._patience, end - time.monotonic())))

        is_over = partial(_should_stop, deadline, has_fallback)
        for pause in _PAUSES:
            wait = pause * random.uniform(0.5, 1.5)  # noqa: S311 - no secret
            try:
                response = attempt()
            except failure as error:
                wait = max(wait, _choose_pause(error, first=pause == _PAUSES[0]))
                if is_over(wait, error):
                    raise
                _log_retry(error)
            else:
                wait = max(wait, get_retry_after(response))
                if not is_passing(response) or is_over(wait):
                    return response
                fields = {"status": response.status_code, "url": redact_url(response.url)}
                logger.warning("Retrying an upstream request.", extra={"fields": fields})
                discard(response, call)
            sleep(wait, call.client)
            self._observer.observe(Event.RETRIED)
        return attempt()


def _should_stop(
    deadline: float,
    has_fallback: Callable[[], bool] | None,
    wait: float,
    error: UpstreamUnavailable | None = None,
) -> bool:
    """Return True if no other attempt follows after `wait` seconds.

    It would be too late, or the caller has a fallback and the attempt is not worth the wait.
    """
    if time.monotonic() + wait > deadline:
        return True
    is_long = wait > _SHORT or isinstance(error, _ABSENT)
    return is_long and has_fallback is not None and has_fallback()


def _log_retry(error: UpstreamUnavailable) -> None:
    """Log why an upstream is asked again, unless that has been logged already.

    `errors.translate_error` logs the exceptions of requests, and the circuit breaker logs that it
    opened. Nothing else logs a body that breaks.
    """
    told = isinstance(error, UpstreamDown | UpstreamUnresolved)
    if not told and not isinstance(error.__cause__, FAILURES):
        logger.warning("Retrying an upstream request.", extra={"fields": {"error": str(error)}})


def _is_transient(response: requests.Response) -> bool:
    return response.status_code in _PASSING and get_retry_after(response) <= _LONGEST_TOLD


def get_retry_after(response: requests.Response) -> float:
    """Return the seconds of the response's Retry-After, as `parse_retry_after` does."""
    return parse_retry_after(response.headers.get("Retry-After", ""))


def parse_retry_after(told: str) -> float:
    """Return the seconds of a Retry-After (RFC 9110, section 10.2.3): 0 if it is empty.

    Return infinity for a date, which always means too long, and for anything else.
    """
    told = told.strip()
    if not told:
        return 0
    return float(told[:9]) if told.isascii() and told.isdecimal() else float("inf")


def _choose_pause(error: UpstreamUnavailable, *, first: bool) -> float:
    """Return the least number of seconds to wait; infinity if another attempt would not help.

    An open circuit breaker ends a request whose first attempt it refuses. A request that has made
    an attempt waits for the breaker's next probe.
    """
    if isinstance(error, UpstreamUntrusted) or (first and isinstance(error, UpstreamDown)):
        return float("inf")
    if not isinstance(error, UpstreamDown):
        return 0
    told = parse_retry_after(error.extra_headers.get("Retry-After", ""))
    return told if told <= _LONGEST_TOLD else float("inf")
