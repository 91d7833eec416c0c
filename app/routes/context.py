"""What the views share: the request, the wired components, the addressed repository, the rules.

`create_app` builds a `Services` and puts it into the application; the functions here read it.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final, NoReturn, Protocol, cast

from flask import Flask, Request, current_app, request
from werkzeug.local import LocalProxy

from app.access.image_facts import ImageFactsCache
from app.access.networks import ClientIdentity, Networks
from app.access.rules import NO_DIGESTS, AccessRequest, Decision, Rules
from app.access.tokens import Guard
from app.events import current
from app.oci.errors import ClientAddressUnknown, RuleDenied
from app.oci.reference import Digest, Reference, RepositoryName, Tag
from app.registries import Registries, Registry, RepositoryAddress, Selection
from app.routes.access_log import AccessLog
from app.routes.forwarded import ForwardedHeaders
from app.source import MonitoredCache, Permit, SearchIndex, Source

# Flask's `request` proxy looks up the request at each access, a dozen times for a small response.
# `get_request` does so once.
_REQUEST = cast("LocalProxy[Request]", request)


def get_request() -> Request:
    """Return the request that the current thread or greenlet serves."""
    return _REQUEST._get_current_object()  # noqa: SLF001 - documented by Werkzeug


_KEY: Final = "docxy"
_APP: Final = cast("LocalProxy[Flask]", current_app)


class FiguresReader(Protocol):
    """The figures that all workers together have counted."""

    def format_exposition(self) -> bytes:
        """Return all series in the text format of Prometheus."""

    def build_summary(self) -> dict[str, Any]:
        """Return the figures that the page shows, as a JSON object."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Services:
    """The components that `create_app` wires together for the views.

    `sources` has the source of each registry by its name. `write_timeout` is in seconds.
    """

    registries: Registries
    sources: Mapping[str, Source]
    forwarded: ForwardedHeaders
    write_timeout: float
    figures_networks: Networks = field(default_factory=lambda: Networks(""))
    figures: FiguresReader | None = None
    """None if metrics are off."""
    access_log: AccessLog = field(default_factory=AccessLog)
    index: SearchIndex | None = None
    cache: MonitoredCache | None = None
    """None if there is no cache."""
    rules: Rules | None = None
    """None if there are no rules: everybody may pull everything."""
    image_facts: ImageFactsCache = field(default_factory=ImageFactsCache)
    guard: Guard | None = None
    """None if this proxy has no users of its own."""

    def install(self, app: Flask) -> None:
        """Make this available to the views of an application, through `get_services`."""
        app.extensions[_KEY] = self


def get_services() -> Services:
    """Return the components that `create_app` put into the current application."""
    found: Services = _APP._get_current_object().extensions[_KEY]  # noqa: SLF001 - as in `get_request`
    return found


def get_ns() -> str | None:
    """Return the `ns` parameter that containerd adds when it asks a mirror, or None without one."""
    request = get_request()
    return request.args.get("ns") or None if request.query_string else None


def resolve_registry() -> Selection:
    """Return the registry that a request without a repository name addresses.

    Raise NameUnknown if this proxy does not serve the registry, HostInvalid for a malformed Host.
    """
    return select_registry(ns=get_ns(), host=get_host())


def select_registry(*, ns: str | None, host: str) -> Selection:
    """Return the registry that `ns` or `get_host` selects, and note it for the log line.

    Raise NameUnknown if this proxy does not serve it.
    """
    selection = get_services().registries.select(ns=ns, host=host)
    if (exchange := current.get()) is not None:
        exchange.registry = selection.registry.name
    return selection


def resolve(asked: RepositoryName, reference: Reference | None = None) -> RepositoryAddress:
    """Return the registry and repository that a request addresses; raise Denied if a rule says so.

    `reference` is the tag or digest if the request is for a manifest.
    """
    address = resolve_path_unchecked(asked)
    authorize(address, reference)
    return address


def resolve_manifest(
    asked: RepositoryName, reference: Reference
) -> tuple[RepositoryAddress, Decision | None]:
    """Return the address of a manifest, and the decision if it depends on the manifest itself.

    The decision is None if the rules need no look at the manifest. Raise Denied if they forbid it.
    """
    address = resolve_path_unchecked(asked)
    decision = authorize(address, reference)
    if decision is None or not decision.depends_on_manifest:
        return address, None
    return address, decision


def resolve_path_unchecked(asked: RepositoryName) -> RepositoryAddress:
    """Return what the path of the current request addresses, without applying the rules.

    The result is kept for the rest of the request. Raise NameUnknown or NameInvalid.
    """
    exchange = current.get()
    if (
        exchange is not None
        and (known := exchange.address) is not None
        and known.requested_name == asked
    ):
        return known
    address = resolve_name_unchecked(asked, ns=get_ns(), host=get_host())
    if exchange is not None:
        exchange.address = address
    return address


