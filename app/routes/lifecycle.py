"""What every answer carries, and the one log line that every request leaves."""

import re
import secrets
import time
from dataclasses import dataclass
from typing import Any, Final

from flask import Flask, Response, g

from app.events import Exchange, current, is_low
from app.logs import request_id
from app.routes.access_log import Afterwards, Ended
from app.routes.context import client, present, rooms
from app.routes.relay import RelayedBody

_LOGGED: Final = 512
"""Characters of what a client sends that a line has at the most."""

_CACHE: Final = "docxy; "
"""How begins what this proxy's cache says of an answer (RFC 9211)."""

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
"""What endpoints are called where they are counted; any other goes by its blueprint."""


def register(app: Flask) -> None:
    """Begin and end every request of an application."""
    app.before_request(_begin)
    app.after_request(_finish)


def _begin() -> None:
    request = present()
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
    # Added, not set: `headers.pass_down` lets none of these through from an upstream.
    fields = response.headers
    fields.add("X-Request-ID", request_id.get())
    # What comes from an upstream is never a page of ours; our own says what it may.
    fields.add("X-Content-Type-Options", "nosniff")
    fields.add("Content-Security-Policy", g.get("content_security_policy", "sandbox"))
    if present().path.startswith("/v2"):
        fields.add("Docker-Distribution-Api-Version", "registry/2.0")
    exchange: Exchange = g.exchange
    if (budget := exchange.budget) is not None and is_low(budget):
        left = f"{budget.remaining} of {budget.limit} pulls"
        fields.add("Warning", f'299 - "{exchange.registry} has {left} left for this client"')
    exchange.status, exchange.first_byte = response.status_code, exchange.seconds()
    body: RelayedBody | None = g.get("body")
    is_one_of_many = "gunicorn.socket" in present().environ
    ending = _Ending(exchange, rooms().afterwards, _line(response), _waited(), body, is_one_of_many)
    response.call_on_close(ending.end)
    return response


def _line(response: Response) -> dict[str, Any]:
    request = present()
    line = {
        "method": request.method,
        "path": request.path[:_LOGGED],
        "status": response.status_code,
        "bytes": 0 if request.method == "HEAD" else response.content_length or 0,
        "client": client().address,
        "request_id": request_id.get(),
        "agent": request.headers.get("User-Agent", "")[:_LOGGED],
    }
    if user := g.exchange.user:
        line["user"] = user
    # Other caches on the way say before it what they did.
    told = [one for one in response.headers.getlist("Cache-Status") if one.startswith(_CACHE)]
    return line | {"cache": told[-1].removeprefix(_CACHE)[:_LOGGED]} if told else line


def _waited() -> float:
    """Return the seconds from the question to a source until its answer."""
    asked_at: float | None = g.get("asked_at")
    return time.monotonic() - asked_at if asked_at else 0.0


@dataclass(slots=True)
class _Ending:
    """What is left to do where the body ends."""

    exchange: Exchange
    afterwards: Afterwards
    line: dict[str, Any]
    waited: float
    body: RelayedBody | None
    is_one_of_many: bool

    def end(self) -> None:
        """Note what only the end shows, to be logged and counted."""
        line, exchange = self.line, self.exchange
        exchange.took = exchange.seconds()
        if self.body is not None:
            self._add_body(self.body)
        exchange.sent = line["bytes"]
        line["upstream_seconds"] = self.waited
        request_id.set("")
        current.set(None)
        ended = Ended(exchange, line, time.time())
        if self.is_one_of_many:
            self.afterwards.add(ended)
        else:
            self.afterwards.tell([ended])

    def _add_body(self, body: RelayedBody) -> None:
        line = self.line
        line["bytes"] = body.sent
        self.waited += body.waited
        if body.handed_over:
            line["handed_over"] = True
        if not body.complete:
            line["incomplete"] = True
        if body.broken:
            line["broken"] = body.broken
