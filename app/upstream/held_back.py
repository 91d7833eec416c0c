"""A 429 is remembered for some seconds: who repeats the question at once has the same answer."""

import hashlib
import hmac
import json
import secrets
import threading
import time
from collections import OrderedDict
from dataclasses import dataclass, replace
from http import HTTPStatus
from typing import Final

import requests

from app.content import Reply, replied
from app.oci import headers
from app.oci.errors import ErrorCode, error_document
from app.oci.headers import Headers
from app.oci.reference import RepositoryName

_LONGEST: Final = 5.0
"""Seconds. containerd repeats a 429 five times at once; but windows of pulls roll, and so the next
question may be a good one."""

_LONGEST_FOR_ALL: Final = 10.0
"""Seconds after a 429 that is no registry's error but counts every request, of anybody."""

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
    """Who was told 429, and about which repository; a token or a login makes another of them."""

    def __init__(self) -> None:
        self._key = secrets.token_bytes(32)
        self._lock = threading.Lock()
        self._told: OrderedDict[bytes, _Told] = OrderedDict()
        self._told_all: _Told | None = None

    def answer(self, authorization: str, name: RepositoryName | None) -> Reply | None:
        """Return the answer to a question that has just had it; None for any other."""
        if not self._told and not self._told_all:
            return None
        now = time.monotonic()
        for told in (self._told_all, self._told.get(self._identity(authorization, name))):
            if told is not None and told.until > now:
                return told.again(now)
        return None

    def noted(
        self,
        authorization: str,
        name: RepositoryName | None,
        reply: Reply,
        response: requests.Response,
    ) -> Reply:
        """Remember an answer if it is a 429, and return it.

        Docker Hub counts pulls of an identity, and says so as a registry; what counts every request
        of an address stands before it and answers in plain text.
        """
        if reply.status != HTTPStatus.TOO_MANY_REQUESTS:
            return reply
        content = b"".join(reply.body)
        kept = content or _DOCUMENT  # a HEAD has none
        told = float(reply.header("retry-after"))
        now = time.monotonic()
        if response.headers.get("Content-Type", "").startswith("text/"):
            longest = min(told, _LONGEST_FOR_ALL)
            self._told_all = _Told(now + longest, reply.headers, kept)
        else:
            with self._lock:
                entry = _Told(now + min(told, _LONGEST), reply.headers, kept)
                self._told[self._identity(authorization, name)] = entry
                while len(self._told) > _ENTRIES:
                    self._told.popitem(last=False)
        return replace(reply, body=[content] if content else ())

    def _identity(self, authorization: str, name: RepositoryName | None) -> bytes:
        text = f"{authorization}\0{name or ''}".encode(errors="surrogateescape")
        return hmac.digest(self._key, text, hashlib.sha256)
