"""Whom the doctor logs in as, and where its password comes from."""

import base64
import contextlib
import getpass
import sys
from dataclasses import dataclass, field
from typing import Final

from app.doctor.place import Place
from app.loading import told

VARIABLE: Final = "DOCTOR_PASSWORD"
"""Not DOCXY_...: that would be a setting of the proxy that there is not."""


@dataclass(frozen=True, slots=True)
class Login:
    """A user of the proxy; the password is for its token endpoint, and is shown nowhere."""

    user: str
    password: str = field(repr=False)

    @property
    def header(self) -> tuple[str, str]:
        """Return the field that says so (RFC 7617)."""
        # What is not UTF-8 in the environment, or in the input, goes on as it came.
        text = f"{self.user}:{self.password}".encode(errors="surrogateescape")
        return ("Authorization", f"Basic {base64.b64encode(text).decode()}")


def name(text: str) -> str:
    """Return the name of a user; raise ValueError."""
    if not text or ":" in text or not text.isprintable():
        message = "a user name is not empty, and has no colon (RFC 7617)"
        raise ValueError(message)
    return text


def read(user: str) -> Login:
    """Return a login, its password from the environment or the standard input; raise ValueError.

    Never from an argument, which everybody on the machine can see.
    """
    password = told(VARIABLE) or _asked(user)
    if not password:
        message = f"there is no password: set {VARIABLE}, or write it to the standard input"
        raise ValueError(message)
    return Login(user, password)


def _asked(user: str) -> str:
    if sys.stdin.isatty():
        with contextlib.suppress(EOFError):
            return getpass.getpass(f"Password of {user}: ")
        return ""
    return sys.stdin.readline().rstrip("\r\n")


def why_not(place: Place, *, is_trusted: bool) -> str:
    """Return why a password must not be sent there, or ""."""
    if place.is_tls:
        return "" if is_trusted else "nobody trusts the certificate, so it gets no password"
    return "" if place.is_loopback else "a password is not sent over plain http"
