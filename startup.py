"""Build the application; and check beforehand, in a process of its own, that this can be done.

Not part of `app`: a process starts with it.
"""

import os
import sys

from flask import Flask

from app import create_app, logs
from app.loading import SettingsError, load
from app.setting_values import Files
from app.store.errors import StoreError
from loglines import take_failures


def build(files: Files) -> Flask:
    """Return the application; raise SystemExit with one message that lists every fault."""
    try:
        settings = load(files)
    except SettingsError as error:
        sys.exit(str(error))
    take_failures()
    logs.configure(settings.log_format, settings.log_level)
    try:
        return create_app(settings)
    except StoreError as error:
        sys.exit(f"Docxy cannot start: the cache cannot be used.\n  {error.strerror}")


def check() -> None:
    """Build the application, and end; master.py starts a process with this.

    What the files of the settings hold goes to the standard output, as data for the master's
    memory.
    """
    files = Files()
    build(files)
    sys.stdout.buffer.write(files.dump())
    sys.stdout.flush()
    # A process that ends at once need not take itself apart: 0.15 s of 0.7.
    os._exit(0)
