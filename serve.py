"""Run gunicorn, as `gunicorn` does: python serve.py, with any of gunicorn's arguments.

gunicorn itself ends with a traceback for a WEB_CONCURRENCY that is no number: it reads that one
while it is imported, before any file of ours.
"""

import os
import shlex
import sys

from app import log_lines
from server import arbiter

_WORKERS = "WEB_CONCURRENCY"
_ARGUMENTS = "GUNICORN_CMD_ARGS"


def main() -> None:
    """Refuse what gunicorn would stumble over, with all other faults; else become gunicorn."""
    log_lines.take_stderr(arbiter.log_form())
    for name in (_WORKERS, _ARGUMENTS):
        if not os.environ.get(name, "").strip():
            os.environ.pop(name, None)  # an empty variable counts as unset
    if not arbiter.is_count(os.environ.get(_WORKERS, "1")):
        arbiter.refuse(arbiter.check())
    try:
        shlex.split(os.environ.get(_ARGUMENTS, ""))
    except ValueError as error:
        sys.exit(f"Docxy cannot start: {_ARGUMENTS}: {str(error).lower()}")
    from gunicorn.app.wsgiapp import run  # noqa: PLC0415 - not before that

    run(prog="gunicorn")


if __name__ == "__main__":
    main()
