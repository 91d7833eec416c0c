"""Decides which of a client's credentials go to a registry: only those issued for it.

Clients keep one login for a host, so the tokens of any registry except the host's default go to the
client tagged with the registry's name (docs/decisions/addressing-and-credentials/tagged-tokens.md).
"""

import base64
import binascii
import json
import re
from http import HTTPStatus
from typing import Any, Final

from app.access.networks import derive_site
from app.oci import documents, headers
from app.oci.errors import Unauthorized, UpstreamMisbehaved
from app.oci.headers import Headers
from app.oci.reference import Operation
from app.registries import Registries, Registry, RepositoryAddress, Selection
from app.routes.addressing import build_challenge, build_permit
from app.routes.context import RequestContext
from app.source import Reply, Request, Unmetered, build_reply

_TOKEN_PATTERN: Final = re.compile(r"[\x21-\x2b\x2d-\x7e]+")
"""Visible ASCII without a space or a comma."""


def build_upstream_headers(
    context: RequestContext, selection: Selection, fields: Headers
) -> Headers:
    """Return a client's headers, with Authorization only if it belongs to the selected registry.

    The tag of a token is removed. A managed registry gets no credentials from clients.
    Raise Unauthorized for a token of another registry, or for one without a tag if this registry's
    tokens have one.
    """
    authorization = headers.get_first(fields, "authorization").strip()
    other_fields = headers.without(fields, "authorization")
    if not authorization or selection.registry.managed:
        return other_fields
    scheme = authorization.split(maxsplit=1)[0]
    is_login = scheme.lower() != "bearer"
    registries = context.services.registries
    if is_login and not _is_own_login(registries, selection, authorization):
        return other_fields
    tags = registries.find_token_tags(authorization)
    # Two Authorization lines arrive joined by a comma, so a value with a comma is not just a login.
    if not tags and (not selection.has_tagged_tokens or (is_login and "," not in authorization)):
        return fields
    owner, untagged = registries.split_token_tag(authorization.removeprefix(f"{scheme} "))
    if (
        tags == {selection.registry.name}
        and owner
        and _TOKEN_PATTERN.fullmatch(untagged)
        and not is_login
    ):
        return [*other_fields, ("Authorization", f"{scheme} {untagged}")]
    raise Unauthorized(headers={"WWW-Authenticate": str(build_challenge(context, selection))})


def _is_own_login(registries: Registries, selection: Selection, authorization: str) -> bool:
    """Return whether a login may go to the registry.

    Some clients send tokens as passwords, so a password tagged for another registry may not.
    """
    if not selection.accepts_logins:
        return False
    try:
        password = base64.b64decode(authorization.partition(" ")[2]).decode("latin-1")
    except (binascii.Error, ValueError):
        password = ""
    return registries.find_token_tags(password.partition(":")[2]) <= {selection.registry.name}


def is_foreign(registries: Registries, selection: Selection, token: str) -> bool:
    """Return whether a refresh token belongs to a registry other than the selected one."""
    tags = registries.find_token_tags(token)
    return tags != ({selection.registry.name} if selection.has_tagged_tokens or tags else set())


def tag_tokens(reply: Reply, registry: Registry) -> Reply:
    """Return a token service's reply with its tokens tagged with the registry's name.

    The reply has `token`, which clients of GET read, as well as `access_token`, which clients of
    POST read. A reply with a status other than 200 is returned as it is.
    Raise UpstreamMisbehaved if a 200 has no token.
    """
    if reply.status != HTTPStatus.OK:
        return reply
    try:
        document = documents.parse_object_or_empty(reply.read())
    finally:
        reply.close()
    tokens = _extract_tokens(document)
    if not tokens:
        message = f"the token service of {registry.name} gave no token"
        raise UpstreamMisbehaved(message)
    tagged = {name: f"{registry.token_tag}~{token}" for name, token in tokens.items()}
    return build_reply(HTTPStatus.OK, reply.headers, json.dumps({**document, **tagged}).encode())


def _extract_tokens(document: dict[str, Any]) -> dict[str, str]:
    """Return the tokens of a reply by field name, the access token under both of its names."""
    tokens = {
        name: token
        for name in ("token", "access_token", "refresh_token")
        if isinstance(token := document.get(name), str) and token
    }
    access_token = tokens.get("token") or tokens.get("access_token")
    return {"token": access_token, "access_token": access_token, **tokens} if access_token else {}


# The client's request, as a source takes it


def build_source_request(
    context: RequestContext,
    selection: Selection,
    query: str = "",
    operation: Operation | None = None,
) -> Request:
    """Return the client's request for a source, with no credentials except the registry's own.

    `operation` is None if the request is for a token.
    Views call the source right afterwards: the time of this call is noted as the beginning of the
    wait for the upstream. Without limits, all addresses of a site are one payer.
    Raise Unauthorized or LoopDetected.
    """
    request = context.request
    context.note_call()
    fields = build_upstream_headers(context, selection, list(request.headers.items()))
    # A fetch may outlive its request, and must not keep it in memory.
    address = context.client.address
    return Request(
        method=request.method,
        headers=headers.mark_via(fields),
        query=query,
        client=context.connection,
        permit=build_permit(context, selection, operation)
        if operation is not None and isinstance(selection, RepositoryAddress)
        else None,
        payer=context.payer or Unmetered(lambda: f"address {derive_site(address)}"),
    )
