"""The WSGI application, for gunicorn and for any other WSGI server."""

from app.config.types import SettingFiles
from app.startup import build_app
from server import arbiter

# A worker uses the settings that its master has accepted. Without such a master, or if the master
# accepted none (gunicorn --reload), `load` reads them from the files.
_accepted = arbiter.get_accepted()
application = app = build_app(SettingFiles.from_dump(_accepted) if _accepted else SettingFiles())
