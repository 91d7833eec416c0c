"""Begins and ends every request: its Exchange, common response headers, and one log line."""

import re
import secrets
import time
from dataclasses import dataclass
from typing import Any, Final

from flask import Flask, Response, g

from app.events import Exchange, current, is_low
from app.logs import request_id
from app.routes.access_log import AccessLog, EndedRequest
from app.routes.context import get_client, get_request, get_services
from app.routes.relay import RelayedBody

_LOGGED: Final = 512
"""The most characters of a value sent by a client that go into a log line."""

_CACHE: Final = "docxy; "
"""The beginning of our own member in `Cache-Status` (RFC 9211)."""

_REQUEST_ID: Final = re.compile(r"[A-Za-z0-9._:/+=-]{1,128}")


_ROUTES: Final = {
    "challenge.challenge": "ping",
    "token.token": "token",
    "repository.manifest": "manifest",
    "repository.blob": "blob",
    "repository.tags": "tags",
    "repository.referrers": "referrers",
    "repository.unmatched": "other",
}
"""The names of endpoints in metrics; any other endpoint is counted under its blueprint."""


def register(app: Flask) -> None:
    """Install the hooks that begin and end every request of an application."""
    app.before_request(_begin)
    app.after_request(_finish)


def _begin() -> None:
    request = get_request()
    told = request.headers.get("X-Request-ID", "")
    request_id.set(told if _REQUEST_ID.fullmatch(told) else secrets.token_hex(16))
    asked = request.view_args or {}
    endpoint = request.endpoint or "other"
    exchange = g.exchange = Exchange(
        method=request.method,
        route=_ROUTES.get(endpoint) or endpoint.partition(".")[0],
        reference=asked.get("reference") or asked.get("digest") or "",
    )
    current.set(exchange)


def _finish(response: Response) -> Response:
    # Adding is enough: `headers.filter_response_headers` lets none of these through from an
    # upstream.
    fields = response.headers
    fields.add("X-Request-ID", request_id.get())
    # Content from an upstream never gets the rights of our page, which sets its own policy.
    fields.add("X-Content-Type-Options", "nosniff")
    fields.add("Content-Security-Policy", g.get("content_security_policy", "sandbox"))
    if get_request().path.startswith("/v2"):
        fields.add("Docker-Distribution-Api-Version", "registry/2.0")
    exchange: Exchange = g.exchange
    if (budget := exchange.budget) is not None and is_low(budget):
        left = f"{budget.remaining} of {budget.limit} pulls"
        fields.add("Warning", f'299 - "{exchange.registry} has {left} left for this client"')
    exchange.status, exchange.time_to_first_byte = response.status_code, exchange.seconds_elapsed()
    body: RelayedBody | None = g.get("body")
    is_one_of_many = "gunicorn.socket" in get_request().environ
    ending = _Ending(
        exchange,
        get_services().access_log,
        _build_line(response),
        _measure_wait(),
        body,
        is_one_of_many,
    )
    response.call_on_close(ending.end)
    return response


def _build_line(response: Response) -> dict[str, Any]:
    request = get_request()
    line = {
        "method": request.method,
        "path": request.path[:_LOGGED],
        "status": response.status_code,
        "bytes": 0 if request.method == "HEAD" else response.content_length or 0,
        "client": get_client().address,
        "request_id": request_id.get(),
        "user_agent": request.headers.get("User-Agent", "")[:_LOGGED],
    }
    if user := g.exchange.user:
        line["user"] = user
    # The members of other caches on the way come before ours.
    told = [one for one in response.headers.getlist("Cache-Status") if one.startswith(_CACHE)]
    return line | {"cache": told[-1].removeprefix(_CACHE)[:_LOGGED]} if told else line


def _measure_wait() -> float:
    """Return the seconds from the call of a source until now, or 0 if none was called."""
    asked_at: float | None = g.get("asked_at")
    return time.monotonic() - asked_at if asked_at else 0.0


@dataclass(slots=True)
class _Ending:
    """What remains to be done when the body ends; `wait_seconds` is in seconds."""

    exchange: Exchange
    access_log: AccessLog
    line: dict[str, Any]
    wait_seconds: float
    body: RelayedBody | None
    is_batched: bool

    def end(self) -> None:
        """Complete the log line with what only the end shows; log and count the request."""
        line, exchange = self.line, self.exchange
        exchange.duration = exchange.seconds_elapsed()
        if self.body is not None:
            self._add_body(self.body)
        exchange.bytes_sent = line["bytes"]
        line["upstream_seconds"] = self.wait_seconds
        request_id.set("")
        current.set(None)
        ended = EndedRequest(exchange, line, time.time())
        if self.is_batched:
            self.access_log.add(ended)
        else:
            self.access_log.write([ended])

    def _add_body(self, body: RelayedBody) -> None:
        line = self.line
        line["bytes"] = body.sent
        self.wait_seconds += body.wait_seconds
        if body.sent_by_nginx:
            line["sent_by_nginx"] = True
        if not body.is_complete:
            line["incomplete"] = True
        if body.failure:
            line["body_error"] = body.failure
