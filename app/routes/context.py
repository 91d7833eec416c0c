"""What the views use, put there by create_app."""

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

# The client's request itself.
#
# Flask's `request` looks for it at each access, a dozen times for a small answer.

_REQUEST = cast("LocalProxy[Request]", request)


def present() -> Request:
    """Return the request that this thread, or greenlet, serves."""
    return _REQUEST._get_current_object()  # noqa: SLF001 - which is how Werkzeug documents it


_KEY: Final = "docxy"
_APP: Final = cast("LocalProxy[Flask]", current_app)


class Figures(Protocol):
    """Tells what all workers together have counted."""

    def exposition(self) -> bytes:
        """Return it in the text format of Prometheus."""

    def shown(self) -> dict[str, Any]:
        """Return what the page shows."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Rooms:
    """The registries, the source of each by its name, and what to believe of a request."""

    registries: Registries
    sources: Mapping[str, Source]
    forwarded: Forwarded
    write_timeout: float
    figures_networks: Networks = field(default_factory=lambda: Networks(""))
    figures: Figures | None = None
    """None: nothing is counted."""
    afterwards: Afterwards = field(default_factory=Afterwards)
    index: Index | None = None
    cache: Holder | None = None
    """None: nothing is kept."""
    rules: Rules | None = None
    """None: everybody may pull everything."""
    known_images: KnownImages = field(default_factory=KnownImages)
    guard: Guard | None = None
    """None: this proxy has no users of its own."""

    def put_into(self, app: Flask) -> None:
        """Hand this to the views of an application."""
        app.extensions[_KEY] = self


def rooms() -> Rooms:
    """Return what create_app has put there."""
    found: Rooms = _APP._get_current_object().extensions[_KEY]  # noqa: SLF001 - as in `present`
    return found


def namespace() -> str | None:
    """Return the `ns` that containerd adds when it asks a mirror."""
    request = present()
    return request.args.get("ns") or None if request.query_string else None


def selected() -> Selection:
    """Return the registry that a request without a repository name addresses."""
    return chosen(ns=namespace(), host=host())


def chosen(*, ns: str | None, host: str) -> Selection:
    """Return the registry that is addressed so, and note it for the line."""
    selection = rooms().registries.select(ns=ns, host=host)
    if (exchange := current.get()) is not None:
        exchange.registry = selection.registry.name
    return selection


def located(asked: RepositoryName, reference: Reference | None = None) -> Address:
    """Return the registry and repository that a request addresses; raise Denied.

    `reference` is the manifest's, where that is what is asked for.
    """
    address = undecided_path(asked)
    checked(address, reference)
    return address


def located_manifest(
    asked: RepositoryName, reference: Reference
) -> tuple[Address, Decision | None]:
    """Return the decision as well, where it depends on what the manifest is; raise Denied."""
    address = undecided_path(asked)
    decision = checked(address, reference)
    if decision is None or not decision.depends_on_manifest:
        return address, None
    return address, decision


def undecided_path(asked: RepositoryName) -> Address:
    """Return what the path of a request addresses; no rule has been asked yet."""
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
    """Return the registry and repository that are addressed so; raise Denied."""
    address = undecided(asked, ns=ns, host=host)
    checked(address, reference)
    return address


def checked(
    address: Address, reference: Reference | None, digests: frozenset[Digest] = NO_DIGESTS
) -> Decision | None:
    """Return what the rules say, if there are any, where they allow it; raise Denied."""
    decision = decided(address, reference, digests)
    if decision is not None and not decision.allowed:
        _refuse(decision, client())
    return decision


def decided(
    address: Address, reference: Reference | None = None, digests: frozenset[Digest] = NO_DIGESTS
) -> Decision | None:
    """Return what the rules say; None without any.

    `digests` are what the answer is called, where it is there.
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
    """Return what asks the rules of where redirects lead; None without any rules.

    `reference` is the manifest's, where that is what the client asks for.
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
            # The manifest is looked at by the rules for where it was asked for.
            message = f"a rule of this proxy looks at images of {registry}: ask for it there"
            rule = decision.rule
            raise RuleRefused(message, rule=rule and rule.number)

    return ask


def undecided(asked: RepositoryName, *, ns: str | None, host: str) -> Address:
    """Return what is addressed so, and note it for the line; no rule has been asked yet."""
    address = rooms().registries.resolve(asked, ns=ns, host=host)
    if (exchange := current.get()) is not None:
        exchange.registry = address.registry.name
        if exchange.route != "token":  # what a form says is nobody else's business
            exchange.repository = address.repository
    return address


def host() -> str:
    """Return the host name of this proxy that the client asked."""
    return rooms().forwarded.host(present().environ)


def client() -> Client:
    """Return who asks; through a Unix socket nobody has an address but what a server tells."""
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
    """Tell whether the client is in a network that may see figures; one that is hidden is not."""
    room, environ = rooms(), present().environ
    if room.figures_networks.are_all:
        return True
    client = room.forwarded.client(environ)
    # Without an address it came through a Unix socket, from this machine.
    allowed = not client or client in room.figures_networks
    return allowed and room.forwarded.is_known(environ)


def source(registry: Registry) -> Source:
    """Return where a registry is read from."""
    return rooms().sources[registry.name]
