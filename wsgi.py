"""The application, for gunicorn and for any other WSGI server."""

import master
from app.setting_values import Files
from startup import build

# A worker has the settings that its master has accepted. Without such a master, and where nothing
# is checked beforehand, they are read here.
_accepted = master.accepted()
application = app = build(Files.from_dump(_accepted) if _accepted else Files())
