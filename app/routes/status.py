"""The state of this proxy: /health, /metrics, /figures, and a probe for buffering servers.

GET /health says that this process is up. Its query adds checks:

?upstream, or ?upstream=<registry>    whether that registry answers
?cache                                whether the cache can keep anything
"""

import time
from collections.abc import Iterator
from http import HTTPStatus
from typing import Final

from flask import Blueprint, Response, jsonify

from app.oci.errors import FiguresRefused, RegistryError, Unsupported
from app.routes.context import FiguresReader, RequestContext, Services, get_context
from app.version import VERSION

# GET /metrics and /figures: the same figures for Prometheus and for the page.

metrics_bp = Blueprint("metrics", __name__)


@metrics_bp.get("/metrics")
def metrics() -> Response:
    """Return all series of all workers, in the text format of Prometheus.

    Raise Unsupported if metrics are off, FiguresRefused if the client may not see them.
    """
    text = _require_figures().format_exposition()
    response = Response(text, content_type="text/plain; version=0.0.4; charset=utf-8")
    response.headers["Cache-Control"] = "no-store"
    return response


@metrics_bp.get("/figures")
def figures() -> Response:
    """Return the figures that the page shows; raise Unsupported or FiguresRefused."""
    response = jsonify(_require_figures().build_summary() | {"version": VERSION})
    response.headers["Cache-Control"] = "no-store"
    return response


def _require_figures() -> FiguresReader:
    context = get_context()
    figures_reader = context.services.figures
    if figures_reader is None:
        raise Unsupported
    if not may_see_figures(context):
        raise FiguresRefused
    context.services.access_log.flush()
    return figures_reader


def may_see_figures(context: RequestContext) -> bool:
    """Return whether the client is in a network that may see figures.

    If figures are restricted, a client whose address is unknown may not see them.
    """
    services, environ = context.services, context.request.environ
    if services.figures_networks.includes_all:
        return True
    address = context.client.address
    # A request without an address came through a Unix socket, from this machine.
    allowed = not address or address in services.figures_networks
    return allowed and services.forwarded.is_client_known(environ)


# GET /v2/_drip: sends bytes slowly, to show whether a server in front buffers them (app.doctor).

drip_bp = Blueprint("drip", __name__)

PAUSE: Final = 1.0
_CHUNK: Final = b"drip\n" * 20
_CHUNK_COUNT: Final = 2


@drip_bp.get("/v2/_drip")
def drip() -> Response:
    """Return a body of two pieces with a pause of one second between them.

    No registry is asked, and no repository can have this path.
    """
    fields = {"Content-Length": str(_CHUNK_COUNT * len(_CHUNK)), "Cache-Control": "no-store"}
    body = _generate_pieces()
    return Response(body, headers=fields, mimetype="text/plain", direct_passthrough=True)


def _generate_pieces() -> Iterator[bytes]:
    yield _CHUNK
    time.sleep(PAUSE)
    yield _CHUNK


health_bp = Blueprint("health", __name__)

_DEFAULT_VALUES: Final = frozenset({"", "1", "true"})
"""Values of `?upstream` that name no registry and so mean the default."""

_OK: Final = "ok"


@health_bp.get("/health")
def health() -> Response:
    """Return 200, or 503 if a check that the query asks for fails."""
    context = get_context()
    checks = context.request.args
    document = {"status": _OK, "version": VERSION}
    if "upstream" in checks:
        document |= {"upstream": _check_upstream(context.services, checks["upstream"])}
    if "cache" in checks:
        document |= _check_cache(context.services)
    is_healthy = document.get("upstream", _OK) == _OK and "cache_error" not in document
    if is_healthy:
        return jsonify(document)
    response = jsonify(document | {"status": "degraded"})
    response.status_code = HTTPStatus.SERVICE_UNAVAILABLE
    return response


def _check_upstream(services: Services, value: str) -> str:
    """Return `ok`, or the reason why a registry does not answer."""
    name = None if value in _DEFAULT_VALUES else value
    registry = services.registries.select(ns=name, host="").registry
    try:
        services.get_source(registry).reach()
    except RegistryError as error:
        return str(error)
    return _OK


def _check_cache(services: Services) -> dict[str, str]:
    """Return `ok`, `off`, or why the cache keeps nothing.

    In that case `cache` has a text for people, and `cache_error` one word for programs.
    """
    cache = services.cache
    if cache is None:
        return {"cache": "off"}
    state = cache.read_state()
    if not state.fault:
        return {"cache": _OK}
    return {"cache": state.reason, "cache_error": state.fault}
