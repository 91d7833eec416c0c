"""What servers on the way may keep: nothing that is for some clients only.

Caches look at the URL, and at nothing of what is decided here: what one keeps goes to everybody.
"""

from typing import Final

from flask import Flask, Response

from app.oci.headers import FOR_CACHES
from app.routes.present import present
from app.routes.relay import KEPT_BY_NGINX

_OF_REGISTRIES: Final = frozenset({"challenge", "repository", "search"})
"""Blueprints of what a registry says, which may be public there."""

_NOBODY: Final = "private, no-store"


def register(app: Flask, *, all_are_equal: bool) -> None:
    """Let nobody keep what is not answered to every client alike."""
    if not all_are_equal:
        app.after_request(_keep_from_others)


def _keep_from_others(response: Response) -> Response:
    if (present().endpoint or "").partition(".")[0] in _OF_REGISTRIES:
        fields = response.headers
        by_nginx = KEPT_BY_NGINX["cache-control"]
        there = {name.lower() for name in fields.keys()}  # noqa: SIM118 - it iterates over pairs
        name = by_nginx if by_nginx.lower() in there else "Cache-Control"
        for one in there.intersection(FOR_CACHES) - {name.lower()}:
            fields.remove(one)
        fields.set(name, _NOBODY)
    return response
