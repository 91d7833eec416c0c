"""How a connection ends that the other side gave up."""

import ssl
from typing import Final

CUT: Final = (ConnectionResetError, BrokenPipeError, ssl.SSLEOFError, ssl.SSLZeroReturnError)
"""RemoteDisconnected is one of them."""


def plainly(error: BaseException) -> BaseException:
    """Return the error that says what happened: Python 3.11.2 raises the parent of SSLEOFError."""
    if getattr(error, "reason", "") == "UNEXPECTED_EOF_WHILE_READING":
        return ssl.SSLEOFError(*error.args)
    return error
