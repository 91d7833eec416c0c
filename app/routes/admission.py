"""Who may ask at all: decided before any view, and so before any registry is asked."""

from typing import Final

from flask import Flask

from app.access.lists import Lists
from app.oci.access_errors import ClientHidden, ClientRefused
from app.routes.present import present
from app.routes.rooms import client

_FOR_EVERYBODY: Final = "health.health"
"""What balancers and orchestrators ask, from wherever they are."""


def register(app: Flask, lists: Lists) -> None:
    """Let in who the lists admit; without any list requests are not even looked at."""
    if lists.are_open:
        return

    def admit() -> None:
        if present().endpoint == _FOR_EVERYBODY:
            return
        asking = client()
        if not asking.is_known:
            raise ClientHidden
        if not lists.admit(asking.address):
            raise ClientRefused

    app.before_request(admit)
