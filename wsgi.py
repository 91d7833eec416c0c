"""Read the settings, build the application."""

import sys

from app import create_app, logs
from app.loading import SettingsError, load
from app.store.errors import StoreError
from loglines import take_failures

try:
    settings = load()
except SettingsError as error:
    sys.exit(str(error))
take_failures()
logs.configure(settings.log_format, settings.log_level)
try:
    application = app = create_app(settings)
except StoreError as error:
    sys.exit(f"Docxy cannot start: the cache cannot be used.\n  {error.strerror}")
