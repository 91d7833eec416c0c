"""GET and POST /auth/token: the token service that clients of this proxy and `docker login` use.

It relays token requests to the registry's own token service. If this proxy has users of its own, it
issues its own tokens instead.
"""

import contextlib
from collections.abc import Iterable, Iterator, Sequence
from typing import Final
from urllib.parse import parse_qsl

from flask import Blueprint, Response
from werkzeug.exceptions import (
    BadRequest,
    ClientDisconnected,
    RequestEntityTooLarge,
    RequestTimeout,
)

from app.access.tokens import LIFETIME, SERVICE, Guard
from app.oci import headers, tokens
from app.oci.challenge import Challenge
from app.oci.errors import LoginMissing, LoginRequired, NameInvalid, NameUnknown
from app.oci.reference import RepositoryName
from app.oci.scope import Action, Scope
from app.oci.tokens import PLACEHOLDER
from app.registries import Registries, Registry, RepositoryAddress, Selection
from app.routes import credentials, logins
from app.routes.addressing import evaluate_rules, resolve_name_unchecked, resolve_registry
from app.routes.authentication import format_canonical_name
from app.routes.context import RequestContext, get_context
from app.routes.credentials import build_source_request
from app.routes.relay import relay
from app.source import Reply, TokenRequest, build_reply


def read_form(context: RequestContext) -> bytes:
    """Return the body of the request, if it is shorter than `request.max_content_length` bytes.

    Raise RequestTimeout if it does not arrive within `write_timeout` seconds in all,
    ClientDisconnected if it ends early, RequestEntityTooLarge if it is not shorter.
    """
    form, request = None, context.request
    with (
        context.connection.limit_read_time(context.services.write_timeout) as timed_out,
        contextlib.suppress(ClientDisconnected),  # raised by Werkzeug for a body that ends early
    ):
        form = request.get_data(cache=False)
    # If a body ends early or is too long, Werkzeug may return a part of it as if it were whole.
    if form is None or len(form) < (request.content_length or 0):
        raise RequestTimeout if timed_out.is_set() else ClientDisconnected
    if len(form) >= (request.max_content_length or len(form) + 1):
        raise RequestEntityTooLarge
    return form


# Tokens that this proxy issues to its own users (distribution's `spec/auth/{token,oauth}.md`)

_IssuingParameters = Sequence[tuple[str, str]]


def issue_token(
    context: RequestContext,
    guard: Guard,
    parameters: _IssuingParameters,
    addresses: Iterable[RepositoryAddress],
) -> Response:
    """Return a token of this proxy to pull from the given repositories; no registry is asked.

    The token allows nothing else that the client asks for, such as a push.
    Raise LoginRequired with a challenge if the login is missing or wrong.
    """
    fields = dict(reversed(parameters))  # the first of each
    user, used_refresh_token = _authenticate(context, guard, fields)
    token = guard.tokens.issue_access_token(user, map(format_canonical_name, addresses))
    refresh_token = used_refresh_token or guard.tokens.issue_refresh_token(user)
    # The users may have been reloaded while the password was checked, and the tokens may have been
    # issued for the changed user. So check the login once more.
    _authenticate(context, guard, fields)
    is_offline = fields.get("offline_token") == "true" or fields.get("access_type") == "offline"
    document = tokens.build_answer(token, LIFETIME, refresh_token if is_offline else None)
    response = Response(document, content_type="application/json")
    response.headers["Cache-Control"] = "no-store"
    return response


def _authenticate(context: RequestContext, guard: Guard, fields: dict[str, str]) -> tuple[str, str]:
    """Return the user who has logged in, and the refresh token used for it, or "".

    Raise LoginRequired with a Basic challenge.
    """
    try:
        return (
            _authenticate_form(context, guard, fields)
            if context.request.method == "POST"
            else _authenticate_basic(context, guard)
        )
    except LoginRequired as error:
        challenge = Challenge("Basic", {"realm": SERVICE, "charset": "UTF-8"})
        error.extra_headers = {"WWW-Authenticate": str(challenge)}
        raise


