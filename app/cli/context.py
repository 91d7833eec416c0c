"""What the commands use, put there by create_app."""

import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final, cast

import click
from flask import Flask, current_app

from app.access.networks import Lists
from app.access.rules import Rules
from app.access.users import Users
from app.cache.source import Cache
from app.registries import Registries
from app.source import Source
from app.store.errors import StoreError

_KEY: Final = "docxy.cli"


@dataclass(frozen=True, slots=True, kw_only=True)
class Means:
    """The registries, the source of each by its name, the cache, if there is one, and who may."""

    registries: Registries
    sources: Mapping[str, Source]
    cache: Cache | None
    lists: Lists
    users: Users | None
    rules: Rules

    def put_into(self, app: Flask) -> None:
        """Hand this to the commands of an application."""
        app.extensions[_KEY] = self


def means() -> Means:
    """Return what create_app has put there."""
    return cast("Means", current_app.extensions[_KEY])


@contextmanager
def opened() -> Iterator[Cache]:
    """Lend the cache to a command; whatever is wrong with it is one line on standard error."""
    cache = means().cache
    if cache is None:
        message = "there is no cache: DOCXY_CACHE_DIR is not set (see docs/cache.md)"
        raise click.ClickException(message)
    try:
        yield cache
    except StoreError as error:
        raise click.ClickException(str(error)) from error
    finally:
        cache.store.close()
        for trouble in cache.store.troubles.heard():
            click.echo(f"Warning: {trouble}", err=True)


def check_owner(directory: Path) -> None:
    """Refuse another user than whose cache it is; raise ClickException.

    Root above all: the workers could not read what that one leaves, nor take it away.
    """
    us, owner = os.geteuid(), _owner(directory / "content")
    if owner is None and us == 0:
        owner = _owner(directory)
        if owner is None:
            message = f"{directory} is not there yet: start Docxy, or run this as its user"
            raise click.ClickException(message)
    if owner not in {None, us}:
        message = (
            f"{directory} is kept by the user {owner}, and this is the user {us}: "
            "run this command as that user"
        )
        raise click.ClickException(message)


def _owner(path: Path) -> int | None:
    try:
        return path.stat().st_uid
    except OSError:
        return None
