"""`flask access check`: what would be decided, and by which rule."""

from collections.abc import Iterator
from typing import Final

import click
from flask.cli import with_appcontext

from app.access.client import Client
from app.access.networks import address_of
from app.access.rules import Decision, Question
from app.cli import means
from app.cli.images import Image, images
from app.oci.reference import Digest, Tag

_LATEST: Final = Tag("latest")
"""What clients pull where neither a tag nor a digest is written."""


@click.command()
@click.option(
    "--network",
    metavar="ADDRESS",
    help="The client's address. Without it: one whose address cannot be known.",
)
@click.option("--user", default="", metavar="NAME", help="Who has logged in at this proxy.")
@click.argument("image")
@with_appcontext
def check(*, network: str | None, user: str, image: str) -> None:
    """Say whether a client may pull IMAGE; end with 1 where it may not, or only in part."""
    if network is not None and address_of(network) is None:
        message = f"--network: {network} is no address: write one, like 10.0.0.7"
        raise click.UsageError(message)
    (meant,) = images([image], means.means().registries)
    client = Client(network or "", network is not None, user)
    click.echo(f"{meant.repository} of {meant.registry}, for {network or 'who hides'}")
    if not means.means().lists.admit(client.address):
        click.echo("denied by the lists of networks: nothing is answered but /health")
        raise SystemExit(1)
    decisions = list(_decisions(meant, client))
    for about, decision in decisions:
        click.echo(f"{about}: {_told(decision)}")
    if not all(decision.allowed for _, decision in decisions):
        raise SystemExit(1)


def _decisions(image: Image, client: Client) -> Iterator[tuple[str, Decision]]:
    """Give what is decided of each kind of request that a pull makes."""
    there = means.means()
    (registry,) = (row for row in there.registries.rows if row.name == image.registry)
    tag = image.reference or _LATEST
    kinds: list[tuple[str, Tag | None]] = [("what is asked by digest, and lists", None)]
    if not isinstance(tag, Digest):
        kinds.insert(0, (f"the manifest by the tag {tag}", tag))
    for about, asked in kinds:
        question = Question(
            registry=registry, repository=image.repository, client=client, tag=asked
        )
        yield about, there.rules.decide(question)


def _told(decision: Decision) -> str:
    word = "allowed" if decision.allowed else "denied"
    if decision.rule is None:
        return f"{word}, since no rule matches"
    if decision.allowed and decision.rule.condition:
        return f"{word} by rule {decision.rule.number}, if it is an image {decision.rule.condition}"
    reason = "" if decision.allowed else f": {decision.message}"
    return f"{word} by rule {decision.rule.number}{reason}"
