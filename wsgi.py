"""The application, for gunicorn and for any other WSGI server."""

from app.config.types import Files
from app.startup import build
from server import arbiter

# A worker has the settings that its master has accepted. Without such a master, and where nothing
# is checked beforehand, they are read here.
_accepted = arbiter.accepted()
application = app = build(Files.from_dump(_accepted) if _accepted else Files())
