"""Read the settings, build the application."""

import sys

from app import create_app, logs
from app.loading import SettingsError, load

try:
    settings = load()
except SettingsError as error:
    sys.exit(str(error))
logs.configure(settings.log_format, settings.log_level)
application = app = create_app(settings)