def resolve_name(
    asked: RepositoryName, reference: Reference | None = None, *, ns: str | None, host: str
) -> RepositoryAddress:
    """Return the registry and repository that a name addresses under `ns` and `get_host`.

    Raise Denied if a rule forbids it.
    """
    address = resolve_name_unchecked(asked, ns=ns, host=host)
    authorize(address, reference)
    return address


def authorize(
    address: RepositoryAddress, reference: Reference | None, digests: frozenset[Digest] = NO_DIGESTS
) -> Decision | None:
    """Return the decision of the rules if they allow the request, or None if there are no rules.

    `digests` are the known digests of the manifest. Raise RuleDenied if a rule denies it,
    ClientAddressUnknown if that rule needs an unknown client's address.
    """
    decision = evaluate_rules(address, reference, digests)
    if decision is not None and not decision.allowed:
        _refuse(decision, get_client())
    return decision


def evaluate_rules(
    address: RepositoryAddress,
    reference: Reference | None = None,
    digests: frozenset[Digest] = NO_DIGESTS,
) -> Decision | None:
    """Return the decision of the rules, or None if there are no rules.

    `digests` are those of the answer, if it has arrived already.
    """
    rules = get_services().rules
    if rules is None:
        return None
    return rules.decide(
        _build_access_request(
            address.registry, address.repository, get_client(), reference, digests
        )
    )


def _build_access_request(
    registry: Registry,
    repository: RepositoryName,
    asking: ClientIdentity,
    reference: Reference | None,
    digests: frozenset[Digest] = NO_DIGESTS,
) -> AccessRequest:
    return AccessRequest(
        registry=registry,
        repository=repository,
        client=asking,
        tag=reference if isinstance(reference, Tag) else None,
        digests=digests | {reference} if isinstance(reference, Digest) else digests,
    )


def _refuse(decision: Decision, asking: ClientIdentity) -> NoReturn:
    rule = decision.rule
    if rule is not None and rule.networks is not None and not asking.is_known:
        raise ClientAddressUnknown(rule=rule.number)
    raise RuleDenied(decision.message, rule=rule and rule.number)


def build_permit(address: RepositoryAddress, reference: Reference | None = None) -> Permit | None:
    """Return a function that applies the rules to the target of a redirect, or None without rules.

    `reference` is the tag or digest if the client asks for a manifest.
    The function raises Denied if a rule forbids the target to this client.
    """
    room = get_services()
    rules = room.rules
    if rules is None:
        return None
    asking = get_client()
    asked = _build_access_request(address.registry, address.repository, asking, reference)

    def ask(registry: str, name: RepositoryName, reference: Reference | None) -> None:
        row = room.registries.get_registry(registry)
        question = _build_access_request(row, name, asking, reference)
        decision = rules.decide(question)
        if not decision.allowed:
            _refuse(decision, asking)
        if decision.depends_on_manifest and not rules.has_same_matches(asked, question):
            # `ImageInspection` judges the manifest by the rules for the original address only.
            message = f"a rule of this proxy looks at images of {registry}: ask for it there"
            rule = decision.rule
            raise RuleDenied(message, rule=rule and rule.number)

    return ask


def resolve_name_unchecked(
    asked: RepositoryName, *, ns: str | None, host: str
) -> RepositoryAddress:
    """Return what a name addresses under `ns` and `get_host`, and note it for the log line.

    No rule is applied. Raise NameUnknown or NameInvalid.
    """
    address = get_services().registries.resolve(asked, ns=ns, host=host)
    if (exchange := current.get()) is not None:
        exchange.registry = address.registry.name
        if exchange.route != "token":  # the scopes of a token request stay out of the log
            exchange.repository = address.repository
    return address


def get_host() -> str:
    """Return the host name that the client used for this proxy; raise HostInvalid."""
    return get_services().forwarded.get_host(get_request().environ)


def get_client() -> ClientIdentity:
    """Return the client of the current request, with its user if it has logged in.

    The address is "" for a request through a Unix socket, unless a server in front names it.
    """
    exchange = current.get()
    if exchange is None:
        return ClientIdentity(*_resolve_client())
    if exchange.client is None:
        exchange.client = _resolve_client()
    return ClientIdentity(*exchange.client, exchange.user)


def _resolve_client() -> tuple[str, bool]:
    forwarded, environ = get_services().forwarded, get_request().environ
    address = forwarded.get_client_address(environ)
    return address, bool(address) and forwarded.is_client_known(environ)


def may_see_figures() -> bool:
    """Return whether the client is in a network that may see figures.

    If figures are restricted, a client whose address is unknown may not see them.
    """
    room, environ = get_services(), get_request().environ
    if room.figures_networks.includes_all:
        return True
    client = room.forwarded.get_client_address(environ)
    # A request without an address came through a Unix socket, from this machine.
    allowed = not client or client in room.figures_networks
    return allowed and room.forwarded.is_client_known(environ)


def get_source(registry: Registry) -> Source:
    """Return the source that a registry is read from: its upstream, or the cache around it."""
    return get_services().sources[registry.name]
