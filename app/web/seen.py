"""What whoever asks sees of this proxy."""

from urllib.parse import urlsplit

from flask import request

from app.routes.rooms import rooms
from app.web.proxy import Proxy


def seen() -> Proxy:
    """Return this proxy by the address that the client has asked; raise HostInvalid."""
    registries = rooms().registries
    url = rooms().forwarded.base_url(request.environ)
    host = urlsplit(url).hostname or ""
    alone = registries.select(ns=None, host=host).registry if host in registries.hosts else None
    has_users = rooms().guard is not None
    return Proxy(url=url, registries=registries, only=alone, has_users=has_users)
