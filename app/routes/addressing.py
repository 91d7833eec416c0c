"""Resolves which registry and repository a request addresses, and how its client names them.

The rules are applied where a name is resolved. The realms, scopes and links that a registry sends
are rewritten into the naming that the client used.
"""

from collections.abc import Iterable
from typing import Final, NoReturn
from urllib.parse import quote, unquote, urlsplit

from app.access.networks import ClientIdentity
from app.access.rules import NO_DIGESTS, AccessRequest, Decision
from app.oci.challenge import Challenge
from app.oci.errors import ClientAddressUnknown, MethodUnsupported, RuleDenied
from app.oci.reference import Digest, Kind, Operation, Reference, RepositoryName, Tag
from app.oci.scope import Action, Scope
from app.registries import Registry, RepositoryAddress, Selection
from app.routes.context import RequestContext
from app.source import Permit

_TOKEN_PATH: Final = "/auth/token"  # noqa: S105 - a path


def resolve_registry(context: RequestContext) -> Selection:
    """Return the registry that a request without a repository name addresses.

    Raise NameUnknown if this proxy does not serve the registry, HostInvalid for a malformed Host.
    """
    return select_registry(context, ns=context.ns, host=context.host)


def select_registry(context: RequestContext, *, ns: str | None, host: str) -> Selection:
    """Return the registry that `ns` or `host` selects, and note it for the log line.

    Raise NameUnknown if this proxy does not serve it.
    """
    selection = context.services.registries.select(ns=ns, host=host)
    context.exchange.registry = selection.registry.name
    return selection


def resolve(
    context: RequestContext, operation: Operation
) -> tuple[RepositoryAddress, Decision | None]:
    """Return the address of an operation in the client's naming, and a decision to be made again.

    The decision is None unless it depends on the manifest that the operation asks for.
    Raise RuleDenied if a rule forbids the operation, MethodUnsupported if this proxy does.
    """
    address = resolve_path_unchecked(context, operation.repository)
    decision = authorize(context, address, operation)
    if decision is None or operation.kind is not Kind.MANIFEST or not decision.depends_on_manifest:
        return address, None
    return address, decision


def require_pull(action: Action) -> None:
    """Raise MethodUnsupported unless the action is a pull.

    This proxy passes on nothing else, and its rules say nothing about anything else.
    """
    if action is not Action.PULL:
        raise MethodUnsupported


def resolve_path_unchecked(context: RequestContext, name: RepositoryName) -> RepositoryAddress:
    """Return what the path of the request addresses, without applying the rules.

    The result is kept for the rest of the request. Raise NameUnknown or NameInvalid.
    """
    address = context.address
    if address is None or address.requested_name != name:
        address = resolve_name_unchecked(context, name, ns=context.ns, host=context.host)
        context.address = address
    return address


def resolve_name(
    context: RequestContext, name: RepositoryName, *, ns: str | None, host: str
) -> RepositoryAddress:
    """Return the registry and repository that a name addresses under `ns` and `host`.

    Raise Denied if a rule forbids listing its tags.
    """
    address = resolve_name_unchecked(context, name, ns=ns, host=host)
    authorize(context, address, Operation.tags(address.repository))
    return address


def resolve_name_unchecked(
    context: RequestContext, name: RepositoryName, *, ns: str | None, host: str
) -> RepositoryAddress:
    """Return what a name addresses under `ns` and `host`, and note it for the log line.

    No rule is applied. Raise NameUnknown or NameInvalid.
    """
    address = context.services.registries.resolve(name, ns=ns, host=host)
    exchange = context.exchange
    exchange.registry = address.registry.name
    if exchange.route != "token":  # the scopes of a token request stay out of the log
        exchange.repository = address.repository
    return address


# The rules


def authorize(
    context: RequestContext,
    address: RepositoryAddress,
    operation: Operation,
    digests: frozenset[Digest] = NO_DIGESTS,
) -> Decision | None:
    """Return the decision of the rules if they allow the operation, or None if there are no rules.

    `digests` are the known digests of the manifest. Raise RuleDenied if a rule denies it,
    ClientAddressUnknown if that rule needs an unknown client's address, and MethodUnsupported if
    the operation is not a pull.
    """
    require_pull(operation.action)
    decision = evaluate_rules(context, address, operation.manifest_reference, digests)
    if decision is not None and not decision.allowed:
        _refuse(decision, context.client)
    return decision


def evaluate_rules(
    context: RequestContext,
    address: RepositoryAddress,
    reference: Reference | None = None,
    digests: frozenset[Digest] = NO_DIGESTS,
) -> Decision | None:
    """Return the decision of the rules, or None if there are no rules.

    `digests` are those of the answer, if it has arrived already.
    """
    rules = context.services.rules
    if rules is None:
        return None
    return rules.decide(
        _build_access_request(
            address.registry, address.repository, context.client, reference, digests
        )
    )


def _build_access_request(
    registry: Registry,
    repository: RepositoryName,
    client: ClientIdentity,
    reference: Reference | None,
    digests: frozenset[Digest] = NO_DIGESTS,
) -> AccessRequest:
    return AccessRequest(
        registry=registry,
        repository=repository,
        client=client,
        tag=reference if isinstance(reference, Tag) else None,
        digests=digests | {reference} if isinstance(reference, Digest) else digests,
    )


