"""Which of a client's credentials go up: only those that are the registry's own."""

import json
import re
from http import HTTPStatus
from typing import Any, Final

from app.content import Reply, replied
from app.oci import headers
from app.oci.errors import Unauthorized, UpstreamMisbehaved
from app.oci.headers import Headers
from app.registries import Registry, Selection
from app.routes import naming
from app.routes.rooms import rooms

_TOKEN: Final = re.compile(r"[\x21-\x2b\x2d-\x7e]+")
"""No space and no comma: two Authorization lines come here as one, with a comma between them."""


def passed_up(selection: Selection, fields: Headers) -> Headers:
    """Return a client's headers with an Authorization only where it is the registry's.

    Raise Unauthorized for a token that is another registry's (design.md, section 4).
    """
    authorization = headers.value(fields, "authorization")
    if not authorization:
        return fields
    scheme, _, token = authorization.partition(" ")
    others = headers.without(fields, "authorization")
    if selection.registry.managed:
        return others
    if scheme.lower() != "bearer":
        return fields if selection.takes_logins else others
    owner, untagged = rooms().registries.tag_owner(token)
    if owner is selection.registry and _TOKEN.fullmatch(untagged):
        return [*others, ("Authorization", f"{scheme} {untagged}")]
    if owner is None and not selection.tagged:
        return fields
    raise Unauthorized(headers={"WWW-Authenticate": str(naming.own_challenge(selection))})


def is_foreign(selection: Selection, token: str) -> bool:
    """Tell whether a refresh token is not the registry's."""
    owner, _ = rooms().registries.tag_owner(token)
    return owner is not selection.registry and (owner is not None or selection.tagged)


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
