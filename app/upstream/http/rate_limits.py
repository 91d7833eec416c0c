"""Repeats a 429 to the caller who received it, for some seconds and without asking the registry."""

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
from app.source import Reply, build_reply

logger = logging.getLogger(__name__)

_LONGEST: Final = 5.0
"""The longest time, in seconds, that a 429 is repeated. containerd retries a 429 five times at
once; but windows of pulls roll, and so the next request may succeed."""

_LONGEST_FOR_ALL: Final = 10.0
"""The same for a 429 from a limit in front of the registry, which counts every request of an IP
address."""

_EVERYTHING: Final = "*"
"""Stands for all requests: neither a repository name nor a token request can equal it."""

_CONTENT_LIMIT: Final = 4096
"""The most bytes of a body that is repeated as it is."""

_FIELDS_LIMIT: Final = 4096
"""The most bytes of a header section that is repeated, names and values."""

_ABOUT_LIMITS: Final = ("retry-after", "ratelimit", "x-ratelimit")
"""Prefixes of the header fields that say when to come back; they hold with any body."""

_DOCUMENT: Final = json.dumps(
    error_document(ErrorCode.TOOMANYREQUESTS, "the registry has just answered 429")
).encode()

_ENTRIES: Final = 10_000


@dataclass(frozen=True, slots=True)
class _RecentReply:
    """A 429 to repeat until `until` (monotonic seconds)."""

    until: float
    headers: Headers
    content: bytes

    def repeat(self, now: float) -> Reply:
        """Return the 429 again, with the remaining seconds in its Retry-After."""
        fields = headers.without(self.headers, "retry-after")
        fields.append(("Retry-After", str(int(self.until - now) + 1)))
        return build_reply(HTTPStatus.TOO_MANY_REQUESTS, fields, self.content)


class RecentTooManyRequests:
    """The recent 429s, by the caller's Authorization and the subject of the request.

    A caller who sends another token or other credentials counts as another caller.
    """

    def __init__(self) -> None:
        self._key = secrets.token_bytes(32)
        self._lock = threading.Lock()
        self._entries: OrderedDict[bytes, _RecentReply] = OrderedDict()

    def __len__(self) -> int:
        return len(self._entries)

    def lookup(self, authorization: str, about: str) -> Reply | None:
        """Return the 429 to repeat to this caller, or None if the registry should be asked."""
        if not self._entries:
            return None
        now = time.monotonic()
        for one in (about, _EVERYTHING):
            told = self._entries.get(self._hash_key(authorization, one))
            if told is not None and told.until > now:
                logger.info("Repeated a recent 429 without asking the registry.")
                return told.repeat(now)
        return None

    def record(self, authorization: str, about: str, reply: Reply, kind: str) -> Reply:
        """Record `reply` if it is a 429, and return it; `kind` is the Content-Type it came with.

        Docker Hub counts the pulls of an identity, and answers with a registry's error document.
        The limit in front of it counts every request of an IP address, and answers in plain text:
        such a 429 is repeated for every request of the caller.
        """
        if reply.status != HTTPStatus.TOO_MANY_REQUESTS:
            return reply
        content = b"".join(reply.body)
        fields, kept = _select_repeatable(reply.headers, content)
        told = float(reply.header("retry-after"))
        for_all = kind.startswith("text/plain")
        seconds = min(told, _LONGEST_FOR_ALL if for_all else _LONGEST)
        again = _RecentReply(time.monotonic() + seconds, fields, kept)
        self._store(self._hash_key(authorization, _EVERYTHING if for_all else about), again)
        return replace(reply, body=[content] if content else ())

    def _store(self, key: bytes, told: _RecentReply) -> None:
        now = time.monotonic()
        with self._lock:
            self._entries.pop(key, None)
            self._entries[key] = told
            # The entries are in order of arrival. Drop the expired ones at the front, and the
            # oldest if there are too many.
            while self._entries:
                oldest = next(iter(self._entries.values()))
                if oldest.until > now and len(self._entries) <= _ENTRIES:
                    break
                self._entries.popitem(last=False)

    def _hash_key(self, authorization: str, about: str) -> bytes:
        text = f"{authorization}\0{about}".encode(errors="surrogateescape")
        return hmac.digest(self._key, text, hashlib.sha256)


def _select_repeatable(fields: Headers, content: bytes) -> tuple[Headers, bytes]:
    """Return the header fields and the body to repeat.

    The response to a HEAD has no body, and a long body is not kept. Our own document then takes its
    place, with its own type, no encoding, and only the fields about limits.
    """
    if 0 < len(content) <= _CONTENT_LIMIT and _size(fields) <= _FIELDS_LIMIT:
        return fields, content
    about = [(name, value) for name, value in fields if name.lower().startswith(_ABOUT_LIMITS)]
    kept = about if _size(about) <= _FIELDS_LIMIT else []
    return [("Content-Type", "application/json"), *kept], _DOCUMENT


def _size(fields: Headers) -> int:
    return sum(len(name) + len(value) for name, value in fields)
