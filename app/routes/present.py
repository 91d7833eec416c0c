"""The client's request itself.

Flask's `request` looks for it at each access, a dozen times for a small answer.
"""

from typing import cast

from flask import Request, request
from werkzeug.local import LocalProxy

_REQUEST = cast("LocalProxy[Request]", request)


def present() -> Request:
    """Return the request that this thread, or greenlet, serves."""
    return _REQUEST._get_current_object()  # noqa: SLF001 - which is how Werkzeug documents it
