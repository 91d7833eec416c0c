"""GET and POST /auth/token: tokens come through this proxy, and so does `docker login`."""

import json
from collections.abc import Iterator
from typing import Final
from urllib.parse import parse_qsl

from flask import Blueprint, Response, request
from werkzeug.exceptions import BadRequest

from app.content import Reply, TokenRequest, replied
from app.oci import headers
from app.oci.errors import NameInvalid, NameUnknown
from app.oci.reference import RepositoryName
from app.oci.scope import Scope
from app.oci.stand_ins import NOTHING
from app.registries import Address, Registry, Selection
from app.routes import credentials
from app.routes.asking import asked
from app.routes.form import received
from app.routes.issuing import issue
from app.routes.relay import relay
from app.routes.rooms import decided, host, namespace, rooms, selected, source, undecided

bp = Blueprint("token", __name__)

_Parameters = list[tuple[str, str]]

_FROM_NOBODY: Final = frozenset({"scope", "client_id"})
"""What a token request says that is not a login."""

_MOST: Final = 1000
"""Parameters of a token request, and scopes in them; clients send some ten."""


_SHORT: Final = 60
"""Seconds; containers/image takes no token for a shorter time."""


@bp.route("/auth/token", methods=["GET", "POST"])
def token() -> Response:
    """Pass the request to the token service of the registry that it is about."""
    written = received() if request.method == "POST" else request.query_string
    parameters = _parameters(written)
    if (guard := rooms().guard) is not None:
        return issue(guard, parameters, _wanted(parameters))
    selection = _selection(parameters)
    if _is_all_denied(parameters):
        reply = _for_nothing()
    else:
        reply = source(selection.registry).token(_request(selection, parameters))
    if selection.tagged:
        reply = credentials.tag(reply, selection.registry)
    return relay(reply, selection)


def _is_all_denied(parameters: _Parameters) -> bool:
    """Tell whether rules deny every repository that a token is wanted for."""
    if rooms().rules is None:
        return False
    scopes = [scope for text in _scopes(parameters) if (scope := _repository_scope(text))]
    addresses = [address for scope in scopes if (address := _address(scope))]
    return bool(addresses) and all(map(_is_denied, addresses))


def _is_denied(address: Address) -> bool:
    decision = decided(address)
    return decision is not None and not decision.allowed


def _for_nothing() -> Reply:
    """Return a token that opens nothing: clients show what a rule says of a manifest, not of it."""
    document = {"token": NOTHING, "access_token": NOTHING, "expires_in": _SHORT}
    return replied(200, [("Content-Type", "application/json")], json.dumps(document).encode())


def _parameters(written: bytes) -> _Parameters:
    """Read a query or a form; a megabyte of tiny ones would hold up everybody for a second."""
    try:
        parameters = parse_qsl(
            written.decode(errors="surrogateescape"),
            keep_blank_values=True,
            errors="surrogateescape",
            max_num_fields=_MOST,
        )
    except ValueError as error:
        raise BadRequest from error
    if sum(1 for _ in _scopes(parameters)) > _MOST:
        raise BadRequest
    return parameters


def _wanted(parameters: _Parameters) -> Iterator[Address]:
    """Return the repositories that are asked for, to pull from."""
    for text in _scopes(parameters):
        scope = _repository_scope(text)
        if scope and {"pull", "*"} & {*scope.actions.split(",")} and (address := _address(scope)):
            yield address


def _selection(parameters: _Parameters) -> Selection:
    """Return the registry that `ns`, the host, or else the first scope of a known one names."""
    for text in _scopes(parameters):
        if (scope := _repository_scope(text)) and (address := _address(scope)):
            return address
    return selected()


def _request(selection: Selection, parameters: _Parameters) -> TokenRequest:
    """Return the request as the registry's token service gets it; raise Unauthorized.

    A login that is not the registry's stays here, and the token is one for nobody in particular:
    clients send what they have for this host, and most images are public.
    """
    passed = asked(selection)
    method = "POST" if request.method == "POST" else "GET"
    fields = passed.headers
    named = list(_for_registry(parameters, selection.registry))
    if not _is_login_passed(selection, named):
        method = "GET"
        fields = headers.without(fields, "authorization")
        named = [(name, value) for name, value in named if name in _FROM_NOBODY]
    named = [
        (name, credentials.untagged(value) if name == "refresh_token" else value)
        for name, value in named
    ]
    return TokenRequest(method=method, parameters=named, headers=fields, client=passed.client)


def _is_login_passed(selection: Selection, parameters: _Parameters) -> bool:
    """Tell whether a login may be the registry's; the token of another one is not."""
    if not selection.takes_logins:
        return False
    refresh_tokens = [value for name, value in parameters if name == "refresh_token"]
    # A refusal would not do: containerd then sends the refresh token as a password.
    return not any(credentials.is_foreign(selection, value) for value in refresh_tokens)


def _for_registry(parameters: _Parameters, registry: Registry) -> Iterator[tuple[str, str]]:
    """Name scopes as the registry does, each once; leave out what is only between client and us.

    containerd asks for what it wanted and for what the challenge says, in two namings.
    """
    seen: set[str] = set()
    for name, value in parameters:
        if name == "scope":
            scopes = [scope for text in value.split() if (scope := _named(text, registry))]
            fresh = [scope for scope in dict.fromkeys(scopes) if scope not in seen]
            seen.update(fresh)
            if fresh:
                yield name, " ".join(fresh)
        elif name not in {"service", "ns"}:
            yield name, value


def _named(text: str, registry: Registry) -> str:
    """Return a scope in the registry's naming, or "" for one that is not the registry's."""
    scope = _repository_scope(text)
    if scope is None:
        return "" if text.startswith("repository") else text
    address = _address(scope)
    if address is None or address.registry is not registry or _is_denied(address):
        return ""
    return str(scope.named(address.repository))


def _scopes(parameters: _Parameters) -> Iterator[str]:
    for name, value in parameters:
        if name == "scope":
            yield from value.split()


def _repository_scope(text: str) -> Scope | None:
    scope = Scope.parse(text)
    return scope if scope is not None and scope.is_repository else None


def _address(scope: Scope) -> Address | None:
    """Return what a scope is about, or None for what no request could ask for here."""
    try:
        return undecided(RepositoryName.parse(scope.name), ns=namespace(), host=host())
    except (NameInvalid, NameUnknown):
        return None
