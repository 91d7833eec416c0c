"""What a client asks, as a source takes it."""

import time

from flask import g

from app.content import Request
from app.oci import via
from app.registries import Selection
from app.routes.connection import ClientConnection
from app.routes.credentials import passed_up
from app.routes.present import present


def asked(selection: Selection, query: str = "") -> Request:
    """Return the client's request, with no credentials but the registry's own.

    Views ask a source right after. Raise Unauthorized or LoopDetected.
    """
    request = present()
    g.asked_at = time.monotonic()
    return Request(
        method=request.method,
        headers=via.marked(passed_up(selection, list(request.headers.items()))),
        query=query,
        client=ClientConnection(request.environ),
    )
