"""`flask cache verify`: whether what is kept is what it is called."""

import sys

import click
from flask.cli import with_appcontext

from app.cli import means
from app.cli.amounts import counted, size
from app.store.upkeep import Checked


@click.command()
@with_appcontext
def verify() -> None:
    """Read everything that is kept and compare it with its digest.

    What is wrong is taken away, and fetched again when it is next asked for.
    Ends with 1 if anything was wrong.
    """
    number, read = 0, 0
    faulty: list[Checked] = []
    with means.opened() as cache:
        shares = cache.store.upkeep.statistics().registries.values()
        whole = sum(share.bytes for share in shares)
        with click.progressbar(length=whole, label="Verifying", file=sys.stderr) as bar:
            for checked in cache.store.upkeep.verify():
                number, read = number + 1, read + checked.size
                if checked.fault:
                    faulty.append(checked)
                bar.update(checked.size)
    for one in faulty:
        click.echo(f"{one.registry} {one.digest}: {one.fault}")
    click.echo(f"{counted(number, 'file', 'files')}, {size(read)}: {len(faulty)} faulty.")
    if faulty:
        raise SystemExit(1)
