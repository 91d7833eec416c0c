"""Who may ask at all: decided before any view, and so before any registry is asked."""

from typing import Final

from flask import Flask

from app.access.lists import Lists
from app.oci.errors import ClientHidden, ClientRefused
from app.routes.present import present
from app.routes.rooms import rooms

_FOR_EVERYBODY: Final = "health.health"
"""What balancers and orchestrators ask, from wherever they are."""


def register(app: Flask, lists: Lists) -> None:
    """Let in who the lists admit; without any list requests are not even looked at."""
    if lists.are_open:
        return

    def admit() -> None:
        request = present()
        if request.endpoint == _FOR_EVERYBODY:
            return
        forwarded, environ = rooms().forwarded, request.environ
        client = forwarded.client(environ)
        # Through a Unix socket everybody comes without an address but for what a server tells.
        if not client or not forwarded.is_known(environ):
            raise ClientHidden
        if not lists.admit(client):
            raise ClientRefused

    app.before_request(admit)
