"""GET /v1/search: relays `docker search <this proxy>/<words>` to Docker Hub's index."""

from typing import Final
from urllib.parse import urlencode

from flask import Blueprint, Request, Response, jsonify

from app.oci import headers
from app.oci.errors import Unsupported
from app.registries import DOCKER_HUB, Selection
from app.routes.addressing import select_registry
from app.routes.context import RequestContext, get_context
from app.routes.relay import relay
from app.source import Request as SourceRequest

bp = Blueprint("search", __name__, url_prefix="/v1")

_MAX_QUERY_LENGTH: Final = 256
_DEFAULT_COUNT, _MAX_COUNT = 25, 100
"""Results in a page: Docker's default, and the most that its user may ask for."""
_MAX_PAGE: Final = 1000


@bp.get("/_ping")
def ping() -> Response:
    """Return the answer to Docker's question before a search: whether it should send its login.

    Raise Unsupported if the host stands for a registry other than Docker Hub.
    """
    context = get_context()
    _require_docker_hub(context)
    # Docker sends a login with the search if this is true, and only over https.
    needs_login = context.services.guard is not None
    response = jsonify({"standalone": needs_login})
    response.headers["X-Docker-Registry-Standalone"] = str(needs_login).lower()
    return response


@bp.get("/search")
def search() -> Response:
    """Return the results of an anonymous search of Docker Hub; a client's login is not passed on.

    Raise Unsupported if there is no index, or if the host stands for another registry.
    """
    context = get_context()
    request = context.request
    selection = _require_docker_hub(context)
    index = context.services.index
    if index is None:
        raise Unsupported
    query = {
        "q": request.args.get("q", "")[:_MAX_QUERY_LENGTH],
        "n": _parse_number(request, "n", _DEFAULT_COUNT, _MAX_COUNT),
        "page": _parse_number(request, "page", 1, _MAX_PAGE),
    }
    via_headers = [("Via", via) for via in request.headers.getlist("Via")]
    context.note_call()
    source_request = SourceRequest(
        method="GET",
        headers=headers.mark_via(via_headers),
        query=urlencode(query, errors="replace"),
        client=context.connection,
    )
    return relay(context, index.search(source_request), selection)


def _require_docker_hub(context: RequestContext) -> Selection:
    """Return Docker Hub, the only registry with an index; raise Unsupported for any other."""
    selection = select_registry(context, ns=None, host=context.host)
    if selection.registry.name != DOCKER_HUB:
        raise Unsupported
    return selection


def _parse_number(request: Request, name: str, default: int, maximum: int) -> int:
    text = request.args.get(name, "")
    is_number = text.isascii() and text.isdecimal()
    return min(max(int(text[:9]), 1), maximum) if is_number else default
