"""Run gunicorn as the `gunicorn` command does: `python serve.py`, with any gunicorn arguments.

The command itself exits with a traceback if WEB_CONCURRENCY is not a number, because gunicorn reads
that variable while it is imported, before it loads any file of ours.
"""

import os
import shlex
import sys

from app import log_lines
from server import arbiter

_WORKERS = "WEB_CONCURRENCY"
_ARGUMENTS = "GUNICORN_CMD_ARGS"


def main() -> None:
    """Check the variables that would crash gunicorn, then run gunicorn.

    Raise SystemExit if WEB_CONCURRENCY or GUNICORN_CMD_ARGS cannot be parsed. For the former the
    message lists all other faults of the settings too.
    """
    log_lines.wrap_stderr(arbiter.read_log_format())
    for name in (_WORKERS, _ARGUMENTS):
        if not os.environ.get(name, "").strip():
            os.environ.pop(name, None)  # an empty variable counts as unset
    if not arbiter.is_worker_count(os.environ.get(_WORKERS, "1")):
        arbiter.refuse(arbiter.check())
    try:
        shlex.split(os.environ.get(_ARGUMENTS, ""))
    except ValueError as error:
        sys.exit(f"Docxy cannot start: {_ARGUMENTS}: {str(error).lower()}")
    from gunicorn.app.wsgiapp import run  # noqa: PLC0415 - it reads the variables checked above

    run(prog="gunicorn")


if __name__ == "__main__":
    main()
