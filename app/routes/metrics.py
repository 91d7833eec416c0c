"""GET /metrics and /figures: what is counted, for machines and for the page."""

from flask import Blueprint, Response, jsonify

from app.oci.access_errors import FiguresRefused
from app.oci.errors import Unsupported
from app.routes.rooms import Figures, may_see_figures, rooms
from app.version import VERSION

bp = Blueprint("metrics", __name__)


@bp.get("/metrics")
def metrics() -> Response:
    """Answer with all series of all workers, in the text format of Prometheus."""
    text = _figures().exposition()
    response = Response(text, content_type="text/plain; version=0.0.4; charset=utf-8")
    response.headers["Cache-Control"] = "no-store"
    return response


@bp.get("/figures")
def figures() -> Response:
    """Answer with what the page shows."""
    response = jsonify(_figures().shown() | {"version": VERSION})
    response.headers["Cache-Control"] = "no-store"
    return response


def _figures() -> Figures:
    shown = rooms().figures
    if shown is None:
        raise Unsupported
    if not may_see_figures():
        raise FiguresRefused
    rooms().afterwards.tell_all()
    return shown
