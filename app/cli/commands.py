"""The command group `flask cache`, and the registration of it and `flask access`."""

from typing import Final

import click
from flask import Flask
from flask.cli import AppGroup

from app.cli.check import access
from app.cli.remove import remove
from app.cli.statistics import statistics, verify
from app.cli.warm import warm

cache: Final = AppGroup("cache", help="Manage the cache (see docs/cache.md).")
for command in (statistics, verify, remove, warm):
    cache.add_command(command)


def register(app: Flask) -> None:
    """Add both command groups to an application."""
    app.cli.add_command(cache)
    app.cli.add_command(access)


def is_command_running() -> bool:
    """Return whether the application was built for a command and will serve no requests."""
    return click.get_current_context(silent=True) is not None