def _authenticate_basic(context: RequestContext, guard: Guard) -> tuple[str, str]:
    login = logins.parse_basic(context.request.headers.get("Authorization", ""))
    if login is None:
        raise LoginMissing
    return logins.check_login(context, guard, *login), ""


def _authenticate_form(
    context: RequestContext, guard: Guard, fields: dict[str, str]
) -> tuple[str, str]:
    match fields.get("grant_type"):
        case "password":
            login = logins.bound_form_login(fields.get("username", ""), fields.get("password", ""))
            return logins.check_login(context, guard, *login), ""
        case "refresh_token":
            refresh_token = fields.get("refresh_token", "")
            context.user = guard.tokens.verify_refresh_token(refresh_token)
            return context.user, refresh_token
        case _:
            raise BadRequest


bp = Blueprint("token", __name__)

_Parameters = list[tuple[str, str]]

_ANONYMOUS_PARAMETERS: Final = frozenset({"scope", "client_id"})
"""The parameters of a token request that remain when its login is removed."""

_MAX_PARAMETERS: Final = 1000
"""The maximum number of parameters, and of scopes, in a token request; clients send some ten."""


_MAX_OWN_FORM: Final = 64 * 1024
"""The maximum size, in bytes, of a form for this proxy's own tokens; it is in memory while its
login waits.

The query of a GET may have as many. A form for a registry may be longer, as its refresh tokens are.
"""

_PLACEHOLDER_LIFETIME: Final = 60
"""Seconds; containers/image accepts no shorter lifetime of a token."""


@bp.route("/auth/token", methods=["GET", "POST"])
def token() -> Response:
    """Return a token, issued by this proxy if it has users, or else by the registry.

    The scopes, `ns` or the host of the request say which registry it is for.
    """
    context = get_context()
    request, guard = context.request, context.services.guard
    if guard is not None:
        request.max_content_length = _MAX_OWN_FORM
    encoded = read_form(context) if request.method == "POST" else request.query_string
    parameters = _parse_parameters(encoded)
    if guard is not None:
        return issue_token(context, guard, parameters, _iter_pull_addresses(context, parameters))
    selection = _resolve_selection(context, parameters)
    if _is_all_denied(context, parameters):
        reply = _build_placeholder_reply()
    else:
        source = context.services.get_source(selection.registry)
        reply = source.token(_build_token_request(context, selection, parameters))
    if selection.has_tagged_tokens:
        reply = credentials.tag_tokens(reply, selection.registry)
    return relay(context, reply, selection)


def _is_all_denied(context: RequestContext, parameters: _Parameters) -> bool:
    """Return whether the rules deny every repository that the token is for."""
    if context.services.rules is None:
        return False
    scopes = [
        scope for text in _iter_scopes(parameters) if (scope := _parse_repository_scope(text))
    ]
    addresses = [address for scope in scopes if (address := _resolve_scope(context, scope))]
    return bool(addresses) and all(_is_denied(context, address) for address in addresses)


def _is_denied(context: RequestContext, address: RepositoryAddress) -> bool:
    decision = evaluate_rules(context, address)
    return decision is not None and not decision.allowed


def _build_placeholder_reply() -> Reply:
    """Return a placeholder token, although the rules deny every repository.

    Clients show a rule's message if it answers a manifest request, but not a token request.
    """
    document = tokens.build_answer(PLACEHOLDER, _PLACEHOLDER_LIFETIME)
    return build_reply(200, [("Content-Type", "application/json")], document)


def _parse_parameters(encoded: bytes) -> _Parameters:
    """Return the parameters of a query or a form; raise BadRequest if there are too many.

    Reading a megabyte of tiny parameters would block every client for a second.
    """
    try:
        parameters = parse_qsl(
            encoded.decode(errors="surrogateescape"),
            keep_blank_values=True,
            errors="surrogateescape",
            max_num_fields=_MAX_PARAMETERS,
        )
    except ValueError as error:
        raise BadRequest from error
    if sum(1 for _ in _iter_scopes(parameters)) > _MAX_PARAMETERS:
        raise BadRequest
    return parameters


