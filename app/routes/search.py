"""GET /v1/search: what `docker search <this proxy>/<words>` asks, passed to Docker Hub's index."""

import time
from typing import Final
from urllib.parse import urlencode

from flask import Blueprint, Response, g, jsonify, request

from app.oci import headers
from app.oci.errors import Unsupported
from app.registries import DOCKER_HUB, Selection
from app.routes.connection import ClientConnection
from app.routes.context import chosen, host, rooms
from app.routes.relay import relay
from app.source import Request

bp = Blueprint("search", __name__, url_prefix="/v1")

_LONGEST: Final = 256
_COUNT, _MOST = 25, 100
"""Results in a page: what Docker asks for by itself, and what it may be told to ask for."""
_LAST_PAGE: Final = 1000


@bp.get("/_ping")
def ping() -> Response:
    """Tell Docker, which asks before it searches, whether logins are for this."""
    _registry()
    # Docker sends a login along where this is true, and over https only.
    is_asked = rooms().guard is not None
    response = jsonify({"standalone": is_asked})
    response.headers["X-Docker-Registry-Standalone"] = str(is_asked).lower()
    return response


@bp.get("/search")
def search() -> Response:
    """Search Docker Hub as nobody: a login that the client sends goes no further."""
    selection = _registry()
    index = rooms().index
    if index is None:
        raise Unsupported
    query = {
        "q": request.args.get("q", "")[:_LONGEST],
        "n": _number("n", _COUNT, _MOST),
        "page": _number("page", 1, _LAST_PAGE),
    }
    ways = [("Via", way) for way in request.headers.getlist("Via")]
    g.asked_at = time.monotonic()
    asked = Request(
        method="GET",
        headers=headers.marked(ways),
        query=urlencode(query, errors="replace"),
        client=ClientConnection(request.environ),
    )
    return relay(index.search(asked), selection)


def _registry() -> Selection:
    """Return Docker Hub, for which alone there is an index; raise Unsupported elsewhere."""
    selection = chosen(ns=None, host=host())
    if selection.registry.name != DOCKER_HUB:
        raise Unsupported
    return selection


def _number(name: str, usual: int, most: int) -> int:
    text = request.args.get(name, "")
    is_number = text.isascii() and text.isdecimal()
    return min(max(int(text[:9]), 1), most) if is_number else usual
