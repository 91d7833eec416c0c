"""The group `flask access`."""

from typing import Final

from flask.cli import AppGroup

from app.cli.check import check

access: Final = AppGroup("access", help="See who may pull what; docs/access.md says more.")
access.add_command(check)
