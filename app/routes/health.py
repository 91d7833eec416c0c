"""GET /health: this process is up; with ?upstream also: the default registry answers."""

from http import HTTPStatus

from flask import Blueprint, Response, jsonify, request

from app.oci.errors import RegistryError
from app.routes.rooms import rooms, source
from app.version import VERSION

bp = Blueprint("health", __name__)


@bp.get("/health")
def health() -> Response:
    """Answer 200; asked about the upstream, 503 where it does not answer."""
    about = {"status": "ok", "version": VERSION}
    if "upstream" not in request.args:
        return jsonify(about)
    registry = rooms().registries.default
    try:
        source(registry).reach()
    except RegistryError as error:
        response = jsonify(about | {"status": "degraded", "upstream": str(error)})
        response.status_code = HTTPStatus.SERVICE_UNAVAILABLE
        return response
    return jsonify(about | {"upstream": "ok"})
