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

_DEFAULT_TAG: Final = Tag("latest")
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
@click.option("--user", default="", metavar="NAME", help="The user who is logged in to this proxy.")
@click.argument("image")
@with_appcontext
def check(*, network: str | None, user: str, image: str) -> None:
    """Show whether a client may pull IMAGE, and which rule decides.

    The exit status is 1 if the client, or a part of the network, may not pull it.
    """
    (wanted,) = parse_images([image], context.get_cli_context().registries)
    if network is None:
        verdicts = [("", _build_verdict(wanted, ClientIdentity("", is_known=False, user=user)))]
    else:
        verdicts = list(_merge_ranges(wanted, network, user))
    subject = f"{wanted.repository} of {wanted.registry}, for {network or 'an unknown address'}"
    if len(verdicts) == 1:
        click.echo("\n".join([subject, *verdicts[0][1].lines]))
    else:
        click.echo(f"{subject}, by address")
        for addresses, verdict in verdicts:
            click.echo("\n  ".join([f"{addresses}:", *verdict.lines]))
    if not all(verdict.allowed for _, verdict in verdicts):
        raise SystemExit(1)


def _merge_ranges(image: Image, network: str, user: str) -> Iterator[tuple[str, _Verdict]]:
    """Yield the address ranges of a network with verdicts; adjacent ranges have different ones."""
    for verdict, group in groupby(_decide_ranges(image, network, user), key=itemgetter(0)):
        ranges = list(group)
        first, last = ranges[0][1], ranges[-1][2]
        yield str(first) if first == last else f"{first} to {last}", verdict


def _decide_ranges(
    image: Image, network: str, user: str
) -> Iterator[tuple[_Verdict, Address, Address]]:
    cli_context = context.get_cli_context()
    try:
        whole_network = parse_network(network)
    except ValueError as error:
        message = (
            f"--network: {network} is not an address or a network, like 10.0.0.7 or 10.0.0.0/8"
        )
        raise click.UsageError(message) from error
    for first, last in partition(
        whole_network, (*cli_context.lists.networks, *cli_context.rules.networks)
    ):
        yield _build_verdict(image, ClientIdentity(str(first), user=user)), first, last


def _build_verdict(image: Image, client: ClientIdentity) -> _Verdict:
    if not context.get_cli_context().lists.is_admitted(client.address):
        reason = "denied by the lists of networks: only /health is answered"
        return _Verdict(allowed=False, lines=(reason,))
    if reason := _find_login_fault(client.user):
        return _Verdict(allowed=False, lines=(reason,))
    decisions = list(_decide_requests(image, client))
    return _Verdict(
        allowed=all(decision.allowed for _, decision in decisions),
        lines=tuple(
            f"{description}: {_format_decision(decision)}" for description, decision in decisions
        ),
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
    cli_context = context.get_cli_context()
    (registry,) = (row for row in cli_context.registries.rows if row.name == image.registry)
    request = AccessRequest(registry=registry, repository=image.repository, client=client)
    reference = image.reference or _DEFAULT_TAG
    if isinstance(reference, Tag):
        by_tag = request._replace(tag=reference)
        yield f"the manifest by the tag {reference}", cli_context.rules.decide(by_tag)
    elif cli_context.rules.has_digests:
        by_digest = request._replace(digests=frozenset({reference}))
        yield "the manifest by this digest", cli_context.rules.decide(by_digest)
    yield "other requests by digest, and lists", cli_context.rules.decide(request)


def _format_decision(decision: Decision) -> str:
    outcome = "allowed" if decision.allowed else "denied"
    if decision.rule is None:
        text = f"{outcome}, because no rule matches"
    elif decision.allowed and decision.rule.condition:
        text = (
            f"{outcome} by rule {decision.rule.number}, if it is an image {decision.rule.condition}"
        )
    else:
        reason = "" if decision.allowed else f": {decision.message}"
        text = f"{outcome} by rule {decision.rule.number}{reason}"
    return f"{text}, unless an earlier rule names its digest" if decision.is_provisional else text


# The group `flask access`.

access: Final = AppGroup("access", help="Show who may pull what (see docs/access.md).")
access.add_command(check)
