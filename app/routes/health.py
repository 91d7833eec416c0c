"""GET /health: this process is up; with ?upstream, or ?upstream=<registry>: that answers too."""

from http import HTTPStatus
from typing import Final

from flask import Blueprint, Response, jsonify, request

from app.oci.errors import RegistryError
from app.routes.rooms import rooms, source
from app.version import VERSION

bp = Blueprint("health", __name__)

_DEFAULT: Final = frozenset({"", "1", "true"})
"""What `?upstream` may say without naming a registry."""


@bp.get("/health")
def health() -> Response:
    """Answer 200; asked about the upstream, 503 where it does not answer."""
    about = {"status": "ok", "version": VERSION}
    if "upstream" not in request.args:
        return jsonify(about)
    named = request.args["upstream"]
    name = None if named in _DEFAULT else named
    registry = rooms().registries.select(ns=name, host="").registry
    try:
        source(registry).reach()
    except RegistryError as error:
        response = jsonify(about | {"status": "degraded", "upstream": str(error)})
        response.status_code = HTTPStatus.SERVICE_UNAVAILABLE
        return response
    return jsonify(about | {"upstream": "ok"})