def _iter_pull_addresses(
    context: RequestContext, parameters: _Parameters
) -> Iterator[RepositoryAddress]:
    """Yield the repositories that the client asks to pull from."""
    for text in _iter_scopes(parameters):
        scope = _parse_repository_scope(text)
        if scope and scope.allows(Action.PULL) and (address := _resolve_scope(context, scope)):
            yield address


def _resolve_selection(context: RequestContext, parameters: _Parameters) -> Selection:
    """Return the first repository that a scope addresses here, or else the registry selected.

    `ns` and the host decide which registry is meant before the prefix in a scope does.
    """
    for text in _iter_scopes(parameters):
        scope = _parse_repository_scope(text)
        if scope and (address := _resolve_scope(context, scope)):
            return address
    return resolve_registry(context)


def _build_token_request(
    context: RequestContext, selection: Selection, parameters: _Parameters
) -> TokenRequest:
    """Return the request for the registry's token service; raise Unauthorized or LoopDetected.

    A login that is not for the registry is dropped, and the request becomes an anonymous one:
    clients send whatever login they have for this host, and most images are public.
    """
    source_request = build_source_request(context, selection)
    registries = context.services.registries
    method = "POST" if context.request.method == "POST" else "GET"
    fields = source_request.headers
    registry_parameters = list(_iter_registry_parameters(context, parameters, selection.registry))
    if not _may_pass_login(registries, selection, registry_parameters):
        method = "GET"
        fields = headers.without(fields, "authorization")
        registry_parameters = [
            (name, value) for name, value in registry_parameters if name in _ANONYMOUS_PARAMETERS
        ]
    registry_parameters = [
        (name, registries.split_token_tag(value)[1] if name == "refresh_token" else value)
        for name, value in registry_parameters
    ]
    return TokenRequest(
        method=method, parameters=registry_parameters, headers=fields, client=source_request.client
    )


def _may_pass_login(registries: Registries, selection: Selection, parameters: _Parameters) -> bool:
    """Return whether the client's login may go to the registry.

    A refresh token of another registry may not.
    """
    if not selection.accepts_logins:
        return False
    refresh_tokens = [value for name, value in parameters if name == "refresh_token"]
    # If such a token were refused, containerd would send it as a password.
    return not any(credentials.is_foreign(registries, selection, value) for value in refresh_tokens)


def _iter_registry_parameters(
    context: RequestContext, parameters: _Parameters, registry: Registry
) -> Iterator[tuple[str, str]]:
    """Yield the parameters for the registry, with each scope once and in the registry's naming.

    `service` and `ns` are left out, since they are meant for this proxy only.
    Scopes may be repeated because containerd sends the one that it wants as well as the one in the
    challenge, in two namings.
    """
    seen: set[str] = set()
    for name, value in parameters:
        if name == "scope":
            scopes = [
                scope
                for text in value.split()
                if (scope := _rewrite_scope(context, text, registry))
            ]
            new_scopes = [scope for scope in dict.fromkeys(scopes) if scope not in seen]
            seen.update(new_scopes)
            if new_scopes:
                yield name, " ".join(new_scopes)
        elif name not in {"service", "ns"}:
            yield name, value


def _rewrite_scope(context: RequestContext, text: str, registry: Registry) -> str:
    """Return a scope in the registry's naming.

    The result is "" if the scope is for another registry, or if a rule denies its repository.
    """
    scope = _parse_repository_scope(text)
    if scope is None:
        return "" if text.startswith("repository") else text
    address = _resolve_scope(context, scope)
    if address is None or address.registry is not registry or _is_denied(context, address):
        return ""
    return str(scope.with_name(address.repository))


def _iter_scopes(parameters: _Parameters) -> Iterator[str]:
    for name, value in parameters:
        if name == "scope":
            yield from value.split()


def _parse_repository_scope(text: str) -> Scope | None:
    scope = Scope.parse(text)
    return scope if scope is not None and scope.is_repository else None


def _resolve_scope(context: RequestContext, scope: Scope) -> RepositoryAddress | None:
    """Return the repository that a scope addresses, or None if no request here could address it."""
    try:
        name = RepositoryName.parse(scope.name)
        return resolve_name_unchecked(context, name, ns=context.ns, host=context.host)
    except (NameInvalid, NameUnknown):
        return None
