"""A 429 is remembered for some seconds: who repeats the question at once has the same answer."""

import hashlib
import hmac
import json
import logging
import secrets
import threading
import time
from collections import OrderedDict
from dataclasses import dataclass, replace
from http import HTTPStatus
from typing import Final

from app.oci import headers
from app.oci.errors import ErrorCode, error_document
from app.oci.headers import Headers
from app.source import Reply, replied

logger = logging.getLogger(__name__)

_LONGEST: Final = 5.0
"""Seconds. containerd repeats a 429 five times at once; but windows of pulls roll, and so the next
question may be a good one."""

_LONGEST_FOR_ALL: Final = 10.0
"""Seconds after a 429 that is no registry's error but counts every request of an address."""

_EVERYTHING: Final = "*"
"""No repository's name, and nothing that a token is asked for with."""

_CONTENT_LIMIT: Final = 4096
"""Bytes of an answer that is repeated in its own words."""

_FIELDS_LIMIT: Final = 4096
"""Bytes of its header, names and values."""

_ABOUT_LIMITS: Final = ("retry-after", "ratelimit", "x-ratelimit")
"""How the names begin of what says when to come back, whatever body is beside it."""

_DOCUMENT: Final = json.dumps(
    error_document(ErrorCode.TOOMANYREQUESTS, "the registry has just answered 429")
).encode()

_ENTRIES: Final = 10_000


@dataclass(frozen=True, slots=True)
class _Told:
    """A 429 and until when it is repeated."""

    until: float
    headers: Headers
    content: bytes

    def again(self, now: float) -> Reply:
        """Return the same answer, with what is left of its time."""
        fields = headers.without(self.headers, "retry-after")
        fields.append(("Retry-After", str(int(self.until - now) + 1)))
        return replied(HTTPStatus.TOO_MANY_REQUESTS, fields, self.content)


class HeldBack:
    """Who was told 429, and about what; a token or a login makes another of them."""

    def __init__(self) -> None:
        self._key = secrets.token_bytes(32)
        self._lock = threading.Lock()
        self._told: OrderedDict[bytes, _Told] = OrderedDict()

    def __len__(self) -> int:
        return len(self._told)

    def answer(self, authorization: str, about: str) -> Reply | None:
        """Return the answer to a question that has just had it; None for any other."""
        if not self._told:
            return None
        now = time.monotonic()
        for one in (about, _EVERYTHING):
            told = self._told.get(self._identity(authorization, one))
            if told is not None and told.until > now:
                logger.info("A 429 is given again, and the registry not asked.")
                return told.again(now)
        return None

    def noted(self, authorization: str, about: str, reply: Reply, kind: str) -> Reply:
        """Remember an answer if it is a 429, and return it; `kind` is its own Content-Type.

        Docker Hub counts pulls of an identity, and says so as a registry; what counts every request
        of an address stands before it and answers in plain text.
        """
        if reply.status != HTTPStatus.TOO_MANY_REQUESTS:
            return reply
        content = b"".join(reply.body)
        fields, kept = _repeatable(reply.headers, content)
        told = float(reply.header("retry-after"))
        for_all = kind.startswith("text/plain")
        seconds = min(told, _LONGEST_FOR_ALL if for_all else _LONGEST)
        again = _Told(time.monotonic() + seconds, fields, kept)
        self._remember(self._identity(authorization, _EVERYTHING if for_all else about), again)
        return replace(reply, body=[content] if content else ())

    def _remember(self, key: bytes, told: _Told) -> None:
        now = time.monotonic()
        with self._lock:
            self._told.pop(key, None)
            self._told[key] = told
            # They stand in the order in which they came, and none counts for longer than this.
            while self._told:
                oldest = next(iter(self._told.values()))
                if oldest.until > now and len(self._told) <= _ENTRIES:
                    break
                self._told.popitem(last=False)

    def _identity(self, authorization: str, about: str) -> bytes:
        text = f"{authorization}\0{about}".encode(errors="surrogateescape")
        return hmac.digest(self._key, text, hashlib.sha256)


def _repeatable(fields: Headers, content: bytes) -> tuple[Headers, bytes]:
    """Return the header and the body of an answer that is repeated.

    A HEAD has no body, and a long one is not kept: our own in its place has another type and no
    encoding.
    """
    if 0 < len(content) <= _CONTENT_LIMIT and _size(fields) <= _FIELDS_LIMIT:
        return fields, content
    about = [(name, value) for name, value in fields if name.lower().startswith(_ABOUT_LIMITS)]
    kept = about if _size(about) <= _FIELDS_LIMIT else []
    return [("Content-Type", "application/json"), *kept], _DOCUMENT


def _size(fields: Headers) -> int:
    return sum(len(name) + len(value) for name, value in fields)
