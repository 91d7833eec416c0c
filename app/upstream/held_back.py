"""A 429 is remembered for some seconds: who repeats the question at once has the same answer."""

import hashlib
import hmac
import secrets
import threading
import time
from collections import OrderedDict
from http import HTTPStatus
from typing import Final

import requests

from app.content import Reply
from app.oci.errors import TooManyRequests
from app.oci.reference import RepositoryName

_LONGEST: Final = 5.0
"""Seconds. Windows of pulls roll, so the next question may be a good one (field: containerd
repeats a 429 five times at once)."""

_LONGEST_FOR_ALL: Final = 10.0
"""Seconds after a 429 that is no registry's error but counts every request, of anybody."""

_ENTRIES: Final = 10_000


class HeldBack:
    """Who was told 429, and about which repository; a token or a login makes another of them."""

    def __init__(self) -> None:
        self._key = secrets.token_bytes(32)
        self._lock = threading.Lock()
        self._until: OrderedDict[bytes, float] = OrderedDict()
        self._all_until = 0.0

    def check(self, authorization: str, name: RepositoryName | None) -> None:
        """Raise TooManyRequests for a question whose answer is known."""
        if not self._until and not self._all_until:
            return
        now = time.monotonic()
        until = max(self._all_until, self._until.get(self._identity(authorization, name), 0.0))
        if until > now:
            message = "the registry has just answered 429"
            raise TooManyRequests(message, headers={"Retry-After": str(int(until - now) + 1)})

    def note(
        self,
        authorization: str,
        name: RepositoryName | None,
        response: requests.Response,
        reply: Reply,
    ) -> None:
        """Remember an answer if it is a 429; one that is not JSON is about everybody here.

        Docker Hub counts pulls of an identity, and says so as a registry; what counts every request
        of an address stands before it and answers in plain text.
        """
        if reply.status != HTTPStatus.TOO_MANY_REQUESTS:
            return
        told = float(reply.header("retry-after"))
        now = time.monotonic()
        if "json" not in response.headers.get("Content-Type", ""):
            self._all_until = now + min(told, _LONGEST_FOR_ALL)
            return
        with self._lock:
            self._until[self._identity(authorization, name)] = now + min(told, _LONGEST)
            while len(self._until) > _ENTRIES:
                self._until.popitem(last=False)

    def _identity(self, authorization: str, name: RepositoryName | None) -> bytes:
        text = f"{authorization}\0{name or ''}".encode(errors="surrogateescape")
        return hmac.digest(self._key, text, hashlib.sha256)
