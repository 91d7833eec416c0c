"""GET /v1/search: relays `docker search <this proxy>/<words>` to Docker Hub's index."""

import time
from typing import Final
from urllib.parse import urlencode

from flask import Blueprint, Response, g, jsonify, request

from app.oci import headers
from app.oci.errors import Unsupported
from app.registries import DOCKER_HUB, Selection
from app.routes.connection import ClientConnection
from app.routes.context import get_host, get_services, select_registry
from app.routes.relay import relay
from app.source import Request

bp = Blueprint("search", __name__, url_prefix="/v1")

_LONGEST: Final = 256
_COUNT, _MOST = 25, 100
"""Results in a page: Docker's default, and the most that its user may ask for."""
_LAST_PAGE: Final = 1000


@bp.get("/_ping")
def ping() -> Response:
    """Return the answer to Docker's question before a search: whether it should send its login.

    Raise Unsupported if the host stands for another registry than Docker Hub.
    """
    _require_docker_hub()
    # Docker sends a login with the search if this is true, and only over https.
    is_asked = get_services().guard is not None
    response = jsonify({"standalone": is_asked})
    response.headers["X-Docker-Registry-Standalone"] = str(is_asked).lower()
    return response


@bp.get("/search")
def search() -> Response:
    """Return the results of an anonymous search of Docker Hub; a client's login is not passed on.

    Raise Unsupported if there is no index, or if the host stands for another registry.
    """
    selection = _require_docker_hub()
    index = get_services().index
    if index is None:
        raise Unsupported
    query = {
        "q": request.args.get("q", "")[:_LONGEST],
        "n": _parse_number("n", _COUNT, _MOST),
        "page": _parse_number("page", 1, _LAST_PAGE),
    }
    ways = [("Via", way) for way in request.headers.getlist("Via")]
    g.asked_at = time.monotonic()
    asked = Request(
        method="GET",
        headers=headers.mark_via(ways),
        query=urlencode(query, errors="replace"),
        client=ClientConnection(request.environ),
    )
    return relay(index.search(asked), selection)


def _require_docker_hub() -> Selection:
    """Return Docker Hub, the only registry with an index; raise Unsupported for any other."""
    selection = select_registry(ns=None, host=get_host())
    if selection.registry.name != DOCKER_HUB:
        raise Unsupported
    return selection


def _parse_number(name: str, usual: int, most: int) -> int:
    text = request.args.get(name, "")
    is_number = text.isascii() and text.isdecimal()
    return min(max(int(text[:9]), 1), most) if is_number else usual
