"""GET /health: this process is up; what its query names is looked at as well.

?upstream, or ?upstream=<registry>    does that registry answer
?cache                                can the cache keep anything
"""

from http import HTTPStatus
from typing import Final

from flask import Blueprint, Response, jsonify, request

from app.oci.errors import RegistryError
from app.routes.rooms import rooms, source
from app.version import VERSION

bp = Blueprint("health", __name__)

_DEFAULT: Final = frozenset({"", "1", "true"})
"""What `?upstream` may say without naming a registry."""

_OK: Final = "ok"


@bp.get("/health")
def health() -> Response:
    """Answer 200, or 503 if something is wrong with what was asked about."""
    about = {"status": _OK, "version": VERSION}
    if "upstream" in request.args:
        about |= {"upstream": _upstream(request.args["upstream"])}
    if "cache" in request.args:
        about |= _cache()
    is_well = about.get("upstream", _OK) == _OK and "cache_error" not in about
    if is_well:
        return jsonify(about)
    response = jsonify(about | {"status": "degraded"})
    response.status_code = HTTPStatus.SERVICE_UNAVAILABLE
    return response


def _upstream(named: str) -> str:
    """Return `ok`, or why a registry does not answer."""
    name = None if named in _DEFAULT else named
    registry = rooms().registries.select(ns=name, host="").registry
    try:
        source(registry).reach()
    except RegistryError as error:
        return str(error)
    return _OK


def _cache() -> dict[str, str]:
    """Return `ok`, `off`, or why nothing is kept: to people, and in one word to programs."""
    cache = rooms().cache
    if cache is None:
        return {"cache": "off"}
    state = cache.state()
    if not state.fault:
        return {"cache": _OK}
    return {"cache": state.reason, "cache_error": state.fault}
