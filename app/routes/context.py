"""What the views share: the request, the wired components, the addressed repository, the rules.

`create_app` builds a `Rooms` and puts it into the application; the functions here read it.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final, NoReturn, Protocol, cast

from flask import Flask, Request, current_app, request
from werkzeug.local import LocalProxy

from app.access.image_facts import KnownImages
from app.access.networks import Client, Networks
from app.access.rules import NO_DIGESTS, Decision, Question, Rules
from app.access.tokens import Guard
from app.events import current
from app.oci.errors import ClientHidden, RuleRefused
from app.oci.reference import Digest, Reference, RepositoryName, Tag
from app.registries import Address, Registries, Registry, Selection
from app.routes.access_log import Afterwards
from app.routes.forwarded import Forwarded
from app.source import Holder, Index, Permit, Source

# Flask's `request` proxy looks up the request at each access, a dozen times for a small response.
# `present` does so once.
_REQUEST = cast("LocalProxy[Request]", request)


def present() -> Request:
    """Return the request that the current thread or greenlet serves."""
    return _REQUEST._get_current_object()  # noqa: SLF001 - documented by Werkzeug


_KEY: Final = "docxy"
_APP: Final = cast("LocalProxy[Flask]", current_app)


class Figures(Protocol):
    """The figures that all workers together have counted."""

    def exposition(self) -> bytes:
        """Return all series in the text format of Prometheus."""

    def shown(self) -> dict[str, Any]:
        """Return the figures that the page shows, as a JSON object."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Rooms:
    """The components that `create_app` wires together for the views.

    `sources` has the source of each registry by its name. `write_timeout` is in seconds.
    """

    registries: Registries
    sources: Mapping[str, Source]
    forwarded: Forwarded
    write_timeout: float
    figures_networks: Networks = field(default_factory=lambda: Networks(""))
    figures: Figures | None = None
    """None if metrics are off."""
    afterwards: Afterwards = field(default_factory=Afterwards)
    index: Index | None = None
    cache: Holder | None = None
    """None if there is no cache."""
    rules: Rules | None = None
    """None if there are no rules: everybody may pull everything."""
    known_images: KnownImages = field(default_factory=KnownImages)
    guard: Guard | None = None
    """None if this proxy has no users of its own."""

    def put_into(self, app: Flask) -> None:
        """Make this available to the views of an application, through `rooms`."""
        app.extensions[_KEY] = self


def rooms() -> Rooms:
    """Return the components that `create_app` put into the current application."""
    found: Rooms = _APP._get_current_object().extensions[_KEY]  # noqa: SLF001 - as in `present`
    return found


def namespace() -> str | None:
    """Return the `ns` parameter that containerd adds when it asks a mirror, or None without one."""
    request = present()
    return request.args.get("ns") or None if request.query_string else None


def selected() -> Selection:
    """Return the registry that a request without a repository name addresses.

    Raise NameUnknown if this proxy does not serve the registry, HostInvalid for a malformed Host.
    """
    return chosen(ns=namespace(), host=host())


def chosen(*, ns: str | None, host: str) -> Selection:
    """Return the registry that `ns` or `host` selects, and note it for the log line.

    Raise NameUnknown if this proxy does not serve it.
    """
    selection = rooms().registries.select(ns=ns, host=host)
    if (exchange := current.get()) is not None:
        exchange.registry = selection.registry.name
    return selection


def located(asked: RepositoryName, reference: Reference | None = None) -> Address:
    """Return the registry and repository that a request addresses; raise Denied if a rule says so.

    `reference` is the tag or digest if the request is for a manifest.
    """
    address = undecided_path(asked)
    checked(address, reference)
    return address


def located_manifest(
    asked: RepositoryName, reference: Reference
) -> tuple[Address, Decision | None]:
    """Return the address of a manifest, and the decision if it depends on the manifest itself.

    The decision is None if the rules need no look at the manifest. Raise Denied if they forbid it.
    """
    address = undecided_path(asked)
    decision = checked(address, reference)
    if decision is None or not decision.depends_on_manifest:
        return address, None
    return address, decision


def undecided_path(asked: RepositoryName) -> Address:
    """Return what the path of the current request addresses, without applying the rules.

    The result is kept for the rest of the request. Raise NameUnknown or NameInvalid.
    """
    exchange = current.get()
    if exchange is not None and (known := exchange.address) is not None and known.asked == asked:
        return known
    address = undecided(asked, ns=namespace(), host=host())
    if exchange is not None:
        exchange.address = address
    return address


