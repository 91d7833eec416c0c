"""GET and POST /auth/token: tokens come through this proxy, and so does `docker login`."""

import contextlib
import json
from collections.abc import Iterable, Iterator, Sequence
from datetime import UTC, datetime
from typing import Final
from urllib.parse import parse_qsl

from flask import Blueprint, Response, jsonify, request
from werkzeug.exceptions import (
    BadRequest,
    ClientDisconnected,
    RequestEntityTooLarge,
    RequestTimeout,
)

from app.access.tokens import LIFETIME, SERVICE, Guard
from app.oci import headers
from app.oci.challenge import Challenge
from app.oci.errors import LoginMissing, LoginRequired, NameInvalid, NameUnknown
from app.oci.placeholder_tokens import NOTHING
from app.oci.reference import RepositoryName
from app.oci.scope import Scope
from app.registries import Address, Registry, Selection
from app.routes import credentials, logins
from app.routes.authentication import canonical
from app.routes.connection import ClientConnection
from app.routes.context import decided, host, namespace, rooms, selected, source, undecided
from app.routes.credentials import asked
from app.routes.relay import relay
from app.source import Reply, TokenRequest, replied

# The body of a request, read whole and in time.


def received() -> bytes:
    """Read a form, of `request.max_content_length` bytes at the most.

    Who begins one and does not end it in time is cut.
    """
    form = None
    with (
        ClientConnection(request.environ).read_within(rooms().write_timeout) as late,
        contextlib.suppress(ClientDisconnected),  # werkzeug's word for a body that does not come
    ):
        form = request.get_data(cache=False)
    # What came of a body that ends early, or goes on too long, is handed over like a whole one.
    if form is None or len(form) < (request.content_length or 0):
        raise RequestTimeout if late.is_set() else ClientDisconnected
    if len(form) >= (request.max_content_length or len(form) + 1):
        raise RequestEntityTooLarge
    return form


# Tokens of this proxy's own, for its users: distribution's `spec/auth/{token,oauth}.md`.

_IssuingParameters = Sequence[tuple[str, str]]


def issue(guard: Guard, parameters: _IssuingParameters, wanted: Iterable[Address]) -> Response:
    """Give a user a token to pull from what is wanted; no registry is asked.

    What a client asks for beyond that, a push or a repository that is not here, is left out.
    """
    told = dict(reversed(parameters))  # the first of each
    user, lasting = _shown(guard, told)
    token = guard.tokens.access(user, map(canonical, wanted))
    refresh = lasting or guard.tokens.refresh(user)
    # The users may have been read again while a password was checked, and these tokens be of the
    # new one: what was shown has to be good still.
    _shown(guard, told)
    document = {
        # Clients of GET look for the first, those of POST for the second.
        "token": token,
        "access_token": token,
        "expires_in": LIFETIME,
        "issued_at": datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ"),
    }
    if told.get("offline_token") == "true" or told.get("access_type") == "offline":
        document["refresh_token"] = refresh
    response = jsonify(document)
    response.headers["Cache-Control"] = "no-store"
    return response


def _shown(guard: Guard, told: dict[str, str]) -> tuple[str, str]:
    """Return who has logged in, and the refresh token that was shown; raise with a challenge."""
    try:
        return _user_by_form(guard, told) if request.method == "POST" else _user(guard)
    except LoginRequired as refused:
        challenge = Challenge("Basic", {"realm": SERVICE, "charset": "UTF-8"})
        refused.added = {"WWW-Authenticate": str(challenge)}
        raise


def _user(guard: Guard) -> tuple[str, str]:
    login = logins.basic(request.headers.get("Authorization", ""))
    if login is None:
        raise LoginMissing
    return logins.checked(guard, *login), ""


def _user_by_form(guard: Guard, told: dict[str, str]) -> tuple[str, str]:
    match told.get("grant_type"):
        case "password":
            shown = logins.of_form(told.get("username", ""), told.get("password", ""))
            return logins.checked(guard, *shown), ""
        case "refresh_token":
            refresh = told.get("refresh_token", "")
            return logins.noted(guard.tokens.refreshed(refresh)), refresh
        case _:
            raise BadRequest


bp = Blueprint("token", __name__)

_Parameters = list[tuple[str, str]]

_FROM_NOBODY: Final = frozenset({"scope", "client_id"})
"""What a token request says that is not a login."""

_MOST: Final = 1000
"""Parameters of a token request, and scopes in them; clients send some ten."""


_LONGEST_OWN: Final = 64 * 1024
"""Bytes of a form that no registry gets. It is held while its login waits for its turn.

The query of a GET has as many; a registry's own refresh tokens may be longer.
"""

_SHORT: Final = 60
"""Seconds; containers/image takes no token for a shorter time."""


@bp.route("/auth/token", methods=["GET", "POST"])
def token() -> Response:
    """Pass the request to the token service of the registry that it is about."""
    guard = rooms().guard
    if guard is not None:
        request.max_content_length = _LONGEST_OWN
    written = received() if request.method == "POST" else request.query_string
    parameters = _parameters(written)
    if guard is not None:
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
