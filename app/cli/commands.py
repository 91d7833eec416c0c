"""The groups `flask cache` and `flask access`."""

from typing import Final

import click
from flask import Flask
from flask.cli import AppGroup

from app.cli.check import access
from app.cli.remove import remove
from app.cli.statistics import statistics, verify
from app.cli.warm import warm

cache: Final = AppGroup("cache", help="Look after the cache; docs/cache.md says more.")
for command in (statistics, verify, remove, warm):
    cache.add_command(command)


def register(app: Flask) -> None:
    """Add the commands to an application's."""
    app.cli.add_command(cache)
    app.cli.add_command(access)


def are_running() -> bool:
    """Tell whether the application is built for a command, and serves nobody."""
    return click.get_current_context(silent=True) is not None
