"""Which of a client's credentials go up: only those that are the registry's own."""

import base64
import binascii
import json
import re
import time
from http import HTTPStatus
from typing import Any, Final

from flask import g

from app.access.networks import site_of
from app.oci import headers
from app.oci.errors import Unauthorized, UpstreamMisbehaved
from app.oci.headers import Headers
from app.oci.reference import Reference
from app.registries import Address, Registry, Selection
from app.routes import client_naming
from app.routes.connection import ClientConnection
from app.routes.context import client, permit, present, rooms
from app.source import Payer, Reply, Request, Uncharged, replied

_TOKEN: Final = re.compile(r"[\x21-\x2b\x2d-\x7e]+")
"""No space and no comma."""


def passed_up(selection: Selection, fields: Headers) -> Headers:
    """Return a client's headers with an Authorization only where it is the registry's.

    Raise Unauthorized for a token that is another registry's
    (docs/decisions/addressing-and-credentials/tagged-tokens.md).
    """
    authorization = headers.value(fields, "authorization").strip()
    others = headers.without(fields, "authorization")
    if not authorization or selection.registry.managed:
        return others
    scheme = authorization.split(maxsplit=1)[0]
    is_login = scheme.lower() != "bearer"
    if is_login and not _is_own_login(selection, authorization):
        return others
    tags = rooms().registries.tags_in(authorization)
    # Two lines come here as one, with a comma between them: then it is no login alone.
    if not tags and (not selection.tagged or (is_login and "," not in authorization)):
        return fields
    owner, untagged = rooms().registries.tag_owner(authorization.removeprefix(f"{scheme} "))
    if tags == {selection.registry.name} and owner and _TOKEN.fullmatch(untagged) and not is_login:
        return [*others, ("Authorization", f"{scheme} {untagged}")]
    raise Unauthorized(headers={"WWW-Authenticate": str(client_naming.own_challenge(selection))})


def _is_own_login(selection: Selection, authorization: str) -> bool:
    """Tell whether a login may be the registry's: some clients send tokens as passwords."""
    if not selection.takes_logins:
        return False
    try:
        password = base64.b64decode(authorization.partition(" ")[2]).decode("latin-1")
    except (binascii.Error, ValueError):
        password = ""
    return rooms().registries.tags_in(password.partition(":")[2]) <= {selection.registry.name}


def is_foreign(selection: Selection, token: str) -> bool:
    """Tell whether a refresh token is not the registry's."""
    tags = rooms().registries.tags_in(token)
    return tags != ({selection.registry.name} if selection.tagged or tags else set())


def untagged(token: str) -> str:
    """Return a token as its registry gave it."""
    return rooms().registries.tag_owner(token)[1]


def tag(reply: Reply, registry: Registry) -> Reply:
    """Mark the tokens of an answer as the registry's; raise UpstreamMisbehaved if there are none.

    Clients of GET look for `token`, those of POST for `access_token`: both are there.
    """
    if reply.status != HTTPStatus.OK:
        return reply
    try:
        document = json.loads(b"".join(reply.body))
    except (ValueError, RecursionError):
        document = None
    finally:
        reply.close()
    tokens = _issued(document) if isinstance(document, dict) else {}
    if not tokens:
        message = f"the token service of {registry.name} gave no token"
        raise UpstreamMisbehaved(message)
    tagged = {name: f"{registry.tag}~{token}" for name, token in tokens.items()}
    return replied(HTTPStatus.OK, reply.headers, json.dumps({**document, **tagged}).encode())


def _issued(document: dict[str, Any]) -> dict[str, str]:
    """Return the tokens of an answer by their fields; an access token is in both of its."""
    found = {
        name: token
        for name in ("token", "access_token", "refresh_token")
        if isinstance(token := document.get(name), str) and token
    }
    access = found.get("token") or found.get("access_token")
    return {"token": access, "access_token": access, **found} if access else {}


# What a client asks, as a source takes it.

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
        headers=headers.marked(passed_up(selection, list(request.headers.items()))),
        query=query,
        client=ClientConnection(request.environ),
        permit=permit(selection, reference) if isinstance(selection, Address) else None,
        payer=request.environ.get(PAYER) or _uncharged(),
    )


def _uncharged() -> Payer:
    """Return the client as one that pays nothing, all addresses of a site as one."""
    return Uncharged(f"address {site_of(client().address)}")
