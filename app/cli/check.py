"""`flask access check`: show whether a client may pull an image, and which rule decides."""

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import groupby
from operator import itemgetter
from typing import Final

import click
from flask.cli import AppGroup, with_appcontext

from app.access.networks import Address, ClientIdentity, parse_network, partition
from app.access.rules import AccessRequest, Decision
from app.cli import context
from app.cli.images import Image, parse_images
from app.oci.reference import Tag

_LATEST: Final = Tag("latest")
"""The tag that clients pull if an image name has neither a tag nor a digest."""


@dataclass(frozen=True, slots=True)
class _Verdict:
    """The decision for one part of a network, the same for all its addresses."""

    allowed: bool
    lines: tuple[str, ...]


@click.command()
@click.option(
    "--network",
    metavar="NETWORK",
    help="The client's address, or a whole network. Default: an unknown address.",
)
@click.option("--user", default="", metavar="NAME", help="The user who is logged in at this proxy.")
@click.argument("image")
@with_appcontext
def check(*, network: str | None, user: str, image: str) -> None:
    """Show whether a client may pull IMAGE, and which rule decides.

    The exit status is 1 if the client may not pull it, or only from a part of the network.
    """
    (meant,) = parse_images([image], context.get_cli_context().registries)
    if network is None:
        found = [("", _build_verdict(meant, ClientIdentity("", is_known=False, user=user)))]
    else:
        found = list(_merge_ranges(meant, network, user))
    whom = f"{meant.repository} of {meant.registry}, for {network or 'an unknown address'}"
    if len(found) == 1:
        click.echo("\n".join([whom, *found[0][1].lines]))
    else:
        click.echo(f"{whom}, by address")
        for where, verdict in found:
            click.echo("\n  ".join([f"{where}:", *verdict.lines]))
    if not all(verdict.allowed for _, verdict in found):
        raise SystemExit(1)


def _merge_ranges(image: Image, network: str, user: str) -> Iterator[tuple[str, _Verdict]]:
    """Yield the address ranges of a network with their verdicts; neighbouring ranges differ."""
    for verdict, alike in groupby(_decide_ranges(image, network, user), key=itemgetter(0)):
        spans = list(alike)
        first, last = spans[0][1], spans[-1][2]
        yield str(first) if first == last else f"{first} to {last}", verdict


def _decide_ranges(
    image: Image, network: str, user: str
) -> Iterator[tuple[_Verdict, Address, Address]]:
    there = context.get_cli_context()
    try:
        whole = parse_network(network)
    except ValueError as error:
        message = (
            f"--network: {network} is not an address or a network, like 10.0.0.7 or 10.0.0.0/8"
        )
        raise click.UsageError(message) from error
    for first, last in partition(whole, (*there.lists.networks, *there.rules.networks)):
        yield _build_verdict(image, ClientIdentity(str(first), user=user)), first, last


def _build_verdict(image: Image, client: ClientIdentity) -> _Verdict:
    if not context.get_cli_context().lists.is_admitted(client.address):
        told = "denied by the lists of networks: only /health is answered"
        return _Verdict(allowed=False, lines=(told,))
    if told := _find_login_fault(client.user):
        return _Verdict(allowed=False, lines=(told,))
    decisions = list(_decide_requests(image, client))
    return _Verdict(
        allowed=all(decision.allowed for _, decision in decisions),
        lines=tuple(f"{about}: {_format_decision(decision)}" for about, decision in decisions),
    )


def _find_login_fault(user: str) -> str:
    """Return why `user` is denied before any rule applies, or ""."""
    users = context.get_cli_context().users
    if users is None:
        return ""
    if not user:
        return "denied without a login; name the user with --user NAME"
    return "" if users.lookup_secret(user) else f"denied: there is no user {user}"


def _decide_requests(image: Image, client: ClientIdentity) -> Iterator[tuple[str, Decision]]:
    """Yield the decision for each kind of request that a pull makes, with its description."""
    there = context.get_cli_context()
    (registry,) = (row for row in there.registries.rows if row.name == image.registry)
    asked = AccessRequest(registry=registry, repository=image.repository, client=client)
    reference = image.reference or _LATEST
    if isinstance(reference, Tag):
        by_tag = asked._replace(tag=reference)
        yield f"the manifest by the tag {reference}", there.rules.decide(by_tag)
    elif there.rules.has_digests:
        by_digest = asked._replace(digests=frozenset({reference}))
        yield "the manifest by this digest", there.rules.decide(by_digest)
    yield "other requests by digest, and lists", there.rules.decide(asked)


def _format_decision(decision: Decision) -> str:
    word = "allowed" if decision.allowed else "denied"
    if decision.rule is None:
        told = f"{word}, because no rule matches"
    elif decision.allowed and decision.rule.condition:
        told = f"{word} by rule {decision.rule.number}, if it is an image {decision.rule.condition}"
    else:
        reason = "" if decision.allowed else f": {decision.message}"
        told = f"{word} by rule {decision.rule.number}{reason}"
    return f"{told}, unless an earlier rule names its digest" if decision.is_provisional else told


# The group `flask access`.

access: Final = AppGroup("access", help="Show who may pull what (see docs/access.md).")
access.add_command(check)
