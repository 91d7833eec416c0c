"""Docxy with one address more, at which it fails in every way in which a process can."""

import sys
import threading
import warnings

import gevent

from wsgi import app


def boom() -> None:
    """Fail, with a text of two lines."""
    message = "first=1\nsecond=2"
    raise LookupError(message)


def print_it() -> None:
    """Write to standard error, as a library may."""
    sys.stderr.write("printed by a library\n")


WAYS = {
    "view": boom,
    "thread": lambda: threading.Thread(target=boom).start(),
    "greenlet": lambda: gevent.spawn(boom),
    "warning": lambda: warnings.warn("old\nways", UserWarning, stacklevel=1),
    "print": print_it,
}


@app.route("/fails/<way>")
def fail(way: str) -> str:
    """Fail in one of these ways."""
    WAYS[way]()
    return "done"
