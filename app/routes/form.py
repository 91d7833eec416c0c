"""The body of a request, read whole and in time."""

import contextlib

from flask import request
from werkzeug.exceptions import ClientDisconnected, RequestEntityTooLarge, RequestTimeout

from app.routes.connection import ClientConnection
from app.routes.rooms import rooms


def received() -> bytes:
    """Read a form, of `request.max_content_length` bytes at the most.

    Who begins one and does not end it in time is cut.
    """
    form = None
    with (
        ClientConnection(request.environ).read_within(rooms().write_timeout) as late,
        contextlib.suppress(ClientDisconnected),  # werkzeug's word for a body that does not come
    ):
        form = request.get_data(cache=False)
    # What came of a body that ends early, or goes on too long, is handed over like a whole one.
    if form is None or len(form) < (request.content_length or 0):
        raise RequestTimeout if late.is_set() else ClientDisconnected
    if len(form) >= (request.max_content_length or len(form) + 1):
        raise RequestEntityTooLarge
    return form
