"""Who may ask at all, and on how many connections at once.

Decided before any view, and so before any registry is asked.
"""

import secrets
from functools import partial
from typing import Final

from flask import Flask, Response

from app.access.lists import Lists
from app.access.networks import site_of
from app.access.places import OwnPlaces
from app.oci.access_errors import ClientHidden, ClientRefused
from app.oci.limit_errors import ConnectionsReached
from app.routes.present import present
from app.routes.rooms import client, rooms

_PLACE: Final = "docxy.place"
"""Where a request's place is, by its address and its name."""

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


def share(app: Flask, most: int) -> None:
    """Let no address have more than so many requests at once, a download until its last byte.

    Each takes a connection of this process: one client that reads slowly could have all of them.
    """
    shares = _Shares(most)
    app.before_request(shares.enter)
    app.after_request(shares.leave_with)
    app.teardown_request(shares.leave)


class _Shares:
    """What is done before and after each request."""

    def __init__(self, most: int) -> None:
        self._places = OwnPlaces(most)

    def enter(self) -> None:
        """Take a place for a request, or raise ConnectionsReached."""
        request = present()
        if request.endpoint == _FOR_EVERYBODY:
            return
        if not rooms().forwarded.tells_clients_apart(request.environ):
            return
        place = site_of(client().address), secrets.token_hex(8)
        if not self._places.take(*place):
            raise ConnectionsReached(rule=ConnectionsReached.refused_by)
        request.environ[_PLACE] = place

    def leave_with(self, response: Response) -> Response:
        """Give the place back when the response has ended."""
        if place := present().environ.pop(_PLACE, None):
            response.call_on_close(partial(self._places.give, *place))
        return response

    def leave(self, error: BaseException | None) -> None:
        """Give back the place of a request that is cut before it has a response."""
        del error
        if place := present().environ.pop(_PLACE, None):
            self._places.give(*place)
