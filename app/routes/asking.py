"""What a client asks, as a source takes it."""

import time
from typing import Final

from flask import g

from app.access.networks import site_of
from app.content import Payer, Request, Uncharged
from app.oci import via
from app.oci.reference import Reference
from app.registries import Address, Selection
from app.routes.connection import ClientConnection
from app.routes.credentials import passed_up
from app.routes.present import present
from app.routes.rooms import client, permit

PAYER: Final = "docxy.payer"
"""Where a request's payer is, if there are limits: its environ is at hand, `g` is looked up."""


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
        payer=request.environ.get(PAYER) or _uncharged(),
    )


def _uncharged() -> Payer:
    """Return the client as one that pays nothing, all addresses of a site as one."""
    return Uncharged(f"address {site_of(client().address)}")