def _refuse(decision: Decision, client: ClientIdentity) -> NoReturn:
    rule = decision.rule
    if rule is not None and rule.networks is not None and not client.is_known:
        raise ClientAddressUnknown(rule=rule.number)
    raise RuleDenied(decision.message, rule=rule and rule.number)


def build_permit(
    context: RequestContext, address: RepositoryAddress, operation: Operation
) -> Permit | None:
    """Return a function that applies the rules to the target of a redirect.

    The function raises Denied if a rule forbids the target to this client. Return None if there are
    no rules.
    """
    rules, registries = context.services.rules, context.services.registries
    if rules is None:
        return None
    client = context.client
    original_request = _build_access_request(
        address.registry, address.repository, client, operation.manifest_reference
    )

    def check_redirect(registry: str, name: RepositoryName, reference: Reference | None) -> None:
        row = registries.get_registry(registry)
        request = _build_access_request(row, name, client, reference)
        decision = rules.decide(request)
        if not decision.allowed:
            _refuse(decision, client)
        if decision.depends_on_manifest and not rules.has_same_matches(original_request, request):
            # `ImageInspection` judges the manifest by the rules for the original address only.
            message = f"a rule of this proxy looks at images of {registry}: ask for it there"
            rule = decision.rule
            raise RuleDenied(message, rule=rule and rule.number)

    return check_redirect


# A registry's challenges and links, in the client's naming


def rewrite_challenges(
    context: RequestContext, challenges: Iterable[Challenge], selection: Selection
) -> list[Challenge]:
    """Return a registry's challenges with realms and scopes that lead to this proxy.

    Challenges that no login through this proxy can meet are left out.
    """
    usable = (
        challenge for challenge in challenges if challenge.is_bearer or selection.accepts_logins
    )
    return [_rewrite_challenge(context, challenge, selection) for challenge in usable]


def _rewrite_challenge(
    context: RequestContext, challenge: Challenge, selection: Selection
) -> Challenge:
    """Return a challenge with its realm at this proxy, so that tokens are fetched through it."""
    if not challenge.is_bearer:
        return challenge
    changes = {"realm": _build_realm(context, selection)}
    scopes = [
        _rewrite_scope(scope, selection) for scope in challenge.parameters.get("scope", "").split()
    ]
    if selection.by_prefix and isinstance(selection, RepositoryAddress):
        # Only the scope tells our token endpoint which registry is meant, but not every registry
        # names the repository in its scope (public.ecr.aws says "aws").
        scopes = list(dict.fromkeys([_build_pull_scope(selection), *scopes]))
    if scopes:
        changes["scope"] = " ".join(scopes)
    return challenge.with_parameters(changes)


def build_challenge(context: RequestContext, selection: Selection, service: str = "") -> Challenge:
    """Return a Bearer challenge of this proxy itself.

    Without `service` it names the registry; the token endpoint knows the registry's real service.
    """
    parameters = {
        "realm": _build_realm(context, selection),
        "service": service or selection.registry.name,
    }
    if isinstance(selection, RepositoryAddress):
        parameters["scope"] = _build_pull_scope(selection)
    return Challenge("Bearer", parameters)


def build_next_link(context: RequestContext, query: str, selection: Selection) -> str:
    """Return the value of a Link header to the next page (RFC 8288), in the client's naming.

    `query` is the query of the registry's own link.
    """
    prefix = urlsplit(context.base_url).path
    fields = [field for field in query.split("&") if unquote(field.partition("=")[0]) != "ns"]
    if selection.ns:
        fields.append(_format_ns(selection.ns))
    return f'<{prefix}{context.request.path}?{"&".join(filter(None, fields))}>; rel="next"'


def build_location(context: RequestContext, location: str, selection: Selection) -> str:
    """Return the value of a Location header in the client's naming.

    `location` is what follows `/v2/<name>/` in the registry's own: a path and perhaps a query.
    Raise TypeError unless `selection` names a repository.
    """
    if not isinstance(selection, RepositoryAddress):
        message = "only an answer about a repository can have a Location"
        raise TypeError(message)
    prefix = urlsplit(context.base_url).path
    path = f"{prefix}/v2/{selection.requested_name}/{location}"
    if not selection.ns:
        return path
    return f"{path}{'&' if '?' in location else '?'}{_format_ns(selection.ns)}"


def _build_realm(context: RequestContext, selection: Selection) -> str:
    """Return the URL of our token endpoint; it has the `ns`, which clients do not add to it."""
    realm = context.base_url + _TOKEN_PATH
    return f"{realm}?{_format_ns(selection.registry.name)}" if selection.ns else realm


def _format_ns(name: str) -> str:
    return f"ns={quote(name)}"


def _build_pull_scope(address: RepositoryAddress) -> str:
    return str(Scope.of_repository(address.requested_name))


def _rewrite_scope(text: str, selection: Selection) -> str:
    scope = Scope.parse(text)
    if scope is None or not scope.is_repository:
        return text
    return str(selection.scope_for_client(scope))
