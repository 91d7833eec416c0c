"""Rewrites what a registry says into the client's naming: realms, scopes, links to next pages."""

from collections.abc import Iterable
from typing import Final
from urllib.parse import quote, unquote, urlsplit

from flask import request

from app.oci.challenge import Challenge
from app.oci.scope import Scope
from app.registries import RepositoryAddress, Selection
from app.routes.context import get_services

_TOKEN_PATH: Final = "/auth/token"  # noqa: S105 - a path


def rewrite_challenges(told: Iterable[Challenge], selection: Selection) -> list[Challenge]:
    """Return a registry's challenges with realms and scopes that lead to this proxy.

    Challenges that no login through this proxy can meet are left out.
    """
    met = (one for one in told if one.is_bearer or selection.accepts_logins)
    return [_rewrite_challenge(one, selection) for one in met]


def _rewrite_challenge(told: Challenge, selection: Selection) -> Challenge:
    """Return a challenge with its realm at this proxy, so that tokens are fetched through it."""
    if not told.is_bearer:
        return told
    changed = {"realm": _build_realm(selection)}
    scopes = [_rewrite_scope(text, selection) for text in told.parameters.get("scope", "").split()]
    if selection.by_prefix and isinstance(selection, RepositoryAddress):
        # Only the scope tells our token endpoint which registry is meant, but not every registry
        # names the repository in its scope (public.ecr.aws says "aws").
        scopes = list(dict.fromkeys([_build_pull_scope(selection), *scopes]))
    if scopes:
        changed["scope"] = " ".join(scopes)
    return told.with_parameters(changed)


def build_challenge(selection: Selection, service: str = "") -> Challenge:
    """Return a Bearer challenge of this proxy itself.

    Without `service` it names the registry; the token endpoint knows the registry's real service.
    """
    parameters = {"realm": _build_realm(selection), "service": service or selection.registry.name}
    if isinstance(selection, RepositoryAddress):
        parameters["scope"] = _build_pull_scope(selection)
    return Challenge("Bearer", parameters)


def build_next_link(query: str, selection: Selection) -> str:
    """Return the value of a Link header to the next page (RFC 8288), in the client's naming.

    `query` is the query of the registry's own link.
    """
    prefix = urlsplit(get_services().forwarded.build_base_url(request.environ)).path
    fields = [field for field in query.split("&") if unquote(field.partition("=")[0]) != "ns"]
    if selection.ns:
        fields.append(_format_ns(selection.ns))
    return f'<{prefix}{request.path}?{"&".join(filter(None, fields))}>; rel="next"'


def _build_realm(selection: Selection) -> str:
    """Return the URL of our token endpoint; it has the `ns`, which clients do not add to it."""
    realm = get_services().forwarded.build_base_url(request.environ) + _TOKEN_PATH
    return f"{realm}?{_format_ns(selection.registry.name)}" if selection.ns else realm


def _format_ns(name: str) -> str:
    return f"ns={quote(name)}"


def _build_pull_scope(address: RepositoryAddress) -> str:
    return f"repository:{address.requested_name}:pull"


def _rewrite_scope(text: str, selection: Selection) -> str:
    scope = Scope.parse(text)
    if scope is None or not scope.is_repository:
        return text
    return str(selection.scope_for_client(scope))
