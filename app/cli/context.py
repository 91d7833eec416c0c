"""The objects that the commands work with; create_app provides them."""

import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final, cast

import click
from flask import Flask, current_app

from app.access.networks import NetworkPolicy
from app.access.rules import Rules
from app.access.users import Users
from app.cache.source import Cache
from app.registries import Registries
from app.source import Source
from app.store.errors import StoreError

_EXTENSION_KEY: Final = "docxy.cli"


@dataclass(frozen=True, slots=True, kw_only=True)
class CliContext:
    """The objects of the application that the commands need.

    `sources` has the source of each registry by its name. `cache` is None if there is no cache, and
    `users` if this proxy has no users of its own.
    """

    registries: Registries
    sources: Mapping[str, Source]
    cache: Cache | None
    lists: NetworkPolicy
    users: Users | None
    rules: Rules

    def install(self, app: Flask) -> None:
        """Make this available to the commands of an application."""
        app.extensions[_EXTENSION_KEY] = self


def get_cli_context() -> CliContext:
    """Return the CliContext that create_app has installed in the current application."""
    return cast("CliContext", current_app.extensions[_EXTENSION_KEY])


@contextmanager
def open_cache() -> Iterator[Cache]:
    """Provide the cache to a command, and close its storage afterwards.

    Raise ClickException if there is no cache or its store fails, so that the operator sees one
    line on standard error. Print the store's other errors there as warnings.
    """
    cache = get_cli_context().cache
    if cache is None:
        message = "there is no cache: DOCXY_CACHE_DIR is not set (see docs/cache.md)"
        raise click.ClickException(message)
    try:
        yield cache
    except StoreError as error:
        raise click.ClickException(str(error)) from error
    finally:
        cache.storage.close()
        for error_text in cache.storage.blobs.survived_errors.drain():
            click.echo(f"Warning: {error_text}", err=True)


def check_owner(directory: Path, owner: int | None) -> None:
    """Raise ClickException unless the current user owns the cache in `directory`.

    `owner` is the UID of the owner of its content, or None if the cache has no content yet. Above
    all, this refuses root: the workers could neither read nor delete the files that it creates.
    """
    current_user = os.geteuid()
    if owner is None and current_user == 0:
        owner = _get_owner(directory)
        if owner is None:
            message = (
                f"{directory} does not exist yet: start Docxy, or run this command as its user"
            )
            raise click.ClickException(message)
    if owner not in {None, current_user}:
        message = (
            f"{directory} belongs to user {owner}, and this command runs as user {current_user}: "
            f"run it as user {owner}"
        )
        raise click.ClickException(message)


def _get_owner(path: Path) -> int | None:
    try:
        return path.stat().st_uid
    except OSError:
        return None
