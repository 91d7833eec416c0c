"""GET /v2/_drip: bytes that come slowly, to show whether a front keeps them back (app.doctor)."""

import time
from collections.abc import Iterator
from typing import Final

from flask import Blueprint, Response

bp = Blueprint("drip", __name__)

PAUSE: Final = 1.0
_PIECE: Final = b"drip\n" * 20
_PIECES: Final = 2


@bp.get("/v2/_drip")
def drip() -> Response:
    """Send a little, pause, and send as much again; no registry is asked, and none is named so."""
    fields = {"Content-Length": str(_PIECES * len(_PIECE)), "Cache-Control": "no-store"}
    body = _pieces()
    return Response(body, headers=fields, mimetype="text/plain", direct_passthrough=True)


def _pieces() -> Iterator[bytes]:
    yield _PIECE
    time.sleep(PAUSE)
    yield _PIECE