def resolved(
    asked: RepositoryName, reference: Reference | None = None, *, ns: str | None, host: str
) -> Address:
    """Return the registry and repository that a name addresses under `ns` and `host`.

    Raise Denied if a rule forbids it.
    """
    address = undecided(asked, ns=ns, host=host)
    checked(address, reference)
    return address


def checked(
    address: Address, reference: Reference | None, digests: frozenset[Digest] = NO_DIGESTS
) -> Decision | None:
    """Return the decision of the rules if they allow the request, or None if there are no rules.

    `digests` are the known digests of the manifest.
    Raise RuleRefused if a rule denies it, ClientHidden if that rule needs an unknown client's
    address.
    """
    decision = decided(address, reference, digests)
    if decision is not None and not decision.allowed:
        _refuse(decision, client())
    return decision


def decided(
    address: Address, reference: Reference | None = None, digests: frozenset[Digest] = NO_DIGESTS
) -> Decision | None:
    """Return the decision of the rules, or None if there are no rules.

    `digests` are those of the answer, if it has arrived already.
    """
    rules = rooms().rules
    if rules is None:
        return None
    return rules.decide(
        _question(address.registry, address.repository, client(), reference, digests)
    )


def _question(
    registry: Registry,
    repository: RepositoryName,
    asking: Client,
    reference: Reference | None,
    digests: frozenset[Digest] = NO_DIGESTS,
) -> Question:
    return Question(
        registry=registry,
        repository=repository,
        client=asking,
        tag=reference if isinstance(reference, Tag) else None,
        digests=digests | {reference} if isinstance(reference, Digest) else digests,
    )


def _refuse(decision: Decision, asking: Client) -> NoReturn:
    rule = decision.rule
    if rule is not None and rule.networks is not None and not asking.is_known:
        raise ClientHidden(rule=rule.number)
    raise RuleRefused(decision.message, rule=rule and rule.number)


def permit(address: Address, reference: Reference | None = None) -> Permit | None:
    """Return a function that applies the rules to the target of a redirect, or None without rules.

    `reference` is the tag or digest if the client asks for a manifest.
    The function raises Denied if a rule forbids the target to this client.
    """
    room = rooms()
    rules = room.rules
    if rules is None:
        return None
    asking = client()
    asked = _question(address.registry, address.repository, asking, reference)

    def ask(registry: str, name: RepositoryName, reference: Reference | None) -> None:
        row = room.registries.named(registry)
        question = _question(row, name, asking, reference)
        decision = rules.decide(question)
        if not decision.allowed:
            _refuse(decision, asking)
        if decision.depends_on_manifest and not rules.are_alike(asked, question):
            # `Inspection` judges the manifest by the rules for the original address only.
            message = f"a rule of this proxy looks at images of {registry}: ask for it there"
            rule = decision.rule
            raise RuleRefused(message, rule=rule and rule.number)

    return ask


def undecided(asked: RepositoryName, *, ns: str | None, host: str) -> Address:
    """Return what a name addresses under `ns` and `host`, and note it for the log line.

    No rule is applied. Raise NameUnknown or NameInvalid.
    """
    address = rooms().registries.resolve(asked, ns=ns, host=host)
    if (exchange := current.get()) is not None:
        exchange.registry = address.registry.name
        if exchange.route != "token":  # the scopes of a token request stay out of the log
            exchange.repository = address.repository
    return address


def host() -> str:
    """Return the host name that the client used for this proxy; raise HostInvalid."""
    return rooms().forwarded.host(present().environ)


def client() -> Client:
    """Return the client of the current request, with its user if it has logged in.

    The address is "" for a request through a Unix socket, unless a server in front names it.
    """
    exchange = current.get()
    if exchange is None:
        return Client(*_client())
    if exchange.client is None:
        exchange.client = _client()
    return Client(*exchange.client, exchange.user)


def _client() -> tuple[str, bool]:
    forwarded, environ = rooms().forwarded, present().environ
    address = forwarded.client(environ)
    return address, bool(address) and forwarded.is_known(environ)


def may_see_figures() -> bool:
    """Return whether the client is in a network that may see figures.

    If figures are restricted, a client whose address is unknown may not see them.
    """
    room, environ = rooms(), present().environ
    if room.figures_networks.are_all:
        return True
    client = room.forwarded.client(environ)
    # A request without an address came through a Unix socket, from this machine.
    allowed = not client or client in room.figures_networks
    return allowed and room.forwarded.is_known(environ)


def source(registry: Registry) -> Source:
    """Return the source that a registry is read from: its upstream, or the cache around it."""
    return rooms().sources[registry.name]
