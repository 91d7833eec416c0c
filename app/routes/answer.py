"""What every answer carries, and the one log line that every request leaves."""

import logging
import re
import secrets
import time
from functools import partial
from typing import Any, Final

from flask import Flask, Response, g, request

from app.logs import request_id
from app.routes.relay import RelayedBody
from app.routes.rooms import rooms

logger = logging.getLogger("app.access")

_LOGGED: Final = 512
"""Characters of what a client sends that a line has at the most."""

_CACHE: Final = "docxy; "
"""How begins what this proxy's cache says of an answer (RFC 9211)."""

_REQUEST_ID: Final = re.compile(r"[A-Za-z0-9._:/+=-]{1,128}")


def register(app: Flask) -> None:
    """Begin and end every request of an application."""
    app.before_request(_begin)
    app.after_request(_finish)


def _begin() -> None:
    g.started = time.monotonic()
    told = request.headers.get("X-Request-ID", "")
    g.request_id = told if _REQUEST_ID.fullmatch(told) else secrets.token_hex(16)
    request_id.set(g.request_id)


def _finish(response: Response) -> Response:
    # Added, not set: `headers.pass_down` lets none of these through from an upstream.
    fields = response.headers
    fields.add("X-Request-ID", g.request_id)
    # What comes from an upstream is never a page of ours.
    fields.add("X-Content-Type-Options", "nosniff")
    fields.add("Content-Security-Policy", "sandbox")
    if request.path.startswith("/v2"):
        fields.add("Docker-Distribution-Api-Version", "registry/2.0")
    response.call_on_close(partial(_log, g.started, _waited(), _line(response), g.get("body")))
    return response


def _line(response: Response) -> dict[str, Any]:
    line = {
        "method": request.method,
        "path": request.path[:_LOGGED],
        "status": response.status_code,
        "bytes": 0 if request.method == "HEAD" else response.content_length or 0,
        "client": rooms().forwarded.client(request.environ),
        "request_id": g.request_id,
        "agent": request.headers.get("User-Agent", "")[:_LOGGED],
    }
    # Other caches on the way say before it what they did.
    told = [one for one in response.headers.getlist("Cache-Status") if one.startswith(_CACHE)]
    return line | {"cache": told[-1].removeprefix(_CACHE)[:_LOGGED]} if told else line


def _waited() -> float:
    """Return the seconds from the question to a source until its answer."""
    asked_at: float | None = g.get("asked_at")
    return time.monotonic() - asked_at if asked_at else 0.0


def _log(started: float, waited: float, line: dict[str, Any], body: RelayedBody | None) -> None:
    if body is not None:
        line["bytes"] = body.sent
        waited += body.waited
        if body.handed_over:
            line["handed_over"] = True
        if not body.complete:
            line["incomplete"] = True
        if body.broken:
            line["broken"] = body.broken
    line["seconds"] = round(time.monotonic() - started, 3)
    line["upstream_seconds"] = round(waited, 3)
    logger.info("Request.", extra={"fields": line})
    request_id.set("")
