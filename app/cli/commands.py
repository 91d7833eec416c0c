"""The group `flask cache`."""

from typing import Final

from flask import Flask
from flask.cli import AppGroup

from app.cli.remove import remove
from app.cli.statistics import statistics
from app.cli.verify import verify
from app.cli.warm import warm

cache: Final = AppGroup("cache", help="Look after the cache; docs/cache.md says more.")
for command in (statistics, verify, remove, warm):
    cache.add_command(command)


def register(app: Flask) -> None:
    """Add the commands to an application's."""
    app.cli.add_command(cache)
