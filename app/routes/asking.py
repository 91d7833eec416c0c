"""What a client asks, as a source takes it."""

import time

from flask import g

from app.content import Request
from app.oci import via
from app.oci.reference import Reference
from app.registries import Address, Selection
from app.routes.connection import ClientConnection
from app.routes.credentials import passed_up
from app.routes.present import present
from app.routes.rooms import permit


def asked(selection: Selection, query: str = "", reference: Reference | None = None) -> Request:
    """Return the client's request, with no credentials but the registry's own.

    `reference` is the manifest's that is asked for.
    Views ask a source right after. Raise Unauthorized or LoopDetected.
    """
    request = present()
    g.asked_at = time.monotonic()
    return Request(
        method=request.method,
        headers=via.marked(passed_up(selection, list(request.headers.items()))),
        query=query,
        client=ClientConnection(request.environ),
        permit=permit(selection, reference) if isinstance(selection, Address) else None,
    )
